"""Values beside those usual at their time of day or week: the detector of the first day, and what others must beat."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.anomaly.calibrated import Detector, calibrate_model, for_fitting, model_arrays, restore
from models.anomaly.scaling import Scaling
from models.anomaly.scores import Arrays, Progress
from models.anomaly.series import Matrix, Series

KIND: Final = "seasonal"
BIN_S: Final = 1_800
DAY_S: Final = 86_400
# A time of day is known from three days on, a time of the week from two weeks on.
DAYS_FOR_DAY: Final = 3
DAYS_FOR_WEEK: Final = 14


@dataclass(frozen=True, slots=True, eq=False)
class Seasonal:
    """Median of each feature by time of the season.

    Attributes:
        profile: (bins, f) in standard units; one bin = no season known yet.
    """

    profile: Matrix

    def deviation(self, series: Series, *, trailing: bool) -> Matrix:
        """See `Model.deviation`; reads its own row only."""
        seconds = series.start_us // 1_000_000 + np.arange(series.rows, dtype=np.int64) * series.step_s
        return self.judge_rows(series.values, seconds)

    def judge_rows(self, rows: Matrix, seconds: npt.NDArray[np.int64]) -> Matrix:
        """See `RowModel.judge_rows`."""
        expected = self.profile[seconds // BIN_S % self.profile.shape[0]]
        return np.asarray(np.abs(rows - expected), np.float32)

    def arrays(self) -> Arrays:
        """See `Model.arrays`."""
        return {"profile": self.profile}

    def configuration(self) -> dict[str, Any]:
        """See `Model.configuration`."""
        return {}


def bins_of(series: Series, bins: int) -> npt.NDArray[np.int64]:
    """(n,) the bin of each row, in a season of that many bins of BIN_S from the epoch on."""
    seconds = series.start_us // 1_000_000 + np.arange(series.rows, dtype=np.int64) * series.step_s
    return seconds // BIN_S % bins


def profile_of(series_list: Sequence[Series]) -> Matrix:
    """(bins, f) medians by time of week, of day, or of all rows, whichever the length of the series allows."""
    days = sum(one.rows * one.step_s for one in series_list) / len(series_list) / DAY_S
    bins = 7 * DAY_S // BIN_S if days >= DAYS_FOR_WEEK else DAY_S // BIN_S if days >= DAYS_FOR_DAY else 1
    values = np.concatenate([one.values for one in series_list])
    place = np.concatenate([bins_of(one, bins) for one in series_list])
    profile = np.zeros((bins, values.shape[1]), np.float32)
    with warnings.catch_warnings():
        # A bin without any value of a feature is filled below.
        warnings.simplefilter("ignore", RuntimeWarning)
        for one in range(bins):
            if (held := values[place == one]).shape[0]:
                profile[one] = np.nanmedian(held, axis=0)
    # 0 is the median of all rows in standard units.
    return np.nan_to_num(profile)


def fit(series_list: Sequence[Series], *, seed: int, progress: Progress | None = None) -> Detector:
    """See `detector.fit`; nothing here is drawn at random."""
    scaling = Scaling.fit(series_list)
    return calibrate_model(KIND, scaling, Seasonal(profile_of(for_fitting(scaling, series_list))), series_list)


def load(arrays: Arrays, configuration: dict[str, Any]) -> Detector:
    """See `detector.load`."""
    return restore(KIND, Seasonal(model_arrays(arrays)["profile"]), arrays, configuration)
