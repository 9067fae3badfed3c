"""Months of faults and of disturbances that nobody wants to hear of, and what verdicts on alarms make of them.

Two kinds of months. `plain`: the disturbances are bursts of load, the faults are in three features drawn at random.
`kinds`: disturbances are of three recurring kinds of one or two features, and half of the faults are in the features of
one kind alone, of sizes from below to above a disturbance's, two of three in its direction. Everything is drawn from
published seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import numpy as np

from models.anomaly.evaluation import meet
from models.anomaly.fleet import Fleet
from models.anomaly.incidents import Subject, drivers_at, factors, natural
from models.anomaly.scores import Scores
from models.anomaly.series import Floats, Matrix, Series
from models.anomaly.threshold import Alarm, Threshold, decide
from tests.bench.seasons import DAY, FEATURES, NOISE, fitted, series_of, world

# Features of a recurring disturbance, the rows that it lasts, at least and less than.
KINDS: Final = {
    "load burst": (("requests_log",), (3, 8)),
    "batch job": (("tokens_log", "cost_log"), (6, 18)),
    "provider hiccup": (("latency_log", "ttft_log"), (2, 5)),
}
# In deviations of noise, as the bursts of `plain` are.
_BENIGN_SIZE: Final = (2.2, 5.0)
_FAULT_SIZES: Final = (2.0, 3.0, 5.0, 8.0)
# Of a fault beside the kinds of disturbances: three features at random; features of one kind alone, in its direction
# or in the other.
OTHER, ALIKE, OPPOSITE = "three features", "as a disturbance", "as a disturbance, opposite"


@dataclass(frozen=True, slots=True)
class Fault:
    """Rows from start to stop, stop not included."""

    start: int
    stop: int
    group: str = OTHER


@dataclass(frozen=True, slots=True)
class Month:
    """Rows with events: real faults, and disturbances."""

    values: Matrix
    faults: list[Fault]


class Make(Protocol):
    """`plain` or `kinds`."""

    def __call__(self, days: int, /, *, seed: int, first_day: int) -> Month: ...


def plain(days: int, *, seed: int, first_day: int) -> Month:
    """A fault about each second day, and a benign burst of load twice a day."""
    values = world(days, seed=seed, first_day=first_day)
    source = np.random.default_rng((seed, 7, first_day))
    faults = []
    for day in range(days):
        for _ in range(2):
            at = day * DAY + int(source.integers(0, DAY - 12))
            values[at : at + int(source.integers(3, 8)), 0] += float(source.uniform(0.4, 0.9))
        if day % 2:
            at = day * DAY + int(source.integers(0, DAY - 20))
            stop, size = at + int(source.integers(6, 16)), float(source.choice((2.0, 3.0, 5.0)))
            features = source.permutation(len(FEATURES))[:3]
            values[at:stop, features] += size * NOISE[features] * source.choice((-1, 1), 3)
            faults.append(Fault(at, stop))
    return Month(values, faults)


def kinds(days: int, *, seed: int, first_day: int) -> Month:
    """As often, but of the KINDS; and half of the faults in the features of one of them alone."""
    values = world(days, seed=seed, first_day=first_day)
    source = np.random.default_rng((seed, 11, first_day))
    faults = []
    for day in range(days):
        for _ in range(2):
            names, (shortest, longest) = list(KINDS.values())[int(source.integers(0, len(KINDS)))]
            at = day * DAY + int(source.integers(0, DAY - 20))
            stop, size = at + int(source.integers(shortest, longest)), float(source.uniform(*_BENIGN_SIZE))
            moved = _places(names)
            values[at:stop, moved] += size * NOISE[moved] * source.uniform(0.8, 1.2, len(names))
        if day % 2:
            at = day * DAY + int(source.integers(0, DAY - 20))
            stop, size = at + int(source.integers(6, 16)), float(source.choice(_FAULT_SIZES))
            moved, signs, group = _fault(source)
            values[at:stop, moved] += size * NOISE[moved] * signs
            faults.append(Fault(at, stop, group))
    return Month(values, faults)


def _fault(source: np.random.Generator) -> tuple[list[int], Matrix, str]:
    """Places of the features, their directions, and the group of a fault."""
    if source.random() < 0.5:
        return source.permutation(len(FEATURES))[:3].tolist(), source.choice((-1.0, 1.0), 3), OTHER
    names, _ = list(KINDS.values())[int(source.integers(0, len(KINDS)))]
    # Both of its features, or one of them.
    moved = _places(names)[int(source.integers(0, len(names))) :] if source.random() < 0.5 else _places(names)
    up = source.random() < 2 / 3
    return moved, np.full(len(moved), 1.0 if up else -1.0), ALIKE if up else OPPOSITE


def _places(names: tuple[str, ...]) -> list[int]:
    return [FEATURES.index(name) for name in names]


# What verdicts move: nothing; one level for all alarms, as the hub had it until November 30, 2026; that of alarms like
# those that were judged.
NONE, ONE_LEVEL, BY_DRIVERS = "no feedback", "one level", "by drivers"
RULES: Final = (NONE, ONE_LEVEL, BY_DRIVERS)
_SUBJECT: Final = Subject("t", "e", 1)
_GAP_ROWS: Final = 3
# Groups of faults by what drives them most while they last.
_LEADS: Final = {True: "led by a feature of disturbances", False: "led by another feature"}
ALL: Final = "all"


@dataclass(frozen=True, slots=True)
class Word:
    """A verdict as it is learned from."""

    is_true: bool
    score: float
    drivers: tuple[dict[str, Any], ...] | None


@dataclass(frozen=True, slots=True)
class Met:
    """What became of a fault.

    Attributes:
        found: an alarm overlaps it; told: one begins in it.
        groups: that it is counted in.
    """

    found: bool
    told: bool
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of the second half of the days."""

    false_per_day: float
    faults: tuple[Met, ...]


