"""How far each stretch of time is from the nearest usual ones, out of a bank of them.

Source: the idea of distance to normal patches in Park et al., "PaAno", ICLR 2026; here in the space of leading
components, without a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from models.anomaly.calibrated import Detector, PatchModel, calibrate_model, for_fitting, model_arrays, restore
from models.anomaly.patches import draw, patches_of
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
class PatchBank(PatchModel):
    """Usual patches in the space of their leading components.

    Attributes:
        space: of patches laid out as (f * LENGTH,).
        bank: (m, k) places of usual patches.
    """

    space: Subspace
    bank: Matrix

    @property
    def length(self) -> int:
        """See `PatchModel.length`."""
        return LENGTH

    def judge(self, patches: Matrix, *, trailing: bool) -> Matrix:
        """See `PatchModel.judge`: distance to the nearest patches, told by feature."""
        # |a - b|^2 without the part of a, which does not change who is near; the part of b comes with the product.
        places = np.concatenate((-2.0 * self.bank.T, (self.bank**2).sum(axis=1)[None]))
        features, rows = patches.shape[0], _TRAILING_ROWS if trailing else LENGTH
        judged = slice(LENGTH - rows, LENGTH)
        shown = self.space.basis.reshape(features, LENGTH, -1)[:, judged].reshape(features * rows, -1)
        mean = self.space.mean.reshape(features, LENGTH, 1)[:, judged]
        # The same megabytes for all: new ones would come from the kernel, which clears them first.
        distance = np.empty((_CHUNK, self.bank.shape[0]), np.float32)
        by_patch = np.empty((features, patches.shape[2]), np.float32)
        for at in range(0, patches.shape[2], _CHUNK):
            given = patches[:, :, at : at + _CHUNK]
            shared = shown @ self._common(given, places, distance[: given.shape[2]])
            # What the neighbours do not share with the patch, within the space and outside it.
            residual = given[:, judged] - mean
            residual -= shared.reshape(residual.shape)
            by_patch[:, at : at + _CHUNK] = np.sqrt(np.einsum("frp,frp->fp", residual, residual) / rows)
        return by_patch

    def _common(self, patches: Matrix, places: Matrix, distance: Matrix) -> Matrix:
        """(k, p) mean places of the nearest of the bank.

        Args:
            places: (k + 1, m) of the bank, to be multiplied.
            distance: (p, m) to be written over.
        """
        basis, every = self.space.basis, np.arange(patches.shape[2])
        asked = np.ones((places.shape[0], every.size), np.float32)
        np.matmul(basis.T, patches.reshape(-1, every.size), out=asked[:-1])
        asked[:-1] -= (self.space.mean @ basis)[:, None]
        np.matmul(asked.T, places, out=distance)
        nearest = min(NEAREST, self.bank.shape[0])
        common = np.zeros((every.size, basis.shape[1]), np.float32)
        # The nearest a few times over takes a thirtieth of the time of sorting them apart.
        for _ in range(nearest):
            near = distance.argmin(axis=1)
            distance[every, near] = np.inf
            common += self.bank[near]
        return np.asarray(common.T / np.float32(nearest))

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
    views = [view for one in for_fitting(scaling, series_list) if (view := patches_of(one.values, LENGTH)).size]
    if not views:
        raise NotEnoughData(f"no series has {LENGTH} rows in a row to fit on")
    count = min(BANK_MAX, sum(view.shape[2] for view in views))
    chosen = draw(views, LENGTH, np.random.default_rng(seed), count).reshape(count, -1)
    space = Subspace.fit(chosen, min(COMPONENTS_MAX, chosen.shape[1] - 1))
    bank = np.asarray((chosen - space.mean) @ space.basis, np.float32)
    return calibrate_model(KIND, scaling, PatchBank(space, bank), series_list)


def load(arrays: Arrays, configuration: dict[str, Any]) -> Detector:
    """See `detector.load`."""
    stored = model_arrays(arrays)
    model = PatchBank(Subspace(stored["mean"], stored["basis"]), stored["bank"])
    return restore(KIND, model, arrays, configuration)
