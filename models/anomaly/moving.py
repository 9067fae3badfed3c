"""Single series by a window that moves along: nothing is fitted, so that a series may drift for weeks.

What fires on the first day, with an hour of history, and on series that no model was trained on: a value far from the
rows before it, a level that shifts, a sum of small shifts, a change from one row to the next.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np
from scipy.signal import lfilter
from scipy.special import log_ndtr

from models.anomaly.series import Floats

WINDOW_ROWS: Final = 6_400
# Rows in which only a score above all before it is a new incident.
ONSET_ROWS: Final = 30
# Rows before anything is said.
ROWS_MIN: Final = 30
# Spread at least this share of the largest value so far: a constant series has no deviations of its own.
_SPREAD_SHARE: Final = 1e-6
_CUSUM_MAX: Final = 50.0


def surprisal(deviation: Floats) -> Floats:
    """-ln of the two-sided probability of a deviation this large under the normal distribution, without underflow."""
    return np.asarray(np.maximum(-(log_ndtr(-np.abs(deviation)) + np.log(2.0)), 0.0))


def deviation(values: Floats, *, rows: int = WINDOW_ROWS) -> Floats:
    """(n,) of each value from the mean of the rows before it, in their standard deviation; NaN at the start.

    Args:
        values: (n,), NaN = missing; those are neither judged nor counted.
    """
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    # Sums of squares lose digits far from zero.
    first = float(filled[known][0]) if known.any() else 0.0
    filled = np.where(known, filled - first, 0.0)
    sums, squares, counts = (np.concatenate(([0.0], np.cumsum(one))) for one in (filled, filled**2, known))
    stop = np.arange(values.size)
    start = np.maximum(stop - rows, 0)
    count = np.maximum(counts[stop] - counts[start], 1.0)
    mean = (sums[stop] - sums[start]) / count
    variance = (squares[stop] - squares[start]) / count - mean**2
    largest = np.maximum.accumulate(np.concatenate(([0.0], np.abs(filled))))[stop]
    spread = np.sqrt(np.maximum(variance, 0.0))
    spread = np.maximum(spread, _SPREAD_SHARE * np.maximum(largest, abs(first)) + 1e-12)
    enough = known & (counts[stop] - counts[start] >= ROWS_MIN)
    return np.where(enough, (filled - mean) / spread, np.nan)


def level_shift(values: Floats, *, span: int = 5, rows: int = WINDOW_ROWS) -> Floats:
    """(n,) deviation of the exponential mean over about `span` rows: EWMA."""
    off = np.nan_to_num(deviation(values, rows=rows))
    rate = 2.0 / (span + 1.0)
    mean = lfilter([rate], [1.0, -(1.0 - rate)], off)
    # The variance of such a mean of independent values.
    return np.asarray(mean / np.sqrt(rate / (2.0 - rate)))


def change_sum(values: Floats, *, slack: float = 0.5, rows: int = WINDOW_ROWS) -> Floats:
    """(n,) >= 0, the larger of the two one-sided sums of deviations beyond the slack: CUSUM."""
    off = np.nan_to_num(deviation(values, rows=rows))
    found = np.empty(off.size)
    up = down = 0.0
    for row, one in enumerate(off.tolist()):
        up = min(max(0.0, up + one - slack), _CUSUM_MAX)
        down = min(max(0.0, down - one - slack), _CUSUM_MAX)
        found[row] = max(up, down)
    return found


def jump(values: Floats, *, rows: int = WINDOW_ROWS) -> Floats:
    """(n,) deviation of the change from the row before: spikes and drops."""
    return deviation(np.diff(values, prepend=values[:1]), rows=rows)


def onsets(score: Floats, *, rows: int = ONSET_ROWS) -> Floats:
    """The score where it is above those of all `rows` before, else 0: an incident that goes on is told once."""
    found = np.zeros(score.size)
    held: deque[int] = deque()
    known = np.nan_to_num(score)
    for row, one in enumerate(known.tolist()):
        while held and held[0] < row - rows:
            held.popleft()
        if not held or one > known[held[0]]:
            found[row] = one
        while held and known[held[-1]] <= one:
            held.pop()
        held.append(row)
    return np.where(np.isnan(score), np.nan, found)


def score(values: Floats) -> Floats:
    """(n,) trailing surprisal of each value beside the rows before it, told at onsets; NaN where not known."""
    return onsets(surprisal(deviation(values)))