def replayed(make: Make, seed: int, *, rule: str, days: int = 56) -> Outcome:
    """Two months day by day, each alarm judged at the end of its day: what the second half of them is told of."""
    known = fitted(world(28, seed=seed), 0)
    month = make(days, seed=seed, first_day=28)
    series = series_of(month.values, 28)
    scores, threshold = known.score(series, "e"), known.threshold("e")
    benign = {"requests_log"} if make is plain else {name for names, _ in KINDS.values() for name in names}
    false, words = 0, list[Word]()
    met: list[Met] = []
    for day in range(days):
        here = slice(day * DAY, (day + 1) * DAY)
        today, rows = series.part(here.start, here.stop), Scores(scores.score[here], scores.share[here])
        alarms = _alarms(known, today, rows, threshold=threshold, words=words, rule=rule)
        mine = [one for one in month.faults if one.start // DAY == day]
        spans = [(one.start - here.start, one.stop - here.start) for one in mine]
        if day >= days // 2:
            false += meet([(one.start, one.end) for one in alarms], spans, gap=_GAP_ROWS).false
            for fault, (start, stop) in zip(mine, spans, strict=True):
                lead = FEATURES[int(np.argmax(rows.share[start + int(np.nanargmax(rows.score[start:stop]))]))]
                found = meet([(one.start, one.end) for one in alarms], [(start, stop)], gap=_GAP_ROWS).found > 0
                begun = any(start <= one.start < stop + _GAP_ROWS for one in alarms)
                met.append(Met(found, begun, (ALL, fault.group, _LEADS[lead in benign])))
        for one in alarms:
            is_true = any(one.start < stop + _GAP_ROWS and one.end > start for start, stop in spans)
            told = drivers_at(_SUBJECT, known, today, scores=rows, row=one.peak)
            words.append(Word(is_true, one.score, tuple(natural(driver) for driver in told)))
    return Outcome(false / (days - days // 2), tuple(met))


def _alarms(
    known: Fleet, series: Series, scores: Scores, *, threshold: Threshold, words: list[Word], rule: str
) -> list[Alarm]:
    if rule == BY_DRIVERS:
        raised = factors(_SUBJECT, known, series, scores=scores, threshold=threshold, verdicts=words)
        return decide(scores.score, threshold, raised)
    return decide(scores.score, threshold if rule == NONE else one_level(threshold, words))


def one_level(threshold: Threshold, words: list[Word]) -> Threshold:
    """The rule before: over the highest false alarm, under the lowest true one as far as enough true ones are known."""
    false = [one.score for one in words if not one.is_true]
    true = [one.score for one in words if one.is_true]
    if not false:
        return threshold
    value, trust = threshold.value, len(true) / (len(true) + 24)
    blind = value * min(1.05 ** len(false), 1.25)
    most = value * (max(0.97 * min(true), value) / value) ** trust if true else blind
    return replace(threshold, factor=min(max(min(max(false) / 0.97, most) / value, 1.0), 4.0))


def figures(make: Make, seeds: Sequence[int]) -> dict[str, Any]:
    """Of each rule over the same replays; changes are from no feedback, with the standard error over replays."""
    outcomes = {rule: [replayed(make, seed, rule=rule) for seed in seeds] for rule in RULES}
    return {"seeds": [seeds[0], seeds[-1]]} | {
        rule: _summary(several, outcomes[NONE]) for rule, several in outcomes.items()
    }


def _summary(several: list[Outcome], before: list[Outcome]) -> dict[str, Any]:
    rates, rates_before = (np.array([one.false_per_day for one in told]) for told in (several, before))
    here, then = ([fault for one in told for fault in one.faults] for told in (several, before))
    pairs = list(zip(here, then, strict=True))
    lost = [other for one, other in pairs if other.found and not one.found]
    found, own = (np.array([_recall(one, name) for one in several]) for name in ("found", "told"))
    found_before, own_before = (np.array([_recall(one, name) for one in before]) for name in ("found", "told"))
    groups = sorted({group for fault in here for group in fault.groups})
    of = {group: [fault for fault in here if group in fault.groups] for group in groups}
    return {
        "false_alarms_per_day": float(rates.mean()),
        "false_alarms_per_day_sd": float(rates.std(ddof=1)),
        "false_alarms_change": float(rates.mean() / rates_before.mean() - 1),
        "false_alarms_change_se": _error(rates / rates_before - 1),
        "recall_sd": float(found.std(ddof=1)),
        "recall_change": float((found - found_before).mean()),
        "recall_change_se": _error(found - found_before),
        "recall_by_own_alarm_change": float((own - own_before).mean()),
        "recall_by_own_alarm_change_se": _error(own - own_before),
        "lost": len(lost),
        "lost_whose_alarm_had_begun_before": sum(not one.told for one in lost),
        "gained": sum(one.found and not other.found for one, other in pairs),
        "recall": {group: float(np.mean([one.found for one in faults])) for group, faults in of.items()},
        "recall_by_own_alarm": {
            group: float(np.mean([fault.told for fault in faults])) for group, faults in of.items()
        },
        "faults": {group: len(faults) for group, faults in of.items()},
    }


def _recall(one: Outcome, name: str) -> float:
    return float(np.mean([getattr(fault, name) for fault in one.faults]))


def _error(values: Floats) -> float:
    return float(values.std(ddof=1) / values.size**0.5)
