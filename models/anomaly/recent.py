"""Plain statistics of the two hours before: nothing is trained, so it speaks after the first hour of a tenant.

Minutes of a quiet service hold a handful of calls, so five of them are judged together; each feature is judged for
itself, since an incident often moves one or two of them, which a mean over all would drown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.lib.stride_tricks import sliding_window_view

from models.anomaly.features import FEATURES, STEP_S, entity_series
from models.anomaly.refusals import NotEnoughData
from models.anomaly.scores import Scores
from models.anomaly.series import Floats, Series
from models.anomaly.threshold import Threshold
from models.anomaly.window_answers import told_drivers

KIND: Final = "recent"
# What is judged: an application, and a model at its provider. Single operations have too few calls.
LEVELS: Final = (("service",), ("provider", "model"))
# The busiest ones of each level.
ENTITIES_MAX: Final = 100
# Minutes that are judged together, and those before them that they are compared with.
ROWS: Final = 5
PAST_ROWS: Final = 120
BLIND_ROWS: Final = PAST_ROWS + 2 * (ROWS - 1)
# Of those before, how many have to hold calls.
KNOWN_MIN: Final = 60
# Calls in ROWS minutes below which nothing but their number is judged.
_CALLS_MIN: Final = 3
# Robust spreads off; chosen on one simulated day, see docs/anomalies.md.
THRESHOLD: Final = Threshold(8.0, STEP_S, 0.5)
# Beyond this all deviations are alike to the one who reads what drove an incident.
_DRIVER_MAX: Final = 6.0
# Spreads of medians of few values: root of a Poisson count, and the other features.
_COUNT_FLOOR: Final = 0.7
_FLOOR: Final = 0.05
_REQUESTS: Final = FEATURES.index("requests_log")


@dataclass(frozen=True, slots=True, eq=False)
class Recent:
    """One entity's rows beside those before them.

    Attributes:
        scores: largest deviation of any feature, in robust spreads; NaN where too little is known.
        told, usual, spread: (n, f) in units of the features.
    """

    scores: Scores
    told: Floats
    usual: Floats
    spread: Floats
    features: tuple[str, ...]

    @staticmethod
    def of(series: Series) -> Recent:
        """Of FEATURES by minute. The first BLIND_ROWS have no score: their past is not whole.

        A row's score reads none but that many before it, so it is the same whatever else the series holds.
        """
        values = series.values.astype(np.float64)
        level = _level(values)
        # The rows judged together and those they are compared with share none.
        gap = np.full((PAST_ROWS + ROWS - 1, values.shape[1]), np.nan)
        before = np.concatenate([gap, level])[: PAST_ROWS - 1 + level.shape[0]]
        past = sliding_window_view(before, PAST_ROWS, axis=0)
        usual, known = _median(past)
        spread = 1.4826 * _median(np.abs(past - usual[:, :, None]))[0]
        floor = np.full(values.shape[1], _FLOOR)
        floor[_REQUESTS] = _COUNT_FLOOR
        spread = np.maximum(spread, floor)
        off = np.abs(level - usual) / spread
        off[known < KNOWN_MIN] = np.nan
        off[:BLIND_ROWS] = np.nan
        scored = ~np.isnan(off).all(axis=1)
        score = np.where(scored, np.nan_to_num(off).max(axis=1), np.nan)
        weight = np.minimum(np.nan_to_num(off), _DRIVER_MAX) ** 2
        share = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-12)
        share[~scored] = np.nan
        return Recent(Scores(score, share.astype(np.float32)), _told(level), _told(usual), spread, series.features)

    def drivers(self, row: int) -> list[dict[str, Any]]:
        """See `window_answers.drivers`."""
        share = self.scores.share[row]
        return told_drivers(self.features, self.told[row], share, usual=self.usual[row], spread=self.spread[row])


def recent_series(partials: pa.Table, *, from_us: int, to_us: int) -> dict[str, Series]:
    """Series of the busiest entities of each of LEVELS, of those with any call.

    Raises:
        NotEnoughData: fewer than KNOWN_MIN minutes hold calls of any of them.
    """
    found: dict[str, Series] = {}
    for dimensions in LEVELS:
        series = entity_series(partials, from_us=from_us, to_us=to_us, dimensions=dimensions)
        calls = {str(name): float(np.nansum(np.expm1(one.values[:, _REQUESTS]))) for name, one in series.items()}
        busiest = sorted((name for name in calls if calls[name] > 0), key=lambda name: -calls[name])[:ENTITIES_MAX]
        named = {str(name): one for name, one in series.items()}
        found |= {name: named[name] for name in busiest}
    most = max((int((one.values[:, _REQUESTS] > 0).sum()) for one in found.values()), default=0)
    if most <= KNOWN_MIN:
        raise NotEnoughData(
            f"{most} minutes hold calls; more than {KNOWN_MIN} are needed to know what is usual",
            hint="Wait until an hour of calls was told.",
        )
    return found


def _level(values: Floats) -> Floats:
    """(n, f) means over ROWS minutes by calls; of the requests the root of their number, whose spread is even."""
    calls = np.rint(np.nan_to_num(np.expm1(values[:, _REQUESTS])))[:, None]
    known = ~np.isnan(values)
    weight = _summed(known * calls)
    level = np.where(weight >= _CALLS_MIN, _summed(np.nan_to_num(values) * calls) / np.maximum(weight, 1e-9), np.nan)
    told = _summed(known[:, _REQUESTS : _REQUESTS + 1].astype(np.float64))[:, 0]
    level[:, _REQUESTS] = np.where(told == ROWS, np.sqrt(np.maximum(_summed(calls)[:, 0], 0.0)), np.nan)
    return level


def _summed(values: Floats) -> Floats:
    total = np.cumsum(values, axis=0)
    total[ROWS:] = total[ROWS:] - total[:-ROWS].copy()
    return total


def _median(past: Floats) -> tuple[Floats, Floats]:
    """(n, f) medians over the last axis, NaN left out, and how many values there are."""
    ordered = np.sort(past, axis=2)
    known = (~np.isnan(ordered)).sum(axis=2)
    middle = np.maximum(known - 1, 0)
    low, high = (
        np.take_along_axis(ordered, at[:, :, None], axis=2)[:, :, 0] for at in (middle // 2, (middle + 1) // 2)
    )
    return (low + high) / 2, known


def _told(level: Floats) -> Floats:
    """Levels in units of the features."""
    told = level.copy()
    told[:, _REQUESTS] = np.log1p(level[:, _REQUESTS] ** 2 / ROWS)
    return told
