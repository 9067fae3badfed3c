"""What the common movements of all features do not explain: the bar that every network has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.anomaly.calibrated import Detector, calibrate_model, for_fitting, model_arrays, restore
from models.anomaly.scaling import Scaling
from models.anomaly.scores import Arrays, Progress
from models.anomaly.series import Matrix, Series

KIND: Final = "pca"
COMPONENTS_MAX: Final = 3


@dataclass(frozen=True, slots=True, eq=False)
class Subspace:
    """Mean and directions of the common movements.

    Attributes:
        mean: (f,) in standard units.
        basis: (f, k) orthonormal.
    """

    mean: Matrix
    basis: Matrix

    @staticmethod
    def fit(rows: Matrix, components: int) -> Subspace:
        """Leading directions of (n, f) rows without NaN."""
        mean = rows.mean(axis=0, dtype=np.float64)
        centred = rows - mean
        _, vectors = np.linalg.eigh(centred.T @ centred / rows.shape[0])
        return Subspace(mean.astype(np.float32), np.ascontiguousarray(vectors[:, ::-1][:, :components], np.float32))

    def deviation(self, series: Series, *, trailing: bool) -> Matrix:
        """See `Model.deviation`; reads its own row only. A missing value counts as the mean."""
        return self.judge_rows(series.values, np.zeros(series.rows, np.int64))

    def judge_rows(self, rows: Matrix, seconds: npt.NDArray[np.int64]) -> Matrix:
        """See `RowModel.judge_rows`."""
        missing = np.isnan(rows)
        some = bool(missing.any())
        centred = rows - self.mean
        if some:
            centred[missing] = 0.0
        residual = np.asarray(centred @ self.basis @ self.basis.T, np.float32)
        np.abs(np.subtract(centred, residual, out=residual), out=residual)
        if some:
            residual[missing] = np.nan
        return residual

    def arrays(self) -> Arrays:
        """See `Model.arrays`."""
        return {"mean": self.mean, "basis": self.basis}

    def configuration(self) -> dict[str, Any]:
        """See `Model.configuration`."""
        return {}


def fit(series_list: Sequence[Series], *, seed: int, progress: Progress | None = None) -> Detector:
    """See `detector.fit`; nothing here is drawn at random."""
    scaling = Scaling.fit(series_list)
    rows = np.nan_to_num(np.concatenate([one.values for one in for_fitting(scaling, series_list)]))
    # Without one direction left over there would be nothing to deviate in.
    components = min(COMPONENTS_MAX, rows.shape[1] - 1)
    return calibrate_model(KIND, scaling, Subspace.fit(rows, components), series_list)


def load(arrays: Arrays, configuration: dict[str, Any]) -> Detector:
    """See `detector.load`."""
    stored = model_arrays(arrays)
    return restore(KIND, Subspace(stored["mean"], stored["basis"]), arrays, configuration)
