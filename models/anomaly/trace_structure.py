"""How rare the shape of a trace is: its calls, their numbers, its mix of operations. Counted, not learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.anomaly.scores import Arrays
from models.anomaly.series import Floats
from models.anomaly.trace_graph import Graphs, Places

# Calls beyond this number count as this many.
COUNT_MAX: Final = 255
# An operation is expected when at least this share of its callers call it.
EXPECTED_SHARE: Final = 0.9
_HASH_SEED: Final = 20_261_129
_COLUMNS: Final = (
    *("callers", "pairs", "calls", "at_least", "mixes", "held", "operations", "runs"),
    *("failures", "seen", "templates", "template_counts", "steps", "again", "last"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Structure:
    """Counts of fitting time; labels are places in the vocabulary, 0 unknown, and -1, no caller, is kept as `width`.

    Attributes:
        width: number of labels, the unknown one included.
        callers: (width + 1,) how many spans of each label there were, traces for the last.
        pairs: (p,) rising codes of (caller, label).
        calls: (p,) spans of each pair.
        at_least: (p, COUNT_MAX + 1) callers with at least so many calls of the label.
        mixes, held: as pairs and at_least, of the root's label and a label, counted over whole traces.
        operations: (width,) of each label; see `trace_graph.operations_of`.
        runs: as held, traces in which so many callers in a row or more called the label, and no other service or model
            of the same operation in between; without rows in models of before.
        failures, seen: (width,) failed and all spans of each label.
        steps, again, last: (mixes,) steps that call the label, those that do so once more, and those after which no
            step of that operation follows; empty in models of before.
        templates: (q,) rising hashes of mixes of operations, `template_counts`: traces with each.
    """

    width: int
    callers: Places
    pairs: Places
    calls: Places
    at_least: Places
    mixes: Places
    held: Places
    operations: Places
    runs: Places
    failures: Places
    seen: Places
    templates: npt.NDArray[np.uint64]
    template_counts: Places
    steps: Places
    again: Places
    last: Places

    @staticmethod
    def fit(graphs: Graphs, operations: Places) -> Structure:
        """Count over all traces."""
        width = operations.size
        code = pair_codes(graphs, width)
        pairs, place, calls = np.unique(code, return_inverse=True, return_counts=True)
        callers = np.append(np.bincount(graphs.label, minlength=width), graphs.traces)
        at_least = _at_least(graphs, place, callers_of(graphs), callers[pairs // width])
        code = mix_codes(graphs, width)
        mixes, place = np.unique(code, return_inverse=True)
        roots = np.bincount(_root_labels(graphs), minlength=width)
        held = _at_least(graphs, place, graphs.trace, roots[mixes // width])
        run = runs_of(graphs, operations)
        steps = _steps(run, place, graphs, operations, count=mixes.size)
        runs = _longest(run, place, graphs.trace, roots[mixes // width])
        templates, counts = np.unique(_templates(graphs, width), return_counts=True)
        failures = np.bincount(graphs.label[graphs.failed], minlength=width)
        return Structure(
            width, callers, pairs, calls, at_least, mixes, held, operations, runs,
            failures, callers[:-1], templates, counts, *steps,
        )  # fmt: skip

    def evidence(self, graphs: Graphs) -> dict[str, Floats]:
        """(n,) surprisal of each span as `edge`, `many`, `repeated`, `in_a_row`, `missing`, `template`, `error`."""
        code = pair_codes(graphs, self.width)
        place, known = look_up(self.pairs, code)
        callers = self.callers[code // self.width]
        calls = np.where(known, self.calls[place], 0) if self.pairs.size else np.zeros(code.size)
        edge = -np.log((calls + 0.5) / (callers + 1.0))
        mix, mixed = look_up(self.mixes, mix_codes(graphs, self.width))
        found = {
            "edge": np.maximum(edge, 0.0),
            "many": _many(self.at_least, np.where(known, place, -1), callers_of(graphs)),
            "repeated": _many(self.held, np.where(mixed, mix, -1), graphs.trace),
            "missing": self._missing(graphs, code),
            "template": self._template(graphs),
            "error": np.where(graphs.failed, -np.log((self.failures + 0.5) / (self.seen + 1.0))[graphs.label], 0.0),
        }
        if self.runs.shape[0]:
            run = np.where(mixed, runs_of(graphs, self.operations), 0)
            ends = np.flatnonzero(run)
            found["in_a_row"] = np.zeros(run.size)
            found["in_a_row"][ends] = _surprisal(self.runs, mix[ends], run[ends])
        return found

    def _missing(self, graphs: Graphs, code: Places) -> Floats:
        """Told at the caller that should have called."""
        found = np.zeros(graphs.row.size)
        caller = self.pairs // self.width
        absent = self.callers[caller] - self.at_least[:, 1]
        usual = self.at_least[:, 1] >= EXPECTED_SHARE * self.callers[caller]
        expected = np.flatnonzero((caller < self.width) & usual)
        if expected.size == 0 or graphs.row.size == 0:
            return found
        parent = graphs.whole(graphs.parent)
        made = np.unique(np.where(parent < 0, graphs.row.size, parent) * self.width + code % self.width)
        for pair in expected.tolist():
            spans = np.flatnonzero(graphs.label == caller[pair])
            wanted = spans * self.width + self.pairs[pair] % self.width
            lacking = spans[~np.isin(wanted, made, assume_unique=True)]
            surprisal = -np.log((absent[pair] + 0.5) / (self.callers[caller[pair]] + 1.0))
            found[lacking] = np.maximum(found[lacking], surprisal)
        return found

    def _template(self, graphs: Graphs) -> Floats:
        """Told at the root."""
        place, known = look_up(self.templates, _templates(graphs, self.width))
        count = np.where(known, self.template_counts[place], 0)
        surprisal = -np.log((count + 0.5) / (self.callers[-1] + 1.0))
        return np.where(graphs.depth == 0, np.maximum(surprisal, 0.0)[graphs.trace], 0.0)

    def arrays(self) -> Arrays:
        """For `restore`."""
        return {f"structure.{name}": getattr(self, name) for name in _COLUMNS}

    @staticmethod
    def restore(arrays: Arrays, width: int) -> Structure:
        """Inverse of `arrays`."""
        # Models of before know no runs.
        held: dict[str, Any] = {"operations": np.arange(width), "runs": np.zeros((0, COUNT_MAX + 1), np.int64)}
        held |= {name: np.zeros(0, np.int64) for name in ("steps", "again", "last")}
        held |= {name.removeprefix("structure."): one for name, one in arrays.items() if name.startswith("structure.")}
        found = Structure(width, **held)
        if found.callers.shape != (width + 1,) or found.seen.shape != (width,):
            raise ValueError(f"callers have shape {found.callers.shape} for {width} labels")
        sizes = (found.at_least.shape, found.held.shape)
        if sizes != ((found.pairs.size, COUNT_MAX + 1), (found.mixes.size, COUNT_MAX + 1)):
            raise ValueError(f"calls have shape {found.at_least.shape} for {found.pairs.size} pairs")
        if found.operations.shape != (width,) or found.runs.shape not in (sizes[1], (0, COUNT_MAX + 1)):
            raise ValueError(f"runs have shape {found.runs.shape} for {found.mixes.size} mixes")
        if any(one.shape not in (found.mixes.shape, (0,)) for one in (found.steps, found.again, found.last)):
            raise ValueError(f"steps have shape {found.steps.shape} for {found.mixes.size} mixes")
        return found


def pair_codes(graphs: Graphs, width: int) -> Places:
    parent = graphs.whole(graphs.parent)
    caller = np.where(parent < 0, width, np.append(graphs.label, 0)[parent])
    return np.asarray(caller * width + graphs.label)


def callers_of(graphs: Graphs) -> Places:
    """(n,) who called: a span, or beyond all spans the trace itself."""
    parent = graphs.whole(graphs.parent)
    return np.where(parent < 0, graphs.row.size + graphs.trace, parent)


def _root_labels(graphs: Graphs) -> Places:
    """Label of the first span of each trace that has spans."""
    return np.asarray(graphs.label[graphs.first[:-1][np.diff(graphs.first) > 0]])


def mix_codes(graphs: Graphs, width: int) -> Places:
    roots = np.append(graphs.label, 0)[graphs.first[:-1]]
    return np.asarray(roots[graphs.trace] * width + graphs.label)


def groups_of(place: Places, under: Places) -> tuple[Places, Places, Places]:
    """The last span of each group of the same pair (>= 0) under the same one, the size of the group, its pair."""
    inside = np.flatnonzero(place >= 0)
    order = np.lexsort((inside, place[inside], under[inside]))
    changed = (np.diff(under[inside][order]) != 0) | (np.diff(place[inside][order]) != 0)
    ends = np.flatnonzero(np.append(changed, True)) if order.size else np.zeros(0, np.int64)
    last = inside[order[ends]]
    return last, np.diff(ends, prepend=-1), place[last]


def _at_least(graphs: Graphs, place: Places, under: Places, total: Places) -> Places:
    """(pairs, COUNT_MAX + 1) groups with at least so many; all of `total` have none or more."""
    _, number, which = groups_of(place, under)
    return _cumulated(which, number, total)


def _cumulated(which: Places, number: Places, total: Places) -> Places:
    """(rows, COUNT_MAX + 1) how many of each row are at least so many; of none or more all."""
    found = np.zeros((total.size, COUNT_MAX + 2), np.int64)
    np.add.at(found, (which, np.minimum(number, COUNT_MAX)), 1)
    found = found[:, ::-1].cumsum(axis=1)[:, ::-1][:, :-1]
    found[:, 0] = total
    return np.ascontiguousarray(found)


def _many(at_least: Places, place: Places, under: Places) -> Floats:
    """(n,) surprisal of so many of a pair (>= 0) under the same one, told at the last of them."""
    found = np.zeros(place.size)
    spans, number, which = groups_of(place, under)
    found[spans] = _surprisal(at_least, which, number)
    return found


def _surprisal(at_least: Places, which: Places, number: Places) -> Floats:
    """Of so many, by row of a table of how often there were at least so many."""
    reached = at_least[which, np.minimum(number, COUNT_MAX)]
    surprisal = -np.log((reached + 0.5) / (at_least[which, 0] + 1.0))
    # Beyond all that was seen, further is rarer still.
    most = np.maximum((at_least > 0).sum(axis=1)[which] - 1, 1)
    return np.asarray(np.maximum(surprisal, 0.0) + np.maximum(number / most - 1.0, 0.0))


def runs_of(graphs: Graphs, operations: Places) -> Places:
    """(n,) how many callers in a row called the label of each span, no other of its operation; 0 = more follow.

    Several calls by one caller are one: they are no step further.
    """
    count = graphs.row.size
    found = np.zeros(count, np.int64)
    if count == 0:
        return found
    operation = operations[graphs.label]
    order = np.lexsort((np.arange(count), operation, graphs.trace))
    changed = [np.diff(one[order]) != 0 for one in (graphs.trace, operation, graphs.label, callers_of(graphs))]
    begins = np.append(True, changed[0] | changed[1] | changed[2])
    steps = np.cumsum(begins | np.append(True, changed[3]))
    first = steps[np.flatnonzero(begins)][np.cumsum(begins) - 1]
    last = np.append(begins[1:], True)
    found[order[last]] = (steps - first + 1)[last]
    return found


def _steps(
    run: Places, place: Places, graphs: Graphs, operations: Places, *, count: int
) -> tuple[Places, Places, Places]:
    """Of each of `count` pairs its steps, those that repeat the one before, and the last ones of their operation."""
    ends = np.flatnonzero(run)
    steps, again, last = (np.zeros(count, np.int64) for _ in range(3))
    np.add.at(steps, place[ends], run[ends])
    np.add.at(again, place[ends], run[ends] - 1)
    family = graphs.trace[ends] * (int(operations.max(initial=0)) + 1) + operations[graphs.label[ends]]
    order = np.lexsort((ends, family))
    np.add.at(last, place[ends[order[np.append(np.diff(family[order]) != 0, True)]]] if ends.size else ends, 1)
    return steps, again, last


def _longest(run: Places, place: Places, trace: Places, total: Places) -> Places:
    """As `_at_least`, of the longest run of each pair in each trace."""
    key, which = np.unique(trace * max(total.size, 1) + place, return_inverse=True)
    longest = np.zeros(key.size, np.int64)
    np.maximum.at(longest, which, run)
    return _cumulated(key % max(total.size, 1), longest, total)


def _templates(graphs: Graphs, width: int) -> npt.NDArray[np.uint64]:
    """(t,) a hash of how often each label is in each trace: sums of random numbers, modulo 2^64."""
    key = np.random.default_rng(_HASH_SEED).integers(0, 2**64, width, np.uint64)
    total = np.concatenate((np.zeros(1, np.uint64), np.cumsum(key[graphs.label])))
    return np.asarray(total[graphs.first[1:]] - total[graphs.first[:-1]])


def look_up(rising: npt.NDArray, wanted: npt.NDArray) -> tuple[Places, npt.NDArray[np.bool_]]:
    place = np.minimum(np.searchsorted(rising, wanted), max(rising.size - 1, 0))
    return place, rising[place] == wanted if rising.size else np.zeros(wanted.size, bool)
