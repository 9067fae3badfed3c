"""How much likelier a trace is if one thing is wrong with it than if none is: logarithms of likelihood ratios.

Each function looks for one kind of trouble. A trouble has several suspects in a trace, such as each of its operations;
every suspect is told at one span, all others are NaN. The mean of ratios is a ratio again, whatever they have in
common, so that a trace with more suspects is not the stranger for it (`by_trace`).

Source: Grünwald, de Heide, Koolen, "Safe testing", JRSS B 2024; Vovk and Wang, "E-values: calibration, combination and
applications", Annals of Statistics 2021.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from models.anomaly.series import Floats
from models.anomaly.trace_graph import Graphs, Places
from models.anomaly.trace_structure import (
    COUNT_MAX,
    Structure,
    callers_of,
    groups_of,
    look_up,
    mix_codes,
    pair_codes,
    runs_of,
)

# A call that is slow or large is so by one of these factors, any of them as likely: less is no trouble.
FACTORS: Final = np.geomspace(1.25, 4.0, 6)
# An operation that takes ten times as long is suspected 18 times as much; by models of before 5.6 times.
_BY_TIME: Final = 1.25
_BY_TIME_BEFORE: Final = 0.75
# How many calls too many there are: the more, the less likely.
_MORE: Final = np.arange(1, 17)
# An agent that is stuck repeats itself three times at least.
_AGAIN: Final = np.arange(3, 17)
# So many spreads sooner than failures come a dead call fails, at any of them as likely.
_SOONER: Final = 20.0
# Beyond so many spreads a deviation says no more.
_FAR: Final = 6.0
# Of a value of nothing there is no logarithm.
_LEAST: Final = 1e-3
_RATIO_MAX: Final = 200.0
_RATIO_MIN: Final = 1e-9


def by_trace(ratios: Floats, graphs: Graphs) -> Floats:
    """(t,) the mean ratio over the suspects of each trace, as a logarithm; 0 without any."""
    told = np.flatnonzero(~np.isnan(ratios))
    trace = graphs.trace[told]
    total = np.bincount(trace, weights=np.exp(np.minimum(ratios[told], _RATIO_MAX)), minlength=graphs.traces)
    count = np.bincount(trace, minlength=graphs.traces)
    return np.where(count > 0, np.log(np.maximum(total / np.maximum(count, 1), _RATIO_MIN)), 0.0)


def log_mean(logarithms: Floats, weights: Floats) -> Floats:
    """Of rows of logarithms, the logarithm of their weighted mean."""
    highest = logarithms.max(axis=0, initial=0.0)
    # Added up row by row: a product of matrices adds in another order when there are more columns.
    total = (weights[:, None] * np.exp(logarithms - highest)).sum(axis=0) / weights.sum()
    return np.asarray(highest + np.log(np.maximum(total, _RATIO_MIN)))


def slower(
    graphs: Graphs, operations: Places, *, values: Floats, off: Floats, spread: Floats, before: bool = False
) -> Floats:
    """All spans of one operation larger by one factor than each is expected to be; told at the one most off.

    Args:
        values: (n,) logarithms of 1 + value; off, spread: how many spreads off and how long one is; NaN = not told.
        operations: see `Structure.operations`.
        before: as models of before, which took the logarithm of 1 + value for what is normal.
    """
    found = np.full(values.size, np.nan)
    told = np.flatnonzero(~np.isnan(off))
    if told.size == 0:
        return found
    width = int(operations.max(initial=0)) + 1
    _, group = np.unique(graphs.trace[told] * width + operations[graphs.label[told]], return_inverse=True)
    by, one = off[told], spread[told]
    expected = values[told] - by * one
    took = np.expm1(np.maximum(expected, 0.0))
    if not before:
        by, one = _logarithmic(values[told], expected, one)
    by = np.clip(by, -_FAR, _FAR)
    ratios = []
    for factor in FACTORS:
        shift = (np.log1p(took * factor) - expected if before else np.log(factor)) / one
        ratios.append(np.bincount(group, weights=shift * by - shift**2 / 2))
    order = np.lexsort((by, group))
    last = order[np.append(np.diff(group[order]) != 0, True)]
    # The longer spans take, the more a factor of them is trouble.
    weight = np.bincount(group, weights=took) ** (_BY_TIME_BEFORE if before else _BY_TIME) + _RATIO_MIN
    trace = graphs.trace[told[last]]
    share = np.bincount(trace, minlength=graphs.traces) / np.maximum(
        np.bincount(trace, weights=weight, minlength=graphs.traces), _RATIO_MIN
    )
    found[told[last]] = log_mean(np.stack(ratios), np.ones(len(ratios))) + np.log(weight * share[trace])
    return found


def _logarithmic(values: Floats, expected: Floats, spread: Floats) -> tuple[Floats, Floats]:
    """How many spreads off, and how long one is, by the logarithm of values; given by that of 1 + value.

    A factor moves few milliseconds as it does many; with the 1, few look rarer than they are when they are more. Where
    next to nothing is expected a spread is so long that no value says anything.
    """
    expected = np.maximum(expected, _LEAST)
    spread = spread / -np.expm1(-expected)
    return (np.log(np.expm1(np.maximum(values, _LEAST))) - np.log(np.expm1(expected))) / spread, spread


def more_calls(structure: Structure, graphs: Graphs) -> Floats:
    """More calls of one label than its caller makes, told at the last of them."""
    place, known = look_up(structure.pairs, pair_codes(graphs, structure.width))
    return _more(structure.at_least, np.where(known, place, -1), callers_of(graphs))


def more_in_all(structure: Structure, graphs: Graphs) -> Floats:
    """More calls of one label than traces of that root have, told at the last of them."""
    place, known = look_up(structure.mixes, mix_codes(graphs, structure.width))
    return _more(structure.held, np.where(known, place, -1), graphs.trace)


def _more(at_least: Places, place: Places, under: Places) -> Floats:
    """The number there is against a smaller usual one and some too many."""
    found = np.full(place.size, np.nan)
    spans, number, which = groups_of(place, under)
    if spans.size == 0:
        return found
    number = np.minimum(number, COUNT_MAX)
    here = _log_share(at_least, which, number)
    prior = 1.0 / _MORE
    # One call at least was meant.
    usual = np.stack([
        np.where(number > more, _log_share(at_least, which, np.maximum(number - more, 1)) - here, -np.inf)
        for more in _MORE
    ])  # fmt: skip
    found[spans] = log_mean(np.maximum(usual, np.log(_RATIO_MIN)), prior)
    return found


def _log_share(at_least: Places, which: Places, number: Places) -> Floats:
    """Of groups with exactly so many, by row of a table of how often there were at least so many.

    Beyond all that was seen each more is as rare as the step to the largest number seen.
    """
    rows = np.arange(at_least.shape[0])
    most = np.maximum((at_least > 0).sum(axis=1) - 1, 0)
    top, below = at_least[rows, most], at_least[rows, np.maximum(most - 1, 0)]
    further = np.where(most > 0, (top + 0.5) / (below + 1.0), 0.5 / (at_least[:, 0] + 1.0))[which]
    inside = np.minimum(number, most[which])
    reached = at_least[which, inside]
    beyond = at_least[which, np.minimum(inside + 1, COUNT_MAX)]
    seen = np.where(inside < most[which], reached - beyond + 0.5, (reached + 0.5) * (1.0 - further))
    return np.asarray(np.log(seen / (at_least[which, 0] + 1.0)) + (number - inside) * np.log(further))


def stuck(structure: Structure, graphs: Graphs) -> Floats:
    """The last steps of a trace are one label again and again until something stops it; told at the last of them."""
    found = np.full(graphs.row.size, np.nan)
    place, known = look_up(structure.mixes, mix_codes(graphs, structure.width))
    run = np.where(known, runs_of(graphs, structure.operations), 0)
    ends = np.flatnonzero(run)
    if ends.size == 0 or structure.steps.size == 0:
        return found
    family = graphs.trace[ends] * (int(structure.operations.max()) + 1) + structure.operations[graphs.label[ends]]
    order = np.lexsort((ends, family))
    begins = np.append(True, np.diff(family[order]) != 0)
    last = ends[order[np.append(begins[1:], True)]]
    steps = np.bincount(np.cumsum(begins) - 1, weights=run[ends[order]])
    length, which = run[last], place[last]
    taken = structure.steps[which] + 1.0
    again = np.log((structure.again[which] + 0.5) / taken)
    over = (structure.last[which] + 0.5) / taken
    goes_on = np.log(np.maximum(1.0 - over, 0.5 / taken))
    prior = 1.0 / _AGAIN
    # The first of the loop is another step after others, or the one that the loop goes on from.
    ratios = np.stack([
        np.logaddexp(
            np.where(length > more, -more * again, -np.inf),
            np.where((length >= more) & (steps > length), -(more - 1) * again - goes_on, -np.inf),
        )
        for more in _AGAIN
    ])  # fmt: skip
    # Being stopped is certain then, and else as likely as any step is the last.
    told = log_mean(np.maximum(ratios, np.log(_RATIO_MIN)), prior) - np.log(over)
    # Of the operations of a trace one is what goes on and on.
    order = np.lexsort((told, graphs.trace[last]))
    best = order[np.append(np.diff(graphs.trace[last][order]) != 0, True)]
    found[last[best]] = told[best]
    return found


def dead(structure: Structure, graphs: Graphs, haste: Floats) -> Floats:
    """One call fails for sure, as failures do or at once: at any time that is shorter. All calls are suspects.

    Args:
        haste: spreads by which own times are below those of failures.
    """
    rare = -np.log((structure.failures + 0.5) / (structure.seen + 1.0))[graphs.label]
    sooner = np.where(haste > 0, haste**2 / 2 + 0.5 * np.log(2 * np.pi) - np.log(_SOONER), -np.inf)
    return np.asarray(np.where(graphs.failed, rare + np.logaddexp(0.0, sooner) - np.log(2.0), np.log(_RATIO_MIN)))


def judged_alone(graphs: Graphs) -> npt.NDArray[np.bool_]:
    """(n,) spans whose own time is one thing: no failure, and no first token that divides it in two."""
    return np.asarray(~graphs.failed & np.isnan(graphs.values[:, 1]))


def calling(graphs: Graphs) -> npt.NDArray[np.bool_]:
    """(n,) spans that call others: their own time is what they do between calls."""
    found = np.zeros(graphs.row.size, bool)
    caller = graphs.whole(graphs.parent)
    found[caller[caller >= 0]] = True
    return found
