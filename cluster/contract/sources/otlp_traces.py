"""An OTLP trace export request in protobuf -> events, without an object for each span.

Compiled code scans the body, spans alike share a plan, columns are filled from places in the body. Spans that are
not plain (events, links, nested values, values of unusual types) are parsed and read one by one, and put in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from cluster.contract.byte_runs import Bytes
from cluster.contract.event import ATTRIBUTES_BYTES_MAX
from cluster.contract.normalise import seal
from cluster.contract.rows import DecodeContext, Decoded, RawRows, Refusal
from cluster.contract.sources.otlp_columns import PlainSpans
from cluster.contract.sources.otlp_documents import Scanned, Templates, attribute_sizes, measure_values
from cluster.contract.sources.otlp_plans import Plan, Signature, attributes_of, plan_of, pool_bases
from cluster.contract.sources.otlp_rows import OtlpRows, refuse_request
from cluster.contract.sources.otlp_scan import (
    DOUBLE,
    ID_INVALID,
    ODD,
    PLAIN,
    SHAPES_MAX,
    TIMES_INVALID,
    Tables,
    outline,
    read_spans,
    tables,
)
from cluster.contract.sources.otlp_spans import ID_REFUSAL, add_span, times_refusal
from cluster.contract.sources.otlp_wire import framed

Ordinals = npt.NDArray[np.int64]

_NO_ROWS: Final = RawRows({}, np.empty(0, np.int64), lambda index: b"", 0)


def read_traces(body: bytes, context: DecodeContext) -> Decoded | None:
    """The outcome of a protobuf body, or None where the parser of the protobuf library is to say what it is.

    Raises:
        BodyTooLarge: more rows than the context allows.
    """
    body = bytes(body)
    view = np.frombuffer(body, np.uint8)
    into = tables(0, 0, 0)
    if not outline(view, into) or not 0 < into.counts[1] <= context.rows_max:
        return None
    into = tables(*into.counts.tolist())
    outline(view, into)
    used, shapes = read_spans(view, into)
    into = into._replace(attributes=into.attributes[:used], shapes=into.shapes[:shapes])
    try:
        rows = _Request(body, view, into).rows(context)
    except DecodeError:
        return None
    return None if rows is None else seal(rows, context)


class _Request:
    """One body after the scan."""

    def __init__(self, body: bytes, view: Bytes, into: Tables) -> None:
        self._body = body
        self._tables = into
        self._spans = into.spans
        self._scanned = Scanned(view, into.spans, into.attributes, np.full(len(into.spans), -1, np.int64))
        self._scopes, self._scope_of = self._distinct_scopes()
        self._shared = [attributes_of(*scope) for scope in self._scopes]

    def rows(self, context: DecodeContext) -> RawRows | None:
        """All rows, or None where no span is plain.

        Raises:
            DecodeError: a span is not what it should be.
            BodyTooLarge: more rows than the context allows.
        """
        plans = self._plan()
        if not plans:
            return None
        templates = _templates(plans, self._doubles())
        measure_values(self._scanned.attributes, self._scanned.body, templates.doubles)
        sizes = np.zeros(len(self._spans), np.int64)
        attribute_sizes(self._scanned, templates, sizes)
        # What is too long moves to the payload, which is for the reader of single spans.
        self._scanned.plans[sizes > ATTRIBUTES_BYTES_MAX] = -1
        plain = np.flatnonzero(self._scanned.plans >= 0)
        if not len(plain):
            return None
        form = self._spans["form"]
        odd = np.flatnonzero((form == ODD) | ((form == PLAIN) & (self._scanned.plans < 0)))
        others = _OddSpans(odd, self._parsed(odd), context, [self._shared[n] for n in self._scope_of[odd].tolist()])
        first = others.first_indexes(len(self._spans))
        if first[-1] > context.rows_max:
            refuse_request(context.rows_max)
        columns = PlainSpans(self._scanned, plans, templates).columns(plain, sizes[plain])
        indexes = first[plain]
        if len(odd):
            columns, indexes = _merged(columns, indexes, others.raw)
        return RawRows(
            columns=columns,
            indexes=indexes,
            original=lambda index: self._original(index, first, others),
            row_count=int(first[-1]),
            refused=sorted([*self._refused(first), *others.refused()], key=lambda refusal: refusal.index),
            place=lambda index: f"span {index}",
        )

    def _distinct_scopes(self) -> tuple[list[tuple[bytes, bytes]], Ordinals]:
        """(resource, scope) as sent, and the number of each span's. Exporters send many alike."""
        body = self._body
        numbers: dict[tuple[bytes, bytes], int] = {}
        ordinals = np.empty(len(self._tables.scopes), np.int64)
        for row, (first, last, start, stop) in enumerate(self._tables.scopes.tolist()):
            ordinals[row] = numbers.setdefault((body[first:last], body[start:stop]), len(numbers))
        return list(numbers), ordinals[self._spans["scope"]]

    def _plan(self) -> list[Plan]:
        """Plans of the plain spans; `plans` has the number of each one's."""
        plain = np.flatnonzero(self._spans["form"] == PLAIN)
        pairs = self._scope_of[plain] * SHAPES_MAX + self._spans["shape"][plain]
        if len(self._scopes) * len(self._tables.shapes) == 1:
            found, kinds = pairs[:1], np.zeros(len(pairs), np.int64)
        else:
            found, kinds = np.unique(pairs, return_inverse=True)
        plans: list[Plan] = []
        numbers = np.full(len(found), -1, np.int64)
        for place, (scope, shape) in enumerate(
            zip(*(part.tolist() for part in np.divmod(found, SHAPES_MAX)), strict=True)
        ):
            plan = plan_of(self._signature(scope, shape))
            if plan is not None:
                numbers[place] = len(plans)
                plans.append(plan)
        self._scanned.plans[plain] = numbers[kinds]
        return plans

    def _signature(self, scope: int, shape: int) -> Signature:
        example = self._spans[self._tables.shapes[shape]]
        told = self._scanned.attributes[example["first"] : example["last"]]
        places = zip(told["key"].tolist(), told["key_stop"].tolist(), strict=True)
        return Signature(
            *self._scopes[scope], tuple(self._body[start:stop] for start, stop in places), tuple(told["kind"].tolist())
        )

    def _doubles(self) -> Bytes:
        told = self._scanned.attributes
        values = told["value"][told["kind"] == DOUBLE].view(np.float64)
        return np.frombuffer(orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY), np.uint8)

    def _parsed(self, odd: Ordinals) -> Sequence[Any]:
        """Spans as the library reads them, in a request of their own: nesting is counted from its root."""
        if not len(odd):
            return ()
        places = zip(self._spans["start"][odd].tolist(), self._spans["stop"][odd].tolist(), strict=True)
        spans = b"".join(framed(2, self._body[start:stop]) for start, stop in places)
        request = ExportTraceServiceRequest.FromString(framed(1, framed(2, spans)))
        spans_read: Sequence[Any] = request.resource_spans[0].scope_spans[0].spans
        return spans_read

    def _refused(self, first: Ordinals) -> list[Refusal]:
        form = self._spans["form"]
        if form.max() <= ODD:
            return []
        refused = [Refusal(int(first[row]), *ID_REFUSAL) for row in np.flatnonzero(form == ID_INVALID)]
        for row in np.flatnonzero(form == TIMES_INVALID):
            span = self._spans[row]
            refused.append(Refusal(int(first[row]), *times_refusal(int(span["began"]), int(span["ended"]))))
        return refused

    def _original(self, index: int, first: Ordinals, others: _OddSpans) -> bytes:
        row = int(np.searchsorted(first, index, "right")) - 1
        if index > first[row]:
            return others.original(index)
        return self._body[int(self._spans[row]["start"]) : int(self._spans[row]["stop"])]


