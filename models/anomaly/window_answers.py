"""What is said of windows: score, threshold and drivers of each, or why there is no score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.anomaly.fleet import Fleet
from models.anomaly.lessons import Lesson, Lessons
from models.anomaly.scores import Scores
from models.anomaly.series import Matrix
from models.anomaly.threshold import Threshold

Values = npt.NDArray[np.floating]

DRIVERS_MAX: Final = 5
# A feature with less of the score than this explains nothing.
DRIVER_SHARE_MIN: Final = 0.05
# Score over threshold from which an anomaly is called so.
_SEVERE: Final = ((3.0, "critical"), (1.6, "major"), (0.0, "minor"))


def severity(score: float, level: float) -> str:
    """minor, major or critical, by how far a score is over the threshold."""
    return next(name for times, name in _SEVERE if score >= times * level)


def drivers(fleet: Fleet, row: Matrix, share: Matrix, *, entity: str, at_us: int) -> list[dict[str, Any]]:
    """The features that made a score, the largest first: part of the score, value, and what was usual at that time.

    Args:
        row, share: (f,) of the scored row, values as the detector reads them.
    """
    units = fleet.units
    place = units.place(entity)
    season = units.profile[place, at_us // 1_000_000 // 1_800 % units.profile.shape[1]]
    usual = units.centre[place] + season * units.spread[place]
    return told_drivers(units.features, row, share, usual=usual, spread=units.spread[place])


def told_drivers(
    features: Sequence[str], row: Values, share: Values, *, usual: Values, spread: Values
) -> list[dict[str, Any]]:
    """See `drivers`; all (f,)."""
    order = np.argsort(-share, kind="stable")[:DRIVERS_MAX]
    return [
        {
            "feature": features[at],
            "share": round(float(share[at]), 4),
            "value": None if np.isnan(row[at]) else float(row[at]),
            "usual": float(usual[at]),
            "spread": float(spread[at]),
        }
        for at in order.tolist()
        if share[at] >= DRIVER_SHARE_MIN
    ]


def answers(
    fleet: Fleet,
    windows: Matrix,
    scores: Scores,
    *,
    entities: Sequence[str],
    starts_us: Sequence[int],
    thresholds: Sequence[Threshold],
    verdicts: Sequence[Sequence[Lesson]],
) -> list[dict[str, Any]]:
    """One entry a window, in their order.

    Args:
        thresholds: of each window's entity, before what verdicts on alarms of it teach.
    """
    told: list[dict[str, Any]] = []
    known: dict[int, Lessons] = {}
    span_us = (windows.shape[1] - 1) * fleet.units.step_s * 1_000_000
    for at, (entity, threshold) in enumerate(zip(entities, thresholds, strict=True)):
        score = float(scores.score[at])
        if np.isnan(score):
            told.append(not_scored(_lacking(windows[at])))
            continue
        found = drivers(fleet, windows[at, -1], scores.share[at], entity=entity, at_us=starts_us[at] + span_us)
        if said := verdicts[at]:
            # The windows of one entity share their verdicts.
            lessons = known.get(id(said)) or known.setdefault(id(said), Lessons.of(said, len(fleet.units.features)))
            told.append(scored(score, lessons.threshold(threshold, found), found))
        else:
            told.append(scored(score, threshold, found))
    return told


def scored(score: float, threshold: Threshold, found: list[dict[str, Any]]) -> dict[str, Any]:
    """The entry of a window with a score and its drivers."""
    over = score > threshold.level
    return {
        "state": "scored",
        "score": score,
        "threshold": threshold.level,
        "is_anomaly": over,
        "severity": severity(score, threshold.level) if over else None,
        "drivers": found,
    }


def not_scored(reason: str) -> dict[str, Any]:
    """The entry of a window without one."""
    return {"state": "not_enough_data", "reason": reason, "score": None}


def _lacking(window: Matrix) -> str:
    missing = float(np.isnan(window[-1]).mean())
    if missing > 0.5:
        return f"{missing:.0%} of the features of the last row are missing; at most half may be"
    return f"{window.shape[0]} rows are too few for this detector; send 30 or more"
