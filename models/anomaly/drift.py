"""Whether the rows of today still look like those that a model was trained on: the population stability index.

Read on residuals, from which level and season of each entity were taken off, so that a weekend is no drift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from models.anomaly.refusals import NotEnoughData
from models.anomaly.scores import Arrays
from models.anomaly.series import Floats, Matrix, Series

BINS: Final = 10
ROWS_MIN: Final = 240
# The custom of credit scoring: over 0.25 the population has changed.
INDEX_MAX: Final = 0.25
# A day of training time is compared with all of it; today may be this much further off than the worst of those days.
_MARGIN: Final = 2.0
# A share of 0 would make the index infinite.
_SHARE_MIN: Final = 1e-3
_CHUNK_S: Final = 86_400


@dataclass(frozen=True, slots=True, eq=False)
class Drift:
    """Today beside training time.

    Attributes:
        index: (f,) population stability index of each feature.
        limit: (f,) above which it has drifted.
    """

    features: tuple[str, ...]
    index: Floats
    limit: Floats

    def lasting(self, before: Drift) -> Drift:
        """Of each feature the lower index of two days: one odd day is no drift yet."""
        return Drift(self.features, np.minimum(self.index, before.index), self.limit)

    @property
    def drifted(self) -> dict[str, float]:
        """Index of the features over their limit, the furthest over first."""
        over = np.flatnonzero(self.index > self.limit)
        order = over[np.argsort(-self.index[over] / self.limit[over], kind="stable")]
        return {self.features[at]: float(self.index[at]) for at in order.tolist()}


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """Residuals of training time by feature.

    Attributes:
        edges: (f, BINS - 1) rising inner edges of bins that held equally many values.
        share: (f, BINS + 1) of the values in each bin, and last of the missing ones.
        limit: (f,) index over which a day is unlike any of training time.
    """

    edges: Floats
    share: Floats
    limit: Floats

    @staticmethod
    def fit(residuals: Sequence[Series]) -> Reference:
        """Of all residuals together; the limit from how far single days of them are off.

        They should be of rows that the seasons were not fitted on, which look narrower than the next day will.
        """
        rows = np.concatenate([one.values for one in residuals]).astype(np.float64)
        quantiles = np.linspace(0, 1, BINS + 1)[1:-1]
        known = (~np.isnan(rows)).any(axis=0)
        edges = np.zeros((rows.shape[1], BINS - 1))
        edges[known] = np.nanquantile(rows[:, known], quantiles, axis=0).T
        whole = Reference(edges, _shares(rows, edges), np.full(rows.shape[1], INDEX_MAX))
        worst = np.full(rows.shape[1], INDEX_MAX / _MARGIN)
        for start_us, stop_us in _days(residuals):
            parts = [_between(one, start_us, stop_us) for one in residuals]
            day = np.concatenate(parts)
            if day.shape[0] >= ROWS_MIN:
                worst = np.maximum(worst, whole.index(day))
        return Reference(edges, whole.share, np.maximum(INDEX_MAX, _MARGIN * worst))

    def index(self, rows: Floats | Matrix) -> Floats:
        """(f,) population stability index of (n, f) residuals."""
        now = _shares(rows.astype(np.float64), self.edges)
        return np.asarray(((now - self.share) * np.log(now / self.share)).sum(axis=1))

    def compare(self, residuals: Sequence[Series]) -> Drift:
        """Rows of now against training time.

        Raises:
            NotEnoughData: fewer than ROWS_MIN rows.
        """
        rows = np.concatenate([one.values for one in residuals]) if residuals else np.zeros((0, 0))
        if rows.shape[0] < ROWS_MIN:
            raise NotEnoughData(f"{rows.shape[0]} rows to compare with training time; {ROWS_MIN} are needed")
        return Drift(residuals[0].features, self.index(rows), self.limit)

    def arrays(self) -> Arrays:
        """For `of`."""
        return {"drift.edges": self.edges, "drift.share": self.share, "drift.limit": self.limit}

    @staticmethod
    def of(arrays: Arrays) -> Reference:
        """Inverse of `arrays`."""
        return Reference(arrays["drift.edges"], arrays["drift.share"], arrays["drift.limit"])


def _shares(rows: Floats, edges: Floats) -> Floats:
    share = np.zeros((edges.shape[0], BINS + 1))
    for at in range(edges.shape[0]):
        column = rows[:, at]
        missing = np.isnan(column)
        place = np.searchsorted(edges[at], column[~missing], side="right")
        share[at] = [*np.bincount(place, minlength=BINS), missing.sum()]
    share /= max(rows.shape[0], 1)
    return np.asarray(np.maximum(share, _SHARE_MIN))


def _days(residuals: Sequence[Series]) -> list[tuple[int, int]]:
    first = min(one.start_us for one in residuals)
    last = max(one.start_us + one.rows * one.step_s * 1_000_000 for one in residuals)
    length = _CHUNK_S * 1_000_000
    return [(start, start + length) for start in range(first, last - length + 1, length)]


def _between(series: Series, start_us: int, stop_us: int) -> Matrix:
    step_us = series.step_s * 1_000_000
    first, last = ((at - series.start_us) // step_us for at in (start_us, stop_us))
    return series.values[max(0, first) : max(0, last)]
