"""A model on held-back time: false alarms as it is, recall on planted faults; and which of two models is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np

from models.anomaly.evaluation import Meeting, auc_pr, meet
from models.anomaly.fleet import Fleet
from models.anomaly.planted import plant
from models.anomaly.refusals import NotEnoughData
from models.anomaly.series import Floats, Matrix, Series
from models.anomaly.threshold import DAY_S, Threshold, decide
from models.anomaly.together import Together

SEED: Final = 20_261_129
ROWS_MIN: Final = 240
# Of rows of five minutes, of which a day of held-back time has fewer.
TOGETHER_ROWS_MIN: Final = 120
# Rows after a fault in which an alarm is late, not false.
_GAP: Final = 5
# A challenger may be this much worse by chance.
PRECISION_SLACK: Final = 0.01
# Alarms of a challenger on held-back time: at most the budget, or what the champion raises, and half as many again.
ALARMS_SLACK: Final = 1.5


@dataclass(frozen=True, slots=True)
class Judgement:
    """Figures of one model on held-back time.

    Attributes:
        average_precision: over rows with planted faults, mean over entities; the share of faulty rows is by chance.
        recall: planted faults that an alarm overlaps, of all.
        delay_rows: median rows from the start of a found fault to its alarm; -1 without any.
        alarms_per_day: for one entity on the rows as they are, believed normal.
        random_precision: share of rows with a fault.
    """

    average_precision: float
    recall: float
    delay_rows: float
    alarms_per_day: float
    random_precision: float
    entities: int
    rows: int

    def metrics(self, prefix: str = "held_") -> dict[str, float]:
        """By name."""
        return {f"{prefix}{name}": float(value) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """A model as it is judged.

    Attributes:
        score: scores of every row of each of some series.
        spread: (f,) robust spread of an entity's features.
    """

    entities: frozenset[str]
    score: Callable[[Mapping[str, Series]], dict[str, Floats]]
    spread: Callable[[str], Matrix]
    threshold: Callable[[str], Threshold]
    rows_min: int


def judge(fleet: Fleet, series: Mapping[str, Series], first: Mapping[str, int], *, seed: int = SEED) -> Judgement:
    """Judge on the rows from `first` on; the rows before are read as their past only.

    Args:
        series: by entity; those the fleet does not know are left out.
        first: first held-back row of each.

    Raises:
        NotEnoughData: no known entity has ROWS_MIN scored rows there.
    """
    judged = _Judged(
        frozenset(fleet.units.names),
        lambda told: {name: fleet.score(one, name).score for name, one in told.items()},
        lambda name: fleet.units.spread[fleet.units.place(name)],
        fleet.threshold,
        ROWS_MIN,
    )
    return _judgement(judged, series, first, seed)


def judge_together(
    model: Together, series: Mapping[str, Series], first: Mapping[str, int], *, seed: int = SEED
) -> Judgement:
    """The same of entities side by side: all have faults, each at its own times.

    Raises:
        NotEnoughData: no known entity has TOGETHER_ROWS_MIN scored rows there.
    """
    usual = model.detector.usual
    judged = _Judged(
        frozenset(model.entities),
        lambda told: {name: one.score for name, one in model.score(told).items()},
        lambda name: usual.spread[model.entities.index(name)].astype(np.float32),
        lambda name: model.threshold,
        TOGETHER_ROWS_MIN,
    )
    return _judgement(judged, series, first, seed)


def _judgement(judged: _Judged, series: Mapping[str, Series], first: Mapping[str, int], seed: int) -> Judgement:
    known = {name: one for name, one in series.items() if name in judged.entities}
    planted = {
        name: plant(one, judged.spread(name), name=name, first=first[name], seed=seed) for name, one in known.items()
    }
    clean = judged.score(known) if known else {}
    found = judged.score({name: one.series for name, one in planted.items()}) if known else {}
    precisions, chances, meetings, alarms, days, rows = [], [], [], 0, 0.0, 0
    for name, one in known.items():
        start, threshold = first[name], judged.threshold(name)
        scored = int(np.isfinite(clean[name][start:]).sum())
        if scored < judged.rows_min or not planted[name].events:
            continue
        alarms += len(decide(clean[name][start:], threshold))
        days += one.step_s * scored / DAY_S
        rows += scored
        precisions.append(auc_pr(found[name][start:], planted[name].labels[start:]))
        chances.append(float(planted[name].labels[start:].mean()))
        events = [(begin - start, end - start) for begin, end in planted[name].events]
        raised = [(alarm.start, alarm.end) for alarm in decide(found[name][start:], threshold)]
        meetings.append(meet(raised, events, gap=_GAP))
    if not precisions:
        raise NotEnoughData(
            f"no entity has {judged.rows_min} scored rows of held-back time",
            hint="Widen the range, or hold back a larger share.",
        )
    return Judgement(
        average_precision=float(np.mean(precisions)),
        recall=_recall(meetings),
        delay_rows=float(np.median(delays)) if (delays := [d for one in meetings for d in one.delays]) else -1.0,
        alarms_per_day=alarms / days,
        random_precision=float(np.mean(chances)),
        entities=len(precisions),
        rows=rows,
    )


def _recall(meetings: list[Meeting]) -> float:
    events = sum(one.events for one in meetings)
    return sum(one.found for one in meetings) / events if events else 0.0


def refusal(challenger: Judgement, champion: Judgement | None, *, budget_per_day: float) -> str:
    """Why a challenger must not take over; empty when it may.

    Both were judged on the same rows with the same faults. Without a champion it has to beat chance.
    """
    if champion is None:
        if challenger.average_precision <= challenger.random_precision:
            return (
                f"average precision {challenger.average_precision:.3f} is not above chance "
                f"({challenger.random_precision:.3f})"
            )
        return ""
    if challenger.average_precision < champion.average_precision - PRECISION_SLACK:
        return (
            f"average precision {challenger.average_precision:.3f} is below the champion's "
            f"{champion.average_precision:.3f}"
        )
    allowed = ALARMS_SLACK * max(budget_per_day, champion.alarms_per_day)
    if challenger.alarms_per_day > allowed:
        return f"{challenger.alarms_per_day:.2f} alarms per entity and day are over {allowed:.2f}"
    return ""
