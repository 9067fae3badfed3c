"""From scores to alarms: a threshold that keeps a budget of alarms, and one alarm for one incident."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from models.anomaly.refusals import NotEnoughData, SeriesInvalid
from models.anomaly.series import Floats

DAY_S: Final = 86_400
# An alarm ends when the score stays below this share of the threshold.
CLEAR_SHARE: Final = 0.7
# Alarms this close are one.
MERGE_S: Final = 900
# Two rows of three have to be over the threshold, unless one is this many times over it.
URGENT: Final = 3.0
ROWS_MIN: Final = 100
# One step of feedback or of a day far off the budget, as a factor.
STEP: Final = 1.05
FACTOR_MIN, FACTOR_MAX = 0.5, 4.0
# Days that a threshold is chosen from when it follows the scores.
FOLLOW_DAYS: Final = 9


@dataclass(frozen=True, slots=True)
class Threshold:
    """When to alarm.

    Attributes:
        value: surprisal of the calibration, > 0.
        step_s: seconds from row to row of the scores it is for.
        budget_per_day: alarms a day that it was chosen for.
        factor: what feedback and the online control made of it, FACTOR_MIN to FACTOR_MAX.
    """

    value: float
    step_s: int
    budget_per_day: float
    factor: float = 1.0

    @property
    def level(self) -> float:
        """Scores above this alarm."""
        return self.value * self.factor

    def after_day(self, alarms: int) -> Threshold:
        """After a day with so many alarms: up if over the budget, down if under, in proportion, two steps at most.

        Integral control on the logarithm, bounded on both sides, so that a long incident cannot deafen it. Source:
        Gibbs and Candes, "Adaptive Conformal Inference Under Distribution Shift", NeurIPS 2021.
        """
        return self._moved(min(max(alarms - self.budget_per_day, -2.0), 2.0))

    def _moved(self, steps: float) -> Threshold:
        return replace(self, factor=min(max(self.factor * STEP**steps, FACTOR_MIN), FACTOR_MAX))


@dataclass(frozen=True, slots=True)
class Alarm:
    """One incident: rows start to end, end not included; `peak` is the row of the score furthest over its level."""

    start: int
    end: int
    peak: int
    score: float


def calibrate(scores: Floats | Sequence[Floats], *, step_s: int, budget_per_day: float) -> Threshold:
    """The lowest threshold that keeps the budget over scores of calibration time, of one or several entities.

    Args:
        scores: (n,) of each entity, NaN where not scored.
        budget_per_day: alarms for one entity and day; 0.01 to 100.

    Raises:
        NotEnoughData: fewer than ROWS_MIN scored rows.
        SeriesInvalid: the budget is out of range.
    """
    if not 0.01 <= budget_per_day <= 100:
        raise SeriesInvalid(f"budget_per_day is {budget_per_day}; 0.01 to 100 are allowed")
    several = [scores] if isinstance(scores, np.ndarray) else list(scores)
    known = np.concatenate([one[np.isfinite(one)] for one in several]) if several else np.zeros(0)
    if known.size < ROWS_MIN:
        raise NotEnoughData(f"{known.size} scored rows to choose a threshold from; {ROWS_MIN} are needed")
    allowed = budget_per_day * known.size * step_s / DAY_S
    # Highest first: fewer alarms at higher levels, not strictly, as alarms merge when the level falls.
    chosen = float(known.max()) * 1.05
    for level in np.quantile(known, 1 - np.geomspace(1 / known.size, 0.2, 60)).tolist():
        trial = Threshold(max(level, 1e-6), step_s, budget_per_day)
        if sum(len(decide(one, trial)) for one in several) > allowed:
            break
        chosen = trial.value
    return Threshold(max(chosen, 1e-6), step_s, budget_per_day)


def decide(scores: Floats, threshold: Threshold, factors: Floats | None = None) -> list[Alarm]:
    """Alarms in order of time, as one would have raised them row by row, without reading ahead.

    An alarm starts with the row at which two of the last three are over the level, or one far over it. It goes on
    until the score has been under CLEAR_SHARE of the level for MERGE_S, and ends after the last row that was not.

    Args:
        factors: (n,) of the level at each row, see `lessons`; None = 1.
    """
    level = np.full(scores.size, threshold.level) if factors is None else threshold.level * factors
    known = np.nan_to_num(scores, nan=0.0)
    over = (known > level).astype(np.int8)
    total = np.cumsum(np.concatenate(([0, 0, 0], over)))
    recent = total[3:] - total[:-3]
    starts = (over == 1) & ((recent >= 2) | (known > URGENT * level))
    held = np.flatnonzero(starts | (known > CLEAR_SHARE * level))
    if not starts.any():
        return []
    gap = max(3, MERGE_S // threshold.step_s)
    runs = np.split(held, np.flatnonzero(np.diff(held) > gap) + 1)
    alarms = []
    for run in runs:
        begun = run[starts[run]]
        if begun.size:
            start, end = int(begun[0]), int(run[-1]) + 1
            peak = start + int(np.argmax(known[start:end] / level[start:end]))
            alarms.append(Alarm(start, end, peak, float(known[peak])))
    return alarms


def follow(past: Floats, scores: Floats, *, step_s: int, budget_per_day: float) -> list[Alarm]:
    """Alarms with a threshold that is chosen anew every day from the scores of the last FOLLOW_DAYS, unlabelled.

    What drifts takes its threshold along. An incident that lasts for days raises it; it falls back as days go by.

    Args:
        past: scores of calibration time, up to the first of `scores`.

    Raises:
        NotEnoughData: fewer than ROWS_MIN of them.
    """
    day = DAY_S // step_s
    together = np.concatenate((past, scores))
    found = []
    for start in range(0, scores.size, day):
        at = past.size + start
        threshold = calibrate(
            together[max(at - FOLLOW_DAYS * day, 0) : at], step_s=step_s, budget_per_day=budget_per_day
        )
        for one in decide(scores[start : start + day], threshold):
            found.append(replace(one, start=one.start + start, end=one.end + start, peak=one.peak + start))
    return found
