"""A model on held-back time: false alarms as it is, recall on planted faults; and whether one is worse than another.

Held-back time of a day or two has room for a handful of faults, too few to tell two models apart by. So models are
compared by many rounds of faults in the same rows, each pair of figures being of the same rows with the same faults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from models.anomaly.confidence import CONFIDENCE, SEED, at_least, lowest_mean, worse
from models.anomaly.evaluation import Meeting, auc_pr, meet
from models.anomaly.fleet import POOLED, Fleet
from models.anomaly.planted import plant
from models.anomaly.refusals import NotEnoughData
from models.anomaly.series import Floats, Matrix, Series
from models.anomaly.threshold import DAY_S, Threshold, decide
from models.anomaly.together import Together

ROWS_MIN: Final = 240
# Of rows of five minutes, of which a day of held-back time has fewer.
TOGETHER_ROWS_MIN: Final = 120
# Rows after a fault in which an alarm is late, not false.
_GAP: Final = 5
# Rounds of a comparison go on until there are so many faults and so many cells, an entity in a round each.
FAULTS_MIN: Final = 160
CELLS_MIN: Final = 24
ROUNDS_MAX: Final = 32

Cell = tuple[str, int]
Spread = Callable[[str], Matrix]


@dataclass(frozen=True, slots=True)
class Judgement:
    """Figures of one model on held-back time.

    Attributes:
        average_precision: over rows with planted faults, mean over entities; the share of faulty rows is by chance.
        recall: planted faults that an alarm overlaps, of all.
        delay_rows: median rows from the start of a found fault to its alarm; -1 without any.
        alarms_per_day: for one entity on the rows as they are, believed normal.
        random_precision: share of rows with a fault.
        days: of entities, with a score.
        cells: (average precision, that of chance) by entity and round.
    """

    average_precision: float
    recall: float
    delay_rows: float
    alarms_per_day: float
    random_precision: float
    entities: int
    rows: int
    days: float
    cells: Mapping[Cell, tuple[float, float]]

    @property
    def alarms(self) -> int:
        """On the rows as they are."""
        return round(self.alarms_per_day * self.days)

    def metrics(self, prefix: str = "held_") -> dict[str, float]:
        """By name."""
        return {f"{prefix}{name}": float(getattr(self, name)) for name in _METRICS}


_METRICS: Final = (
    *("average_precision", "recall", "delay_rows", "alarms_per_day"),
    *("random_precision", "entities", "rows", "days"),
)


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """A model as it is judged.

    Attributes:
        score: scores of every row of each of some series.
        spread: (f,) robust spread of an entity's features.
    """

    entities: frozenset[str]
    score: Callable[[Mapping[str, Series]], dict[str, Floats]]
    spread: Spread
    threshold: Callable[[str], Threshold]
    rows_min: int


def judge(
    model: Fleet | Together,
    series: Mapping[str, Series],
    first: Mapping[str, int],
    *,
    seed: int = SEED,
    compared: bool = False,
    spread: Spread | None = None,
) -> Judgement:
    """Judge on the rows from `first` on; the rows before are read as their past only.

    Of entities side by side all have faults, each at its own times.

    Args:
        series: by entity; those the model does not know are left out.
        first: first held-back row of each.
        compared: with as many rounds of faults as a comparison needs, in place of one.
        spread: by which faults are sized, of an entity; None = the model's own. Two models need the same.

    Raises:
        NotEnoughData: no known entity has ROWS_MIN scored rows there, or TOGETHER_ROWS_MIN of a model of entities side
            by side.
    """
    judged = _of_entities(model) if isinstance(model, Fleet) else _side_by_side(model)
    if spread is not None:
        judged = replace(judged, spread=spread)
    return _judgement(judged, series, first, seed=seed, rounds_max=ROUNDS_MAX if compared else 1)


def spread_of(model: Fleet | Together) -> Spread:
    """Robust spreads of an entity's features in training time; of one that the model does not know those of all."""
    return _of_entities(model).spread if isinstance(model, Fleet) else _side_by_side(model).spread


def _of_entities(fleet: Fleet) -> _Judged:
    names = frozenset(fleet.units.names)
    return _Judged(
        names,
        lambda told: {name: fleet.score(one, name).score for name, one in told.items()},
        lambda name: fleet.units.spread[fleet.units.place(name if name in names else POOLED)],
        fleet.threshold,
        ROWS_MIN,
    )


