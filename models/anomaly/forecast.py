"""A forecast of each feature from its own last rows, by one weight a row: what a network's forecast has to beat.

Where levels last, a new one is told where it begins and then is the past of the next rows: what drifts raises no
lasting score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from models.anomaly.calibrated import Detector, PatchModel, calibrate_model, for_fitting, model_arrays, restore
from models.anomaly.patches import patches_of
from models.anomaly.refusals import ModelUnreadable, NotEnoughData
from models.anomaly.scaling import Scaling
from models.anomaly.scores import Arrays, Progress
from models.anomaly.series import Matrix, Series

KIND: Final = "forecast"
PAST: Final = 15
# Of the ridge, beside the mean square of a row in standard units: weights stay small where the past tells little.
_PENALTY: Final = 0.01
_CHUNK: Final = 4_096


@dataclass(frozen=True, slots=True, eq=False)
class OwnPast(PatchModel):
    """Weights of the past.

    Attributes:
        weights: (f, PAST) of the rows before, the oldest first.
        constant: (f,) added to their sum.
    """

    weights: Matrix
    constant: Matrix
    forecasts: ClassVar = True

    @staticmethod
    def fit(views: Sequence[Matrix]) -> OwnPast:
        """Ridge regression of the last row of (f, PAST + 1, p) patches, of each feature by itself."""
        features = views[0].shape[0]
        count = sum(view.shape[2] for view in views)
        products, right = np.zeros((features, PAST + 1, PAST + 1)), np.zeros((features, PAST + 1, 1))
        for view in views:
            for at in range(0, view.shape[2], _CHUNK):
                given = view[:, :, at : at + _CHUNK].astype(np.float64).transpose(0, 2, 1)
                past = np.concatenate((given[:, :, :-1], np.ones((*given.shape[:2], 1))), axis=2)
                products += past.transpose(0, 2, 1) @ past
                right += past.transpose(0, 2, 1) @ given[:, :, -1:]
        found = np.linalg.solve(products + _PENALTY * count * np.eye(PAST + 1), right)[:, :, 0]
        return OwnPast(found[:, :-1].astype(np.float32), found[:, -1].astype(np.float32))

    @property
    def length(self) -> int:
        """See `PatchModel.length`."""
        return PAST + 1

    def judge(self, patches: Matrix, *, trailing: bool) -> Matrix:
        """See `PatchModel.judge`: absolute error of the forecast of the row itself."""
        expected = self.weights[:, None] @ np.ascontiguousarray(patches[:, :-1]) + self.constant[:, None, None]
        return np.asarray(np.abs(patches[:, -1] - expected[:, 0]), np.float32)

    def arrays(self) -> Arrays:
        """See `Model.arrays`."""
        return {"weights": self.weights, "constant": self.constant}

    def configuration(self) -> dict[str, Any]:
        """See `Model.configuration`."""
        return {"past": PAST}


def fit(series_list: Sequence[Series], *, seed: int, progress: Progress | None = None) -> Detector:
    """See `detector.fit`; nothing here is drawn at random.

    Raises:
        NotEnoughData: no series has PAST rows and one more.
    """
    scaling = Scaling.fit(series_list)
    views = [view for one in for_fitting(scaling, series_list) if (view := patches_of(one.values, PAST + 1)).size]
    if not views:
        raise NotEnoughData(f"no series has {PAST + 1} rows in a row to fit on")
    return calibrate_model(KIND, scaling, OwnPast.fit(views), series_list)


def load(arrays: Arrays, configuration: dict[str, Any]) -> Detector:
    """See `detector.load`."""
    stored = model_arrays(arrays)
    model = OwnPast(stored["weights"], stored["constant"])
    features = len(configuration["features"])
    if model.weights.shape != (features, PAST) or model.constant.shape != (features,):
        raise ModelUnreadable(f"weights have shape {model.weights.shape} for {features} features")
    return restore(KIND, model, arrays, configuration)
