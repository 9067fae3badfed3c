"""How well scores and alarms meet labelled events. No point adjustment anywhere: with it a random score wins.

Sources: Paparrizos et al., "Volume Under the Surface", PVLDB 15(11), 2022, as computed by the TSB-AD benchmark (Liu and
Paparrizos, NeurIPS 2024), of which this is an independent implementation; the tests compare it with a row-by-row
transcription of the definition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from models.anomaly.series import Floats

Labels = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]

_LEVELS: Final = 250
_LAGS: Final = 400
_LAG_FIRST: Final = 3
_ROWS_FOR_PERIOD: Final = 20_000
_PERIOD_MAX: Final = 300
PERIOD_DEFAULT: Final = 125


def events_of(labels: Labels) -> list[tuple[int, int]]:
    """Runs of labelled rows as (first, one after the last)."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], labels.astype(np.int8), [0]))))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def period_of(channel: Floats) -> int:
    """Rows of the period that TSB-AD takes for the buffer of VUS: the highest local peak of the autocorrelation.

    Args:
        channel: (n,), in TSB-AD the first feature of the whole series. Without a clear peak: PERIOD_DEFAULT.
    """
    values = channel[:_ROWS_FOR_PERIOD].astype(np.float64)
    values = values - values.mean()
    size = 1 << (2 * values.size).bit_length()
    power = np.fft.irfft(np.abs(np.fft.rfft(values, size)) ** 2, size)
    if power[0] <= 0:
        return PERIOD_DEFAULT
    found = (power / power[0])[: min(_LAGS + 1, values.size)][_LAG_FIRST:]
    peaks = np.flatnonzero((found[1:-1] > found[:-2]) & (found[1:-1] > found[2:])) + 1
    if peaks.size == 0:
        return PERIOD_DEFAULT
    best = int(peaks[np.argmax(found[peaks])])
    return best + _LAG_FIRST if _LAG_FIRST <= best <= _PERIOD_MAX else PERIOD_DEFAULT


def vus_pr(scores: Floats, labels: Labels, *, window: int) -> float:
    """Area under the range-based precision-recall curve, mean over buffers of 0 to `window` rows around events.

    Args:
        scores: (n,), higher = more unusual; NaN counts as the lowest.
        labels: (n,), at least one True.
    """
    scores = np.where(np.isnan(scores), np.nanmin(scores), scores)
    found = _first_level(scores)
    alarmed = np.cumsum(np.bincount(found, minlength=_LEVELS))
    inside = np.cumsum(np.bincount(found[labels], minlength=_LEVELS))
    buffer = _Buffer.around(events_of(labels), labels, window)
    positives = int(labels.sum())
    areas = []
    for width in range(window + 1):
        place, weight = buffer.weights(width)
        near = np.cumsum(np.bincount(found[place], weights=weight, minlength=_LEVELS))
        hits = inside + near
        # The number of positives is between the labelled rows and those with the buffer that was alarmed.
        recall = np.minimum(hits / (positives + near / 2), 1.0)
        recall *= _met(found, buffer.joined(width), labels.size)
        areas.append(float(np.diff(recall, prepend=0.0) @ (hits / alarmed)))
    return float(np.mean(areas))


def _first_level(scores: Floats) -> Places:
    """(n,) number of the highest of 250 evenly ranked thresholds that a row reaches."""
    falling = -np.sort(-scores)
    thresholds = falling[np.linspace(0, scores.size - 1, _LEVELS).astype(int)]
    # The thresholds fall; the first that is not above the score is looked for.
    return np.searchsorted(-thresholds, -scores, side="left")


def _met(found: Places, ranges: Places, size: int) -> Floats:
    """(250,) share of the ranges, rows [first, last], that have an alarmed row at each threshold."""
    ends = np.minimum(ranges[:, 1], size - 1)
    first = np.array([found[start : end + 1].min() for start, end in zip(ranges[:, 0], ends, strict=True)])
    return np.cumsum(np.bincount(first, minlength=_LEVELS)) / len(ranges)


@dataclass(frozen=True, slots=True, eq=False)
class _Buffer:
    """Unlabelled rows near events, each as often as events are near, with their distances."""

    events: Places
    place: Places
    distance: Places

    @staticmethod
    def around(events: Sequence[tuple[int, int]], labels: Labels, window: int) -> _Buffer:
        reach = np.arange(1, window // 2 + 1)
        places = [np.concatenate((start - reach, stop - 1 + reach)) for start, stop in events]
        place = np.concatenate(places)
        distance = np.tile(np.concatenate((reach, reach)), len(events))
        kept = (place >= 0) & (place < labels.size)
        kept[kept] = ~labels[place[kept]]
        return _Buffer(np.array([(start, stop - 1) for start, stop in events]), place[kept], distance[kept])

    def weights(self, width: int) -> tuple[Places, Floats]:
        """Rows within width // 2 of an event and what each counts, at most 1."""
        near = self.distance <= width // 2
        if not near.any():
            return np.zeros(0, np.int64), np.zeros(0)
        place, which = np.unique(self.place[near], return_inverse=True)
        return place, np.minimum(np.bincount(which, weights=np.sqrt(1 - self.distance[near] / width)), 1.0)

    def joined(self, width: int) -> Places:
        """(k, 2) first and last row of each event with its buffer; those that touch are one."""
        half = width // 2
        apart = self.events[:-1, 1] + half < self.events[1:, 0] - half
        first = np.maximum(self.events[np.concatenate(([True], apart)), 0] - half, 0)
        return np.stack((first, self.events[np.concatenate((apart, [True])), 1] + half), axis=1)


def auc_pr(scores: Floats, labels: Labels) -> float:
    """Average precision over rows, without any buffer."""
    scores = np.where(np.isnan(scores), np.nanmin(scores), scores)
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(labels[order])
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    precision = hits[last] / (last + 1)
    return float(np.diff(hits[last], prepend=0) @ precision / hits[-1])


@dataclass(frozen=True, slots=True)
class Meeting:
    """Alarms against events.

    Attributes:
        events: how many there were; `found`: how many of them an alarm overlaps.
        alarms: how many were raised; `false`: how many of them overlap no event, nor the gap after one.
        delays: rows from the start of each event found to the first row of an alarm in it.
    """

    events: int
    found: int
    alarms: int
    false: int
    delays: tuple[int, ...]


def meet(alarms: Sequence[tuple[int, int]], events: Sequence[tuple[int, int]], *, gap: int) -> Meeting:
    """Count alarms and events that overlap; both are (first row, one after the last).

    Args:
        gap: rows after an event in which an alarm, late or not yet cleared, is not a false one; it finds no event.
    """
    delays = []
    for start, stop in events:
        first = [max(one - start, 0) for one, end in alarms if one < stop and end > start]
        delays += [min(first)] if first else []
    false = sum(not any(one < stop + gap and end > start for start, stop in events) for one, end in alarms)
    return Meeting(len(events), len(delays), len(alarms), false, tuple(delays))