def _side_by_side(model: Together) -> _Judged:
    spread = model.detector.usual.spread.astype(np.float32)
    at = {name: number for number, name in enumerate(model.entities)}
    return _Judged(
        frozenset(at),
        lambda told: {name: one.score for name, one in model.score(told).items()},
        lambda name: spread[at[name]] if name in at else np.median(spread, axis=0),
        lambda name: model.threshold,
        TOGETHER_ROWS_MIN,
    )


def _judgement(
    judged: _Judged, series: Mapping[str, Series], first: Mapping[str, int], *, seed: int, rounds_max: int
) -> Judgement:
    known = {name: one for name, one in series.items() if name in judged.entities}
    clean = judged.score(known) if known else {}
    scored = {name: int(np.isfinite(clean[name][first[name] :]).sum()) for name in known}
    counted = [name for name in known if scored[name] >= judged.rows_min]
    cells: dict[Cell, tuple[float, float]] = {}
    meetings: list[Meeting] = []
    for number in range(rounds_max if counted else 0):
        planted = {
            name: plant(one, judged.spread(name), name=name, first=first[name], seed=seed + number)
            for name, one in known.items()
        }
        found = judged.score({name: one.series for name, one in planted.items()})
        for name in counted:
            labels, start = planted[name].labels[first[name] :], first[name]
            if planted[name].events:
                cells[name, number] = (auc_pr(found[name][start:], labels), float(labels.mean()))
                meetings.append(_met(found[name][start:], planted[name].events, judged.threshold(name), start=start))
        if sum(one.events for one in meetings) >= FAULTS_MIN and len(cells) >= CELLS_MIN:
            break
    if not cells:
        raise NotEnoughData(
            f"no entity has {judged.rows_min} scored rows of held-back time",
            hint="Widen the range, or hold back a larger share.",
        )
    told = sorted({name for name, _ in cells})
    days = sum(known[name].step_s * scored[name] for name in told) / DAY_S
    alarms = sum(len(decide(clean[name][first[name] :], judged.threshold(name))) for name in told)
    return Judgement(
        average_precision=float(np.mean([precision for precision, _ in cells.values()])),
        recall=_recall(meetings),
        delay_rows=float(np.median(delays)) if (delays := [d for one in meetings for d in one.delays]) else -1.0,
        alarms_per_day=alarms / days,
        random_precision=float(np.mean([chance for _, chance in cells.values()])),
        entities=len(told),
        rows=sum(scored[name] for name in told),
        days=days,
        cells=cells,
    )


def _met(scores: Floats, events: tuple[tuple[int, int], ...], threshold: Threshold, *, start: int) -> Meeting:
    raised = [(alarm.start, alarm.end) for alarm in decide(scores, threshold)]
    return meet(raised, [(begin - start, end - start) for begin, end in events], gap=_GAP)


def _recall(meetings: list[Meeting]) -> float:
    events = sum(one.events for one in meetings)
    return sum(one.found for one in meetings) / events if events else 0.0


def refusal(challenger: Judgement, champion: Judgement | None, *, budget_per_day: float) -> str:
    """Why a challenger must not take over; empty when it may.

    Both were judged on the same rows with the same faults. A challenger has to show that it is no more than the
    margin of `confidence` worse: what cannot be told apart from worse is refused too. Without a champion it has to
    beat chance.
    """
    if champion is None:
        lowest = lowest_mean(np.array([precision - chance for precision, chance in challenger.cells.values()]))
        if lowest <= 0:
            return (
                f"average precision {challenger.average_precision:.3f} is not surely above chance "
                f"({challenger.random_precision:.3f})"
            )
        return ""
    shared = sorted(challenger.cells.keys() & champion.cells.keys())
    if not shared:
        return "it knows none of the entities that the champion judges"
    ours, theirs = (np.array([one.cells[cell][0] for cell in shared]) for one in (challenger, champion))
    if why := worse(float(ours.mean()), float(theirs.mean()), lowest_mean(ours - theirs)):
        return why
    expected = max(budget_per_day, champion.alarms_per_day) * challenger.days
    if at_least(challenger.alarms, expected) < 1 - CONFIDENCE:
        return (
            f"{challenger.alarms} alarms on held-back time, {challenger.alarms_per_day:.2f} for an entity and day: "
            f"{expected:.1f} are expected by the budget or of the champion"
        )
    return ""
