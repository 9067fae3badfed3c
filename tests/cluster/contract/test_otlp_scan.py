"""Trace bodies read by columns give what reading span by span gives, for every body there is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from cluster.contract.rows import DecodeContext, Decoded
from cluster.contract.sources import otlp_documents, otlp_fields, otlp_scan
from cluster.contract.sources.dialects import ATTRIBUTES, OPERATION_VALUES
from cluster.contract.sources.otlp import decode_traces, spans_one_by_one
from cluster.contract.sources.otlp_scan import SHAPES_MAX
from cluster.contract.sources.otlp_spans import FAILURE_NAMES, VERDICT
from cluster.contract.sources.otlp_traces import read_traces
from cluster.contract.sources.otlp_values import parse
from cluster.contract.sources.otlp_wire import framed
from cluster.errors import BodyTooLarge, HubError
from tests.bench.ingest_bodies import otlp_body
from tests.cluster.contract.bodies import CONTEXT, NOW_US, checked
from tests.cluster.contract.test_otlp import set_attributes, traces

PROTOBUF = "application/x-protobuf"
NOW_NS = NOW_US * 1000
LATER = replace(CONTEXT, received_at_us=4_000_000_000_000_000)

KNOWN_NAMES = [*(name for names in ATTRIBUTES.values() for name in names), *FAILURE_NAMES, VERDICT]
WORDS = ["exclusive", "run_guardrail", "blocked", "12", "0.5", "nan", "RateLimitError", "Timeout", "429", "", "chat"]
WORDS += [word.upper() for words in OPERATION_VALUES.values() for word in words]
words = st.sampled_from(WORDS) | st.text(max_size=12) | st.text('"\\\b\n\x00\x1f\x7fé\u2028😀', max_size=9)
names = st.sampled_from(KNOWN_NAMES) | st.text(max_size=6)
plain_values: dict[str, st.SearchStrategy[Any]] = {
    "string_value": words,
    "bool_value": st.booleans(),
    "int_value": st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 900),
    "double_value": st.floats() | st.sampled_from([1e-5, 1e16, 0.1, -0.0, 3.0]),
}


@st.composite
def odd_values(draw: st.DrawFn) -> AnyValue:
    value = AnyValue()
    kind = draw(st.sampled_from(["none", "bytes", "array", "map", "index"]))
    if kind == "bytes":
        value.bytes_value = draw(st.binary(max_size=4))
    elif kind == "array":
        value.array_value.values.add().string_value = draw(words)
    elif kind == "map":
        value.kvlist_value.values.add(key=draw(names)).value.int_value = 3
    elif kind == "index":
        value.string_value_strindex = 1
    return value


# What an instrument sends again and again: names and kinds of values.
shapes = st.lists(st.tuples(names, st.sampled_from(list(plain_values))), max_size=6)


def fill(draw: st.DrawFn, attributes: Any, shape: list[tuple[str, str]]) -> None:
    for name, kind in shape:
        setattr(attributes.add(key=name).value, kind, draw(plain_values[kind]))


@st.composite
def requests(draw: st.DrawFn) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    kept = draw(st.lists(shapes, min_size=1, max_size=3))
    for _ in range(draw(st.integers(1, 3))):
        group = request.resource_spans.add(schema_url=draw(words))
        if draw(st.booleans()):
            fill(draw, group.resource.attributes, draw(shapes))
        for _ in range(draw(st.integers(0, 2))):
            scope = group.scope_spans.add()
            if draw(st.booleans()):
                scope.scope.name = draw(words)
                fill(draw, scope.scope.attributes, draw(shapes))
            for _ in range(draw(st.integers(0, 4))):
                add_span(draw, scope.spans, draw(st.sampled_from(kept)))
    return request


def add_span(draw: st.DrawFn, spans: Any, shape: list[tuple[str, str]]) -> None:
    begin = draw(st.sampled_from([NOW_NS, NOW_NS + 7, NOW_NS, 0, 2**64 - 1]))
    span = spans.add(
        trace_id=draw(st.just(bytes(range(16))) | st.binary(max_size=17)),
        span_id=draw(st.just(bytes(range(1, 9))) | st.just(bytes(8)) | st.binary(min_size=8, max_size=8)),
        parent_span_id=draw(st.sampled_from([b"", bytes(range(8)), b"\x01"])),
        name=draw(words),
        trace_state=draw(st.sampled_from(["", "a=b", '"'])),
        kind=draw(st.integers(0, 5)),
        start_time_unix_nano=begin,
        end_time_unix_nano=draw(st.sampled_from([0, NOW_NS + 1_234_567, NOW_NS + 999, 3, 2**64 - 1])),
        dropped_attributes_count=draw(st.sampled_from([0, 0, 5, 2**32 - 1])),
        dropped_links_count=draw(st.sampled_from([0, 0, 7])),
        flags=draw(st.integers(0, 3)),
    )
    if draw(st.booleans()):
        span.status.code = draw(st.sampled_from([0, 1, 2, 2, 7]))
        span.status.message = draw(words)
    fill(draw, span.attributes, shape)
    strange = draw(st.integers(0, 9))
    if strange == 0:
        span.attributes.add(key=draw(names)).value.CopyFrom(draw(odd_values()))
    elif strange == 1:
        event = span.events.add(name=draw(st.sampled_from(["x", "gen_ai.evaluation.result"])))
        set_attributes(event, {"gen_ai.evaluation.name": "relevance"})
    elif strange == 2:
        span.links.add(trace_id=b"\x01")


def by_span(body: bytes, context: DecodeContext = LATER) -> Decoded:
    return spans_one_by_one(parse(ExportTraceServiceRequest, body, PROTOBUF), context)


def same(fast: Decoded, slow: Decoded, *, originals: bool = True) -> None:
    assert fast.events.equals(slow.events)
    assert (fast.row_count, fast.refusals) == (slow.row_count, slow.refusals)
    names = fast.dead_letters.schema.names
    if not originals:
        # The slice of the body is what was sent; the library writes what it read of it in an order of its own.
        names = [name for name in names if name not in ("dead_letter_id", "original", "original_size_bytes")]
    assert fast.dead_letters.select(names).equals(slow.dead_letters.select(names))


@given(requests())
def test_a_request_gives_the_same_rows_by_columns_as_span_by_span(request: ExportTraceServiceRequest) -> None:
    body = request.SerializeToString()
    same(checked(decode_traces(body, PROTOBUF, LATER)), by_span(body))


@given(requests(), st.data())
@settings(max_examples=100)
def test_a_damaged_body_ends_as_it_does_span_by_span(request: ExportTraceServiceRequest, data: st.DataObject) -> None:
    body = bytearray(request.SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        if not body:
            break
        place = data.draw(st.integers(0, len(body) - 1))
        change = data.draw(st.sampled_from(["byte", "cut", "insert", "remove", "repeat"]))
        if change == "byte":
            body[place] = data.draw(st.integers(0, 255))
        elif change == "cut":
            del body[place:]
        elif change == "insert":
            body[place:place] = data.draw(st.binary(min_size=1, max_size=3))
        elif change == "remove":
            del body[place]
        else:
            body += body[place:]
    try:
        slow = by_span(bytes(body))
    except HubError as error:
        with pytest.raises(type(error)) as raised:
            decode_traces(bytes(body), PROTOBUF, LATER)
        assert str(raised.value) == str(error)
        return
    same(checked(decode_traces(bytes(body), PROTOBUF, LATER)), slow, originals=False)


def test_ordinary_spans_are_read_by_columns() -> None:
    body = bytes(otlp_body(50).content)
    fast = read_traces(body, LATER)
    assert fast is not None
    same(checked(fast), by_span(body))
    assert fast.events.num_rows == 50


def test_failures_and_costs_are_told_by_columns() -> None:
    told = [{"error.type": word, "llm.cost.total": 1e-05} for word in ("timeout", "X.RateLimitError", "other", "429")]
    told += [{"http.status_code": 429}, {"http.status_code": 503, "llm.cost.total": "0.25"}, {}]
    request = traces(*({"attributes": attributes} for attributes in told))
    for scope in request.resource_spans[0].scope_spans:
        scope.spans[0].status.code = 2
    body = request.SerializeToString()
    fast = read_traces(body, LATER)
    assert fast is not None
    same(checked(fast), by_span(body))
    assert fast.events.column("status").to_pylist()[:3] == ["timeout", "rate_limited", "error"]


def test_a_refused_span_is_kept_as_it_was_sent() -> None:
    request = traces({}, {"span_id": b"\x01"}, {"start": NOW_NS, "end": 1})
    body = request.SerializeToString()
    fast = read_traces(body, LATER)
    assert fast is not None
    spans = [scope.spans[0] for scope in request.resource_spans[0].scope_spans]
    assert fast.dead_letters.column("original").to_pylist() == [span.SerializeToString() for span in spans[1:]]


def test_fields_nobody_knows_are_skipped_and_parts_sent_twice_are_merged() -> None:
    span = traces({}).resource_spans[0].scope_spans[0].spans[0].SerializeToString()
    unknown = b"\xf8\x07\x05" + b"\xfa\x07\x02ab" + b"\xf9\x07" + bytes(8) + b"\xfd\x07" + bytes(4)
    resource = traces({}).resource_spans[0].resource.SerializeToString()
    twice = traces({}, resource={"service.namespace": "n"}).resource_spans[0].resource.SerializeToString()
    for spans in (span + unknown, span + span, unknown + span + b"\x2a\x01y"):
        for resources in (framed(1, resource), framed(1, resource) + framed(1, twice), b""):
            body = framed(1, framed(2, framed(2, span) + framed(2, spans) + unknown) + resources + unknown) + unknown
            same(checked(decode_traces(body, PROTOBUF, LATER)), by_span(body))


@pytest.mark.parametrize("text", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80"])
@pytest.mark.parametrize("place", ["key", "value", "name", "state", "message", "schema", "scope"])
def test_text_that_is_not_utf8_refuses_the_body(place: str, text: bytes) -> None:
    ids = framed(1, bytes(range(16))) + framed(2, bytes(range(1, 9)))
    # Refused for its times: what it says is looked at all the same.
    late = ids + b"\x39" + (9).to_bytes(8, "little") + b"\x41" + (1).to_bytes(8, "little")
    key = framed(1, text if place == "key" else b"k")
    parts = {
        "state": framed(3, text),
        "name": framed(5, text),
        "message": framed(15, framed(2, text)),
    }
    attribute = framed(9, key + framed(2, framed(1, text if place == "value" else b"v")))
    for start in (ids, late):
        span = start + parts.get(place, b"") + attribute
        scope = framed(1, framed(1, text)) if place == "scope" else b""
        body = framed(
            1, framed(2, scope + framed(2, ids) + framed(2, span)) + framed(3, text if place == "schema" else b"")
        )
        with pytest.raises(HubError) as slow:
            by_span(body)
        with pytest.raises(HubError) as fast:
            decode_traces(body, PROTOBUF, LATER)
        assert str(fast.value) == str(slow.value)


def test_more_shapes_than_are_kept_are_read_all_the_same() -> None:
    request = traces(*({"attributes": {f"name{row}": row, "llm.cost.total": row / 7}} for row in range(SHAPES_MAX + 9)))
    body = request.SerializeToString()
    same(checked(decode_traces(body, PROTOBUF, LATER)), by_span(body))


def test_rows_are_counted_with_those_of_evaluations() -> None:
    request = traces({}, {}, {"attributes": {"x": 1}})
    for scope in list(request.resource_spans[0].scope_spans)[:2]:
        scope.spans[0].events.add(name="gen_ai.evaluation.result")
    body = request.SerializeToString()
    same(checked(decode_traces(body, PROTOBUF, replace(LATER, rows_max=5))), by_span(body))
    for rows_max in (2, 3, 4):
        with pytest.raises(BodyTooLarge):
            decode_traces(body, PROTOBUF, replace(LATER, rows_max=rows_max))


def test_whole_numbers_and_doubles_are_written_as_orjson_does() -> None:
    numbers = [0, -1, 9, 10, -10, 99, 100, 2**63 - 1, -(2**63), 10**18, -(10**18)]
    doubles = [0.0, -0.0, 1e-5, 1e-7, 1e15, 1e16, 1e22, 5e-324, 1.7976931348623157e308, 0.1, 350.0, float("inf")]
    attributes = {f"n{place}": value for place, value in enumerate([*numbers, *doubles])}
    decoded = read_traces(traces({"attributes": attributes}).SerializeToString(), LATER)
    assert decoded is not None
    expected = orjson.dumps(attributes | {"service.name": "api"}, option=orjson.OPT_SORT_KEYS).decode()
    assert decoded.events.column("attributes").to_pylist() == [expected]


def test_one_tiny_body_compiles_all_there_is() -> None:
    """Then no later body waits seconds for the compiler."""
    kernels = [
        *(otlp_scan.outline, otlp_scan.read_spans),
        *(otlp_documents.measure_values, otlp_documents.attribute_sizes),
        *(otlp_documents.write_attributes, otlp_documents.payload_sizes, otlp_documents.write_payloads),
        *(otlp_fields.measure_texts, otlp_fields.fill_texts, otlp_fields.fill_numbers),
        *(otlp_fields.fill_ids, otlp_fields.fill_times),
    ]
    for body in (traces({}).SerializeToString(), bytearray(otlp_body(30).content)):
        assert read_traces(body, LATER) is not None  # type: ignore[arg-type]
        assert [len(kernel.signatures) for kernel in kernels] == [1] * len(kernels)  # type: ignore[attr-defined]
