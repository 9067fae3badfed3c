"""Spans of many traces, as columns, to graphs: who called whom, what came before, what a span did itself.

No object is made for a span. A trace that cannot be a graph is set aside with its reason; the others go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.anomaly.refusals import NotEnoughData, SpansInvalid
from models.anomaly.series import Matrix

Places = npt.NDArray[np.int64]

NEEDED: Final = ("trace_id", "span_id", "operation", "occurred_at", "latency_ms")
LABEL_PARTS: Final = ("operation", "service", "model")
VALUES: Final = ("self_ms", "ttft_ms", "rest_ms", "input_tokens", "output_tokens")
LABELS_MAX: Final = 512
_JOINED: Final = " · "
# A longer trace is a log, not a request; its graph would hold up all others.
SPANS_PER_TRACE_MAX: Final = 10_000
SPANS_MAX: Final = 5_000_000
# Why a trace is not scored; its place is its code.
REASONS: Final = ("", "too_many_spans", "cyclic_parents", "unknown_operations")
_FAILED: Final = ("error", "timeout", "failed", "failure")
# Beyond this a clock is wrong: 30 years of milliseconds.
_MS_MAX: Final = 1e12


@dataclass(frozen=True, slots=True, eq=False)
class Graphs:
    """Spans in order of trace and start.

    Attributes:
        trace_ids: t names; traces are numbered in the order of their first row.
        reasons: (t,) place in REASONS; a trace with one has no spans here.
        first: (t + 1,) first span of each trace.
        row: (n,) row of the table each span came from.
        label: (n,) place in the vocabulary, 0 = unknown.
        parent, previous: (n,) place within the trace of the caller and of the sibling before, -1 = none.
        position: (n,) how many siblings began earlier.
        depth: (n,) 0 = root.
        failed: (n,) whether the span ended in an error.
        values: (n, VALUES) natural logarithm of 1 + value, NaN = not told. `self_ms` leaves out what children took.
        started_us: (t,) earliest start.
    """

    trace_ids: tuple[str, ...]
    reasons: npt.NDArray[np.int8]
    first: Places
    row: Places
    label: Places
    parent: Places
    previous: Places
    position: Places
    depth: Places
    failed: npt.NDArray[np.bool_]
    values: Matrix
    started_us: Places

    @property
    def traces(self) -> int:
        """How many, those without spans too."""
        return len(self.trace_ids)

    @property
    def trace(self) -> Places:
        """(n,) number of the trace of each span."""
        return np.repeat(np.arange(self.traces), np.diff(self.first))

    def take(self, chosen: Places) -> Graphs:
        """These traces, in this order."""
        count = np.diff(self.first)[chosen]
        first = np.concatenate(([0], np.cumsum(count)))
        spans = np.arange(first[-1]) + np.repeat(self.first[chosen] - first[:-1], count)
        columns = ("row", "label", "parent", "previous", "position", "depth", "failed", "values")
        held: dict[str, Any] = {name: getattr(self, name)[spans] for name in columns}
        names = tuple(self.trace_ids[number] for number in chosen.tolist())
        return Graphs(names, self.reasons[chosen], first, started_us=self.started_us[chosen], **held)

    def whole(self, places: Places) -> Places:
        """Places within the trace as places among all spans; -1 stays."""
        return np.where(places < 0, -1, places + self.first[self.trace])


def labels_of(spans: pa.Table) -> pa.ChunkedArray:
    """What each span is: operation, service and model, those it has, joined."""
    parts = [_text(spans, name) for name in LABEL_PARTS if name in spans.column_names]
    return pc.binary_join_element_wise(*parts, _JOINED, null_handling="skip")


def vocabulary_of(spans: pa.Table) -> tuple[str, ...]:
    """The LABELS_MAX most frequent labels, by name."""
    check(spans)
    counted = pc.value_counts(labels_of(spans).combine_chunks())
    pairs = sorted(zip(counted.field(1).to_pylist(), counted.field(0).to_pylist(), strict=True), reverse=True)
    return tuple(sorted(name for _, name in pairs[:LABELS_MAX] if name is not None))


def operations_of(vocabulary: Sequence[str]) -> Places:
    """(labels,) a number for the operation of each label, that of other services and models as well; 0 unknown."""
    operations = [name.split(_JOINED)[0] for name in vocabulary]
    return np.array([0, *np.unique(operations, return_inverse=True)[1] + 1], np.int64)


def check(spans: pa.Table) -> None:
    """Raises SpansInvalid, and NotEnoughData without any span."""
    if absent := [name for name in NEEDED if name not in spans.column_names]:
        raise SpansInvalid(f"spans have no {', '.join(absent)}", hint=f"Send at least {', '.join(NEEDED)}.")
    if len(spans) > SPANS_MAX:
        raise SpansInvalid(f"{len(spans)} spans; at most {SPANS_MAX} are allowed", hint="Send fewer traces at a time.")
    if len(spans) == 0:
        raise NotEnoughData("no spans", hint="Widen the range or the filter.")
    for name in ("trace_id", "span_id"):
        if spans[name].null_count:
            row = pc.index(pc.is_null(spans[name]), True).as_py()
            raise SpansInvalid(f"{name} of row {row} is missing", hint="Leave out what is no span.")


def build(spans: pa.Table, vocabulary: Sequence[str]) -> Graphs:
    """Graphs of all traces in the table; rows may be in any order, of spans told twice the first row counts.

    Args:
        spans: NEEDED columns, and of parent_span_id, service, model, status, ttft_ms, input_tokens, output_tokens
            those there are, with the types of the event schema or such as become them.

    Raises:
        SpansInvalid, NotEnoughData.
    """
    check(spans)
    coded = spans["trace_id"].combine_chunks().dictionary_encode()
    traces = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    names = tuple(str(name) for name in coded.dictionary.to_pylist())
    reasons = np.zeros(len(names), np.int8)
    reasons[np.bincount(traces, minlength=len(names)) > SPANS_PER_TRACE_MAX] = 1
    start_us = _instants(spans)
    key, caller = _keys(spans, traces)
    kept = np.unique(key, return_index=True)[1]
    kept = kept[reasons[traces[kept]] == 0]
    kept = kept[np.lexsort((kept, start_us[kept], traces[kept]))]
    parent = _rows_of(caller[kept], key[kept])
    depth, cyclic = depths(parent)
    if cyclic.any():
        reasons[traces[kept[cyclic]]] = 2
        stay = reasons[traces[kept]] == 0
        kept, parent, depth = _renumber(kept, parent, depth, stay)
    return _assemble(spans, names, reasons, (kept, traces, start_us, parent, depth), vocabulary=vocabulary)


def _assemble(
    spans: pa.Table,
    names: tuple[str, ...],
    reasons: npt.NDArray[np.int8],
    found: tuple[Places, Places, Places, Places, Places],
    *,
    vocabulary: Sequence[str],
) -> Graphs:
    kept, traces, start_us, parent, depth = found
    trace = traces[kept]
    first = np.concatenate(([0], np.cumsum(np.bincount(trace, minlength=len(names)))))
    started = np.full(len(names), np.iinfo(np.int64).max)
    np.minimum.at(started, traces, start_us)
    start = start_us[kept] - started[trace]
    latency = _numbers(spans, "latency_ms")[kept]
    own, previous, position = _siblings(start, latency, parent, trace)
    ttft = _numbers(spans, "ttft_ms")[kept]
    tokens = [_numbers(spans, name)[kept] for name in ("input_tokens", "output_tokens")]
    rest = np.where(np.isnan(ttft), np.nan, np.maximum(own - ttft, 0))
    values = np.log1p(np.stack((own, ttft, rest, *tokens), axis=1)).astype(np.float32)
    label = pc.index_in(labels_of(spans), pa.array(vocabulary, pa.string())).fill_null(-1).to_numpy()
    within = first[trace]
    failed = np.zeros(len(spans), bool)
    if "status" in spans.column_names:
        failed = np.asarray(pc.is_in(_text(spans, "status"), pa.array(_FAILED)).to_numpy(), bool)
    return Graphs(
        names,
        reasons,
        first,
        kept,
        label[kept].astype(np.int64) + 1,
        np.where(parent < 0, -1, parent - within),
        np.where(previous < 0, -1, previous - within),
        position,
        depth,
        failed[kept],
        values,
        started,
    )


def _text(spans: pa.Table, name: str) -> pa.ChunkedArray:
    try:
        return pc.cast(spans[name], pa.string())
    except pa.ArrowException as error:
        raise SpansInvalid(f"{name} is not text: {error}") from error


def _numbers(spans: pa.Table, name: str) -> npt.NDArray[np.float64]:
    """NaN = missing, negative, infinite or absurd."""
    if name not in spans.column_names:
        return np.full(len(spans), np.nan)
    try:
        found = pc.cast(spans[name], pa.float64()).to_numpy()
    except pa.ArrowException as error:
        raise SpansInvalid(f"{name} are no numbers: {error}") from error
    return np.where((found >= 0) & (found < _MS_MAX), found, np.nan)


def _instants(spans: pa.Table) -> Places:
    try:
        found = spans["occurred_at"]
        if pa.types.is_timestamp(found.type):
            found = pc.cast(pc.cast(found, pa.timestamp("us", found.type.tz), safe=False), pa.int64())
        return np.asarray(pc.cast(found, pa.int64()).fill_null(0).to_numpy(), np.int64)
    except pa.ArrowException as error:
        raise SpansInvalid(f"occurred_at are no instants: {error}") from error


def _keys(spans: pa.Table, traces: Places) -> tuple[Places, Places]:
    """Of each row a number for (trace, span) and one for (trace, parent), -1 without a parent or a known one."""
    own = _text(spans, "span_id").combine_chunks().dictionary_encode()
    code = own.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    count = len(own.dictionary)
    if "parent_span_id" not in spans.column_names:
        return traces * count + code, np.full(code.size, -1)
    named = pc.index_in(_text(spans, "parent_span_id"), own.dictionary).fill_null(-1).to_numpy().astype(np.int64)
    return traces * count + code, np.where(named < 0, -1, traces * count + named)


def _rows_of(wanted: Places, key: Places) -> Places:
    """Place of each wanted key, -1 where there is none: an orphan is a root."""
    order = np.argsort(key)
    place = np.minimum(np.searchsorted(key, wanted, sorter=order), max(key.size - 1, 0))
    found = order[place] if key.size else place
    return np.where((wanted >= 0) & (key[found] == wanted), found, -1) if key.size else wanted


def depths(parent: Places) -> tuple[Places, npt.NDArray[np.bool_]]:
    """(n,) steps to the root, and whether there is none because callers go round, by doubling the steps."""
    count = parent.size
    above = np.where(parent < 0, count, parent)
    above = np.append(above, count)
    depth = np.append((parent >= 0).astype(np.int64), 0)
    for _ in range(max(count, 1).bit_length()):
        if (above == count).all():
            break
        depth = depth + depth[above]
        above = above[above]
    return depth[:-1], above[:-1] != count


def _renumber(
    kept: Places, parent: Places, depth: Places, stay: npt.NDArray[np.bool_]
) -> tuple[Places, Places, Places]:
    moved = np.cumsum(stay) - 1
    parent = np.where(parent < 0, -1, moved[parent])
    return kept[stay], parent[stay], depth[stay]


def _siblings(
    start: Places, latency: npt.NDArray[np.float64], parent: Places, trace: Places
) -> tuple[npt.NDArray[np.float64], Places, Places]:
    """Own time, sibling before and number of siblings before, of spans in order of trace and start."""
    count = start.size
    group = np.where(parent < 0, count + trace, parent)
    order = np.lexsort((np.arange(count), start, group))
    grouped, begin = group[order], start[order]
    opens = np.concatenate(([True], grouped[1:] != grouped[:-1])) if count else np.zeros(0, bool)
    previous = np.full(count, -1)
    previous[order[1:]] = np.where(opens[1:], -1, order[:-1])
    position = np.empty(count, np.int64)
    ranks = np.arange(count)
    position[order] = ranks - np.maximum.accumulate(np.where(opens, ranks, 0)) if count else ranks
    took = np.nan_to_num(latency)
    stop = np.minimum(begin + np.round(took[order] * 1_000).astype(np.int64), begin + 10**15)
    # Time that siblings share counts once: what earlier ones already covered is taken off.
    family = np.cumsum(opens) - 1
    reach = int(stop.max(initial=0) - begin.min(initial=0)) + 1
    covered = np.full(count, np.iinfo(np.int64).min)
    if count and reach < np.iinfo(np.int64).max // (int(family[-1]) + 2):
        latest = np.maximum.accumulate(stop + family * reach) - family * reach
        covered[1:] = np.where(opens[1:], covered[1:], latest[:-1])
    within = parent[order] >= 0
    caller = np.where(within, parent[order], 0)
    ends = np.minimum(stop, start[caller] + np.round(took[caller] * 1_000).astype(np.int64))
    share = np.where(within, np.maximum(ends - np.maximum(begin, np.maximum(covered, start[caller])), 0), 0) / 1_000
    children = np.bincount(caller[within], weights=share[within], minlength=count) if count else share
    return np.where(np.isnan(latency), np.nan, np.maximum(latency - children, 0)), previous, position
