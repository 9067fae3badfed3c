"""How far each stretch of time is from the nearest usual ones, out of a bank of them.

Source: the idea of distance to normal patches in Park et al., "PaAno", ICLR 2026; here in the space of leading
components, without a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from models.anomaly.calibrated import Detector, calibrate_model, for_fitting, model_arrays, restore
from models.anomaly.patches import align, draw, patches_of
from models.anomaly.pca import Subspace
from models.anomaly.refusals import NotEnoughData
from models.anomaly.scaling import Scaling
from models.anomaly.scores import Arrays, Progress
from models.anomaly.series import Matrix, Series

KIND: Final = "patch_bank"
LENGTH: Final = 24
COMPONENTS_MAX: Final = 24
BANK_MAX: Final = 3_000
NEAREST: Final = 3
# Rows of a patch whose distance is told: all, or the last ones when nothing later may be read, so that an incident
# shows when it begins and not when it fills the patch.
_TRAILING_ROWS: Final = 5
_CHUNK: Final = 256


@dataclass(frozen=True, slots=True, eq=False)
class PatchBank:
    """Usual patches in the space of their leading components.

    Attributes:
        space: of patches laid out as (f * LENGTH,).
        bank: (m, k) places of usual patches.
    """

    space: Subspace
    bank: Matrix

    def deviation(self, series: Series, *, trailing: bool) -> Matrix:
        """See `Model.deviation`: distance to the nearest patches, told by feature."""
        by_patch = self.judge(patches_of(series.values, LENGTH), trailing=trailing)
        return align(by_patch, series, LENGTH, trailing=trailing)

    @property
    def length(self) -> int:
        """See `PatchModel.length`."""
        return LENGTH

    def judge(self, patches: Matrix, *, trailing: bool) -> Matrix:
        """See `PatchModel.judge`."""
        # |a - b|^2 without the part of a, which does not change who is near; the part of b comes with the product.
        places = np.concatenate((-2.0 * self.bank.T, (self.bank**2).sum(axis=1)[None]))
        shown = self.space.basis.reshape(-1, LENGTH, self.space.basis.shape[1])[:, -_TRAILING_ROWS if trailing else 0 :]
        by_patch = np.zeros(patches.shape[:2], np.float32)
        for at in range(0, patches.shape[0], _CHUNK):
            by_patch[at : at + _CHUNK] = self._distance(patches[at : at + _CHUNK], places, shown)
        return by_patch

    def _distance(self, patches: Matrix, places: Matrix, shown: Matrix) -> Matrix:
        """
        Args:
            places: (k + 1, m) of the bank, to be multiplied.
            shown: (f, rows, k) the part of the basis that tells the judged rows of a patch.
        """
        count, features, _ = patches.shape
        flat = patches.reshape(count, -1) - self.space.mean
        place = np.asarray(flat @ self.space.basis, np.float32)
        asked = np.concatenate((place, np.ones((count, 1))), axis=1, dtype=np.float32)
        distance = asked @ places
        rows = np.arange(count)
        common = np.zeros_like(place)
        nearest = min(NEAREST, self.bank.shape[0])
        # The nearest a few times over takes a thirtieth of the time of sorting them apart.
        for _ in range(nearest):
            near = distance.argmin(axis=1)
            distance[rows, near] = np.inf
            common += self.bank[near]
        # What the neighbours do not share with the patch, within the space and outside it.
        judged = flat.reshape(count, features, LENGTH)[:, :, -shown.shape[1] :]
        shared = common / nearest @ shown.reshape(-1, shown.shape[2]).T
        residual = judged - shared.reshape(judged.shape)
        return np.asarray(np.sqrt(np.einsum("nfr,nfr->nf", residual, residual) / shown.shape[1]), np.float32)

    def arrays(self) -> Arrays:
        """See `Model.arrays`."""
        return self.space.arrays() | {"bank": self.bank}

    def configuration(self) -> dict[str, Any]:
        """See `Model.configuration`."""
        return {"length": LENGTH}


def fit(series_list: Sequence[Series], *, seed: int, progress: Progress | None = None) -> Detector:
    """See `detector.fit`; the patches of the bank are drawn at random.

    Raises:
        NotEnoughData: no series has as many rows as a patch.
    """
    scaling = Scaling.fit(series_list)
    views = [view for one in for_fitting(scaling, series_list) if len(view := patches_of(one.values, LENGTH))]
    if not views:
        raise NotEnoughData(f"no series has {LENGTH} rows in a row to fit on")
    count = min(BANK_MAX, sum(view.shape[0] for view in views))
    chosen = draw(views, LENGTH, np.random.default_rng(seed), count).reshape(count, -1)
    space = Subspace.fit(chosen, min(COMPONENTS_MAX, chosen.shape[1] - 1))
    bank = np.asarray((chosen - space.mean) @ space.basis, np.float32)
    return calibrate_model(KIND, scaling, PatchBank(space, bank), series_list)


def load(arrays: Arrays, configuration: dict[str, Any]) -> Detector:
    """See `detector.load`."""
    stored = model_arrays(arrays)
    model = PatchBank(Subspace(stored["mean"], stored["basis"]), stored["bank"])
    return restore(KIND, model, arrays, configuration)
