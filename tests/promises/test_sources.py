"""Laws of every source: noise is refused in the hub's own words, and every row sent comes out exactly once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from cluster.contract.coerce import ROW_FIELDS
from cluster.contract.decode import MEDIA_TYPES, Decoded, decode
from cluster.contract.inflate import inflate
from cluster.contract.sources.hooks.products import DECODE_HOOK
from cluster.contract.sources.otlp import decode_logs, decode_metrics, decode_traces
from cluster.errors import HubError
from tests.cluster.contract.bodies import CONTEXT, arrow_body, checked, event, lines, parquet_body

OTLP_DOORS = (decode_traces, decode_logs, decode_metrics)
Source = Callable[[bytes], Decoded]
SOURCES: dict[str, Source] = {
    **{name: lambda body, name=name: decode(body, content_type=name, context=CONTEXT) for name in MEDIA_TYPES},
    **{
        f"{door.__name__} {kind}": lambda body, door=door, kind=kind: door(body, f"application/{kind}", CONTEXT)
        for door in OTLP_DOORS
        for kind in ("x-protobuf", "json")
    },
    **{
        f"hook {product}": lambda body, read=read: read(body, {"content-type": "application/json"}, CONTEXT)
        for product, read in DECODE_HOOK.items()
    },
}
_SPAN = ExportTraceServiceRequest()
_SPAN.resource_spans.add().scope_spans.add().spans.add(
    trace_id=bytes(range(16)), span_id=bytes(range(1, 9)), start_time_unix_nano=CONTEXT.received_at_us * 1000
).attributes.add(key="gen_ai.usage.input_tokens").value.int_value = 3
SAMPLES = (
    lines(event(payload={"cost": 1}), event(timestamp=1, user="x")),
    orjson.dumps([event(), event(attributes={"a": [1]})]),
    arrow_body(pa.Table.from_pylist([event(input_tokens=1)])),
    parquet_body(pa.Table.from_pylist([event(input_tokens=1)])),
    _SPAN.SerializeToString(),
    orjson.dumps({"id": "c", "startTime": CONTEXT.received_at_us / 1e6, "prompt_tokens": 3, "metadata": {}}),
    orjson.dumps({"batch": [{"id": "i", "type": "span-create", "timestamp": "2026-01-01T00:00:00Z", "body": {}}]}),
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["2026-01-01T00:00:00Z", "gateway", "request", "1.0.0", "-1", "1e5", "telemetry"])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(
    [*ROW_FIELDS, "timestamp", "source_module", "event_type", "cost", "tags", "usage_semantics"]
) | st.text(max_size=10)
overrides = st.dictionaries(names, values, max_size=5)


def outcome(source: Source, body: bytes) -> Decoded | None:
    """What the source makes of a body, or None where it refuses the whole of it; any other error is a fault."""
    try:
        return checked(source(body))
    except HubError as error:
        assert error.code != HubError.code
        assert error.message
        return None


@pytest.mark.parametrize("name", SOURCES)
@given(body=st.binary(max_size=400))
@settings(max_examples=60, deadline=None)
def test_noise_is_refused_and_never_raises_anything_else(name: str, body: bytes) -> None:
    outcome(SOURCES[name], body)


@pytest.mark.parametrize("name", SOURCES)
@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_a_damaged_body_is_refused_or_read_whole(name: str, data: st.DataObject) -> None:
    body = bytearray(data.draw(st.sampled_from(SAMPLES)))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    outcome(SOURCES[name], bytes(body[: data.draw(st.integers(0, len(body)))]))


@given(rows=st.lists(overrides, max_size=6))
@settings(max_examples=80, deadline=None)
def test_any_json_rows_come_out_once_each_and_alone(rows: list[dict[str, Any]]) -> None:
    sent = [{**event(event_id=f"e{index}"), **row} for index, row in enumerate(rows)]
    together = outcome(SOURCES["application/x-ndjson"], lines(*sent))
    assert together is not None
    assert together.row_count == len(sent)
    # What becomes of a row does not depend on its neighbours.
    alone = [outcome(SOURCES["application/x-ndjson"], lines(row)) for row in sent]
    assert sum(one.events.num_rows for one in alone if one) == together.events.num_rows
    kept = [row for one in alone if one for row in one.events.to_pylist()]
    ids = {row["event_id"] for row in kept}
    assert [row for row in together.events.to_pylist() if row["event_id"] in ids] == kept or len(ids) < len(kept)


@given(rows=st.lists(overrides, min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_a_body_sent_again_gives_the_same_ids(rows: list[dict[str, Any]]) -> None:
    body = lines(*({**event(event_id=...), **row} for row in rows))
    first, again = (decode(body, content_type="application/x-ndjson", context=CONTEXT) for _ in range(2))
    assert first.events.equals(again.events)
    assert first.dead_letters.equals(again.dead_letters)


@given(body=st.binary(max_size=300), encoding=st.sampled_from(["gzip", "zstd", "deflate", "br", "", "identity"]))
@settings(max_examples=150, deadline=None)
def test_compressed_noise_is_refused(body: bytes, encoding: str) -> None:
    try:
        inflate(body, encoding, sent_max=1 << 20, inflated_max=1 << 20, ratio_max=100)
    except HubError as error:
        assert error.message


@pytest.mark.parametrize("told", [{"attributes": {}}, {"user_id": "u"}, {"latency_ms": 1.5, "payload": {"a": 1}}])
def test_the_id_of_a_row_without_one_is_of_what_it_says_and_not_of_its_neighbours(told: dict[str, Any]) -> None:
    own = {**event(event_id="e0"), "event_id": None}

    def id_of(*others: dict[str, Any]) -> str:
        made = outcome(SOURCES["application/x-ndjson"], lines(own, *others))
        assert made is not None
        return str(made.events.column("event_id")[0])

    assert id_of({**event(event_id="e1"), **told}) == id_of({**own, **told}) == id_of()
