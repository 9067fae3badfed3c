"""What trace detectors answer: one surprisal a trace, the evidence it comes from, the spans and edges to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models.anomaly.calibrated import tail_arrays, tail_of
from models.anomaly.scores import Arrays
from models.anomaly.series import Floats
from models.anomaly.tails import Tail
from models.anomaly.trace_graph import REASONS, Graphs, Places

# What each kind of evidence says in words.
FINDINGS: Final = {
    "edge": "a call that was never or hardly ever made",
    "template": "a mix of operations that was never or hardly ever seen",
    "many": "more calls of one operation than its caller ever makes",
    "repeated": "one operation more often than such a trace ever has it",
    "in_a_row": "one service or model in more steps in a row than such a trace ever has it",
    "missing": "an operation is absent that its caller always calls",
    "operation": "an operation that does not fit its place",
    "error": "a failure where hardly any is",
    "failure": "a failure where hardly any is, or sooner than such a failure comes",
    "unexpected_error": "a failure where the trace around it makes none likely",
    "value": "a time or number of tokens far from what is usual for the operation",
    "slow_self": "took longer than such a call takes",
    "slow_between": "took longer itself, between its calls, than such a caller does",
    "slow_first_token": "waited longer for the first token than its input explains",
    "slow_rest": "wrote slower than its output explains",
    "input_tokens": "read far more tokens than such calls read",
    "output_tokens": "wrote far more tokens than such calls write",
    "stuck": "one service or model again and again until the trace ended",
    "more_calls": "more calls of one operation than its caller makes",
    "more_in_all": "one operation more often than such a trace has it",
    "fast": "ended far sooner than such a call does",
    "tokens": "read or wrote far more tokens than such a call does",
}
# A trace must have this share of its operations in the vocabulary, or nothing is known of it.
KNOWN_SHARE_MIN: Final = 0.5
# Traces of one kind in calibration time that make tails of their own.
ROOT_TRACES_MIN: Final = 300
_UNKNOWN: Final = REASONS.index("unknown_operations")

# Of each head: (n,) how unusual each span is by that evidence.
Evidence = Mapping[str, Floats]


@dataclass(frozen=True, slots=True, eq=False)
class TraceScores:
    """One score a trace, in the order of their first rows.

    Attributes:
        trace_ids: t names.
        score: (t,) surprisal -ln(tail probability) against calibration time; NaN where `reason` says why.
        reason: (t,) place in `trace_graph.REASONS`.
        heads: names of the kinds of evidence.
        evidence: (t, heads) surprisal of each, or the logarithm of the ratio that is believed (`trace_odds`).
        suspect: (t, heads) row of the table of the span that each evidence points at, -1 = none.
        caller: (t, heads) row of that span's caller, -1 = none.
    """

    trace_ids: tuple[str, ...]
    score: Floats
    reason: npt.NDArray[np.int8]
    heads: tuple[str, ...]
    evidence: Floats
    suspect: Places
    caller: Places

    def explain(self, number: int, spans: pa.Table, *, most: int = 3) -> list[dict[str, Any]]:
        """The strongest evidence of one trace: what it is, its surprisal, span, caller, and both as edge."""
        told = []
        for head in np.argsort(-self.evidence[number], kind="stable")[:most].tolist():
            if not self.evidence[number, head] > 0:
                break
            named = self.heads[head]
            line: dict[str, Any] = {"evidence": named, "finding": FINDINGS[named]}
            line["surprisal"] = float(self.evidence[number, head])
            for role, rows in (("span", self.suspect), ("caller", self.caller)):
                if (row := int(rows[number, head])) >= 0:
                    parts = ("span_id", "operation", "service", "model")
                    line[role] = {name: spans[name][row].as_py() for name in parts if name in spans.column_names}
            told.append(line)
        return told


class FittedTraces(Protocol):
    """A detector ready to score traces."""

    @property
    def kind(self) -> str:
        """Its name in TRACE_DETECTORS."""

    def score(self, spans: pa.Table) -> TraceScores:
        """Score every trace of the table; see `trace_graph.build` for its columns.

        Raises:
            SpansInvalid, NotEnoughData.
        """

    def arrays(self) -> Arrays:
        """All it learned, for `load`; no objects inside."""

    def configuration(self) -> dict[str, Any]:
        """What `load` needs beside the arrays, as JSON."""


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """Tails of each kind of evidence and of their maximum, from calibration time.

    Long traces have more spans that could be the largest, so that each kind of request, by the label of its root, has
    tails of its own where there are enough of it.

    Attributes:
        roots: labels with tails of their own, -1 for all others.
        tails: for each of them, of each head; `fused`: of the largest surprisal.
    """

    roots: tuple[int, ...]
    tails: tuple[dict[str, Tail], ...]
    fused: tuple[Tail, ...]

    @staticmethod
    def fit(evidence: Evidence, graphs: Graphs) -> Heads:
        """From spans of calibration time.

        Raises:
            NotEnoughData: too few traces.
        """
        highest, _ = highest_of(evidence, graphs)
        roots, tails, fused = [], [], []
        for root, rows in calibration_rows(graphs):
            own = highest[rows]
            roots.append(root)
            tails.append({name: Tail.fit(raw) for name, raw in zip(evidence, own.T, strict=True)})
            fused.append(Tail.fit(_surprise(tails[-1], own).max(axis=1)))
        return Heads(tuple(roots), tuple(tails), tuple(fused))

    def judge(self, evidence: Evidence, graphs: Graphs) -> TraceScores:
        """Surprisal of every trace: the maximum over the heads, itself calibrated."""
        highest, place = highest_of(evidence, graphs)
        surprisal, score = np.zeros_like(highest), np.zeros(graphs.traces)
        for own, tails, fused in zip(judged_rows(graphs, self.roots), self.tails, self.fused, strict=True):
            surprisal[own] = _surprise(tails, highest[own])
            score[own] = fused.surprise(surprisal[own].max(axis=1, initial=0.0))
        return scored(graphs, score, (tuple(evidence), surprisal, place))

    def arrays(self) -> Arrays:
        """For `restore`."""
        found = root_arrays(self.roots, self.tails)
        for number, fused in enumerate(self.fused):
            found |= tail_arrays(fused, f"fused.{number}")
        return found

    @staticmethod
    def restore(arrays: Arrays, names: list[str]) -> Heads:
        """Inverse of `arrays`."""
        roots, tails = root_tails(arrays, names)
        return Heads(roots, tails, tuple(tail_of(arrays, f"fused.{number}") for number in range(len(roots))))


def scored(graphs: Graphs, score: Floats, found: tuple[tuple[str, ...], Floats, Places]) -> TraceScores:
    """Answers of all traces; those that are no graph, or of which too little is known, with their reason instead.

    Args:
        found: kinds of evidence; (t, heads) what each trace has of them, and the span that has it.
    """
    names, evidence, place = found
    reasons = graphs.reasons.copy()
    reasons[(reasons == 0) & (_known_share(graphs) < KNOWN_SHARE_MIN)] = _UNKNOWN
    caller = np.append(graphs.whole(graphs.parent), -1)[place]
    rows = np.append(graphs.row, -1)
    score = np.where(reasons != 0, np.nan, score)
    return TraceScores(graphs.trace_ids, score, reasons, names, evidence, suspect=rows[place], caller=rows[caller])


def root_labels(graphs: Graphs) -> Places:
    """(t,) label of the first span of each trace, -1 without spans."""
    held = np.diff(graphs.first) > 0
    return np.where(held, np.append(graphs.label, -1)[graphs.first[:-1]], -1)


def calibration_rows(graphs: Graphs) -> list[tuple[int, npt.NDArray[np.bool_]]]:
    """The traces that tails are fitted to: all with spans as -1, and those of each root that has enough."""
    label = root_labels(graphs)
    frequent = np.flatnonzero(np.bincount(label[label >= 0]) >= ROOT_TRACES_MIN).tolist()
    return [(-1, label >= 0), *((root, label == root) for root in frequent)]


def judged_rows(graphs: Graphs, roots: tuple[int, ...]) -> list[npt.NDArray[np.bool_]]:
    """The traces that the tails of each root judge; those of -1 judge all others."""
    label = root_labels(graphs)
    which = np.where(np.isin(label, roots), label, -1)
    return [which == root for root in roots]


def root_arrays(roots: tuple[int, ...], tails: tuple[dict[str, Tail], ...]) -> Arrays:
    """Roots and the tails of each, for `root_tails`."""
    found: Arrays = {"roots": np.array(roots)}
    for number, heads in enumerate(tails):
        for name, tail in heads.items():
            found |= tail_arrays(tail, f"head.{number}.{name}")
    return found


def root_tails(arrays: Arrays, names: list[str]) -> tuple[tuple[int, ...], tuple[dict[str, Tail], ...]]:
    """Inverse of `root_arrays`."""
    roots = tuple(arrays["roots"].tolist())
    numbers = range(len(roots))
    return roots, tuple({name: tail_of(arrays, f"head.{number}.{name}") for name in names} for number in numbers)


def _known_share(graphs: Graphs) -> Floats:
    count = np.diff(graphs.first)
    known = np.bincount(graphs.trace, weights=graphs.label > 0, minlength=graphs.traces)
    return np.where(count > 0, known / np.maximum(count, 1), 0.0)


def highest_of(evidence: Evidence, graphs: Graphs) -> tuple[Floats, Places]:
    """(t, heads) the largest of each trace and the span that has it; 0 and -1 without spans."""
    count, trace = graphs.traces, graphs.trace
    highest, place = np.zeros((count, len(evidence))), np.full((count, len(evidence)), -1)
    if graphs.row.size:
        held = np.flatnonzero(np.diff(graphs.first) > 0)
        for number, values in enumerate(evidence.values()):
            highest[held, number] = np.maximum.reduceat(values, graphs.first[held])
            equal = np.flatnonzero(values == highest[trace, number])
            # The first span that reaches it; written backwards, so that it is written last.
            place[trace[equal[::-1]], number] = equal[::-1]
    return highest, place


def _surprise(tails: Mapping[str, Tail], highest: Floats) -> Floats:
    return np.stack([tail.surprise(raw) for tail, raw in zip(tails.values(), highest.T, strict=True)], axis=1)
