"""Whether the rows of today still look like those that a model was trained on: the population stability index.

Read on residuals, from which level and season of each entity were taken off, and here the level of the day of the week
too, of which less than two weeks of training time know no season: a weekend is no drift. Nor is it one when levels go
on to move as slowly as they did from week to week of training time, as they do with the seasons of the year.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from models.anomaly.calibrated import fitting_rows
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
_DAY_S: Final = 86_400
_DAY_US: Final = _DAY_S * 1_000_000
_WEEK: Final = 7
# Of the moves of a level from any day of training time to the one a week later. Of four weeks a third of these moves
# would hold a single step: it is no way of moving on, and would hide the next one.
_MOVE_QUANTILE: Final = 0.65
# Shares of the move that rows may have made, either way; the one with the lowest index counts.
_MOVES: Final = (-1.0, -0.5, 0.0, 0.5, 1.0)


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
        level: (7, f) median by day of the week, UTC, of the last week; NaN of a day that it did not have.
        move: (f,) how far a level moves in a week.
        middle_us: of the rows that made the levels.
    """

    edges: Floats
    share: Floats
    limit: Floats
    level: Floats
    move: Floats
    middle_us: int

    @staticmethod
    def fit(residuals: Sequence[Series]) -> Reference:
        """Levels and moves of all residuals together; bins and limits of the rows that seasons were not fitted on.

        Those that they were fitted on look narrower than the next day will.
        """
        last_us = _ends(residuals)[1]
        week = [one.part(_row_at(one, last_us - _WEEK * _DAY_US), one.rows) for one in residuals]
        level = _levels(week)
        unseen = [_without(one.part(fitting_rows(one), one.rows), level) for one in residuals]
        rows = np.concatenate([one.values for one in unseen]).astype(np.float64)
        quantiles = np.linspace(0, 1, BINS + 1)[1:-1]
        known = (~np.isnan(rows)).any(axis=0)
        edges = np.zeros((rows.shape[1], BINS - 1))
        edges[known] = np.nanquantile(rows[:, known], quantiles, axis=0).T
        limit = np.full(rows.shape[1], INDEX_MAX)
        whole = Reference(edges, _shares(rows, edges), limit, level, _moves(residuals), _middle_us(week))
        worst = np.full(rows.shape[1], INDEX_MAX / _MARGIN)
        for start_us, stop_us in _days(unseen):
            day = np.concatenate([_between(one, start_us, stop_us) for one in unseen])
            if day.shape[0] >= ROWS_MIN:
                worst = np.maximum(worst, whole._index(day, (start_us + stop_us) // 2))
        return replace(whole, limit=np.maximum(INDEX_MAX, _MARGIN * worst))

    def compare(self, residuals: Sequence[Series]) -> Drift:
        """Rows of now against training time.

        Raises:
            NotEnoughData: fewer than ROWS_MIN rows.
        """
        count = sum(one.rows for one in residuals)
        if count < ROWS_MIN:
            raise NotEnoughData(f"{count} rows to compare with training time; {ROWS_MIN} are needed")
        rows = np.concatenate([_without(one, self.level).values for one in residuals])
        return Drift(residuals[0].features, self._index(rows, _middle_us(residuals)), self.limit)

    def _index(self, rows: Matrix, at_us: int) -> Floats:
        """(f,) population stability index of rows without the level of their day, the lowest of all moves allowed."""
        move = self.move * max(1.0, abs(at_us - self.middle_us) / (_WEEK * _DAY_US))
        indexes = []
        for part in _MOVES if move.any() else (0.0,):
            now = _shares(rows + part * move, self.edges)
            indexes.append(((now - self.share) * np.log(now / self.share)).sum(axis=1))
        return np.asarray(np.min(indexes, axis=0))

    def arrays(self) -> Arrays:
        """For `of`."""
        return {
            "drift.edges": self.edges,
            "drift.share": self.share,
            "drift.limit": self.limit,
            "drift.level": self.level,
            "drift.move": self.move,
            "drift.middle_us": np.array([self.middle_us], np.int64),
        }

    @staticmethod
    def of(arrays: Arrays) -> Reference:
        """Inverse of `arrays`; models stored before December 1, 2026 know no levels by day, and no moves."""
        edges, share, limit = (arrays[f"drift.{name}"] for name in ("edges", "share", "limit"))
        level = arrays.get("drift.level", np.zeros((_WEEK, limit.size)))
        move = arrays.get("drift.move", np.zeros(limit.size))
        return Reference(edges, share, limit, level, move, int(arrays.get("drift.middle_us", np.zeros(1))[0]))


def _weekdays(series: Series) -> npt.NDArray[np.int64]:
    seconds = series.start_us // 1_000_000 + np.arange(series.rows, dtype=np.int64) * series.step_s
    return seconds // _DAY_S % _WEEK


def _levels(residuals: Sequence[Series]) -> Floats:
    """(7, f) medians by day of the week; NaN of days of which less than half was there."""
    rows = np.concatenate([one.values for one in residuals])
    weekday = np.concatenate([_weekdays(one) for one in residuals])
    level = np.full((_WEEK, rows.shape[1]), np.nan)
    for day in range(_WEEK):
        held = rows[weekday == day]
        if held.shape[0] * residuals[0].step_s >= _DAY_S / 2:
            level[day] = _medians(held)
    return level


def _without(series: Series, level: Floats) -> Series:
    """Without the level of the day of the week; of a day that is not known without its own, which can tell nothing."""
    weekday, values = _weekdays(series), series.values.copy()
    for day in range(_WEEK):
        here = weekday == day
        if here.any():
            own = level[day] if not np.isnan(level[day]).all() else _medians(values[here])
            values[here] -= np.nan_to_num(own).astype(np.float32)
    return series.with_values(values)


def _moves(residuals: Sequence[Series]) -> Floats:
    """(f,) how far the level of a day is from that of the day a week before; 0 where no two are known."""
    levels = np.array(
        [_medians(np.concatenate([_between(one, *day) for one in residuals])) for day in _days(residuals)]
    ).reshape(-1, residuals[0].values.shape[1])
    apart = np.abs(levels[_WEEK:] - levels[:-_WEEK])
    known = (~np.isnan(apart)).any(axis=0)
    move = np.zeros(levels.shape[1])
    if known.any():
        move[known] = np.nanquantile(apart[:, known], _MOVE_QUANTILE, axis=0)
    return move


def _medians(rows: Matrix) -> Floats:
    """(f,) NaN of a feature without any value."""
    known = (~np.isnan(rows)).any(axis=0)
    found = np.full(rows.shape[1], np.nan)
    if known.any():
        found[known] = np.nanmedian(rows[:, known].astype(np.float64), axis=0)
    return found


def _shares(rows: Floats | Matrix, edges: Floats) -> Floats:
    share = np.zeros((edges.shape[0], BINS + 1))
    for at in range(edges.shape[0]):
        column = rows[:, at]
        missing = np.isnan(column)
        place = np.searchsorted(edges[at], column[~missing], side="right")
        share[at] = [*np.bincount(place, minlength=BINS), missing.sum()]
    share /= max(rows.shape[0], 1)
    return np.asarray(np.maximum(share, _SHARE_MIN))


def _middle_us(several: Sequence[Series]) -> int:
    return sum(_ends(several)) // 2


def _ends(several: Sequence[Series]) -> tuple[int, int]:
    first = min(one.start_us for one in several)
    return first, max(one.start_us + one.rows * one.step_s * 1_000_000 for one in several)


def _days(residuals: Sequence[Series]) -> list[tuple[int, int]]:
    first, last = _ends(residuals)
    return [(start, start + _DAY_US) for start in range(first, last - _DAY_US + 1, _DAY_US)]


def _between(series: Series, start_us: int, stop_us: int) -> Matrix:
    return series.values[_row_at(series, start_us) : _row_at(series, stop_us)]


def _row_at(series: Series, at_us: int) -> int:
    return max(0, (at_us - series.start_us) // (series.step_s * 1_000_000))
