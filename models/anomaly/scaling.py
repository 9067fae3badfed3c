"""Robust standard units of each feature, learned from training time alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from models.anomaly.refusals import NotEnoughData, SeriesInvalid
from models.anomaly.scores import Arrays
from models.anomaly.series import Matrix, Series, check_alike
from models.anomaly.statistical import centre_and_spread

# Beyond this many spreads off the centre, a value says no more than at it.
CLIP: Final = 50.0
ROWS_MIN: Final = 120


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """Centre and spread of each feature.

    Attributes:
        centre: (f,) median; NaN for a feature that training time never had, which then stays unknown.
        spread: (f,) > 0.
        features: names, in the order of the columns.
        step_s: seconds from row to row.
    """

    centre: Matrix
    spread: Matrix
    features: tuple[str, ...]
    step_s: int

    @staticmethod
    def fit(series_list: Sequence[Series]) -> Scaling:
        """Over the rows of all series together.

        Raises:
            NotEnoughData: fewer than ROWS_MIN rows have half of their features.
            SeriesInvalid: features or steps differ.
        """
        check_alike(series_list)
        values = np.concatenate([one.values for one in series_list])
        known = int((np.isnan(values).mean(axis=1) <= 0.5).sum())
        if known < ROWS_MIN:
            raise NotEnoughData(
                f"{known} of {values.shape[0]} rows have half of their features; {ROWS_MIN} are needed",
                hint="Wait for more data, widen the range, or leave out features that are mostly missing.",
            )
        centre, spread = centre_and_spread(values)
        return Scaling(centre, spread, series_list[0].features, series_list[0].step_s)

    def apply(self, series: Series) -> Series:
        """Values in standard units within +-CLIP; NaN stays.

        Raises:
            SeriesInvalid: other features, or another step.
        """
        if series.features != self.features:
            raise SeriesInvalid(
                f"fitted on the {len(self.features)} features {', '.join(self.features[:5])} ..., given others",
                hint="Send the features of the detector, in its order.",
            )
        if series.step_s != self.step_s:
            raise SeriesInvalid(f"fitted at steps of {self.step_s} s, given {series.step_s} s")
        return series.with_values(self.standard(series.values))

    def standard(self, rows: Matrix) -> Matrix:
        """(r, k * f) rows, k after one another in each, in standard units within +-CLIP; NaN stays."""
        times = rows.shape[1] // max(len(self.features), 1)
        with np.errstate(over="ignore"):
            values = rows - np.tile(self.centre, times)
            values /= np.tile(self.spread, times)
        return np.clip(values, -CLIP, CLIP, out=values)

    def arrays(self) -> Arrays:
        """For `Scaling` of a loaded detector."""
        return {"centre": self.centre, "spread": self.spread}