class _OddSpans:
    """Spans read one by one. Their evaluations are rows of their own, so the rows behind them are counted on.

    Args:
        odd: number of each among all spans.
    """

    def __init__(
        self, odd: Ordinals, spans: Sequence[Any], context: DecodeContext, scopes: Sequence[dict[str, Any]]
    ) -> None:
        rows = OtlpRows(context, "span")
        ends = []
        for span, scope in zip(spans, scopes, strict=True):
            add_span(rows, span, scope)
            ends.append(len(rows))
        self._odd = odd
        self._counts = np.diff(np.array([0, *ends], np.int64)).astype(np.int64)
        self._raw = rows.raw() if len(odd) else _NO_ROWS
        self._index_of = np.empty(0, np.int64)

    def first_indexes(self, spans: int) -> Ordinals:
        """Index of the first row of each of all spans, and how many rows there are (spans + 1,)."""
        counts = np.ones(spans, np.int64)
        counts[self._odd] = self._counts
        first = np.zeros(spans + 1, np.int64)
        np.cumsum(counts, out=first[1:])
        within = np.arange(self._counts.sum()) - np.repeat(np.cumsum(self._counts) - self._counts, self._counts)
        self._index_of = np.repeat(first[self._odd], self._counts) + within
        return first

    @property
    def raw(self) -> RawRows:
        """The rows, `indexes` among all."""
        raw = self._raw
        return RawRows(raw.columns, self._index_of[raw.indexes], raw.original, raw.row_count)

    def refused(self) -> list[Refusal]:
        return [Refusal(int(self._index_of[one.index]), one.code, one.message) for one in self._raw.refused]

    def original(self, index: int) -> bytes:
        return self._raw.original(int(np.searchsorted(self._index_of, index)))


def _templates(plans: Sequence[Plan], doubles: Bytes) -> Templates:
    sizes = [len(plan.segments) for plan in plans]
    segments = np.concatenate([plan.segments for plan in plans])
    base = np.repeat(pool_bases(plans), sizes)
    segments["start"] += base
    segments["stop"] += base
    pool = np.frombuffer(b"".join(plan.pool for plan in plans), np.uint8)
    return Templates(pool, np.cumsum([0, *sizes]), segments, doubles)


def _merged(columns: dict[str, pa.Array], indexes: Ordinals, others: RawRows) -> tuple[dict[str, pa.Array], Ordinals]:
    """Two sets of rows in the order of their indexes."""
    joined = np.concatenate([indexes, others.indexes])
    order = np.argsort(joined, kind="stable")
    places = pa.array(order)
    out = {}
    for name in [*columns, *(name for name in others.columns if name not in columns)]:
        mine, theirs = columns.get(name), others.columns.get(name)
        if mine is None:
            mine = pa.nulls(len(indexes), others.columns[name].type)
        if theirs is None:
            theirs = pa.nulls(len(others), mine.type)
        out[name] = pa.concat_arrays([mine, theirs]).take(places)
    return out, joined[order]
