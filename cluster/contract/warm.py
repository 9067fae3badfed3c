"""Every compiled function of the contract called once: compiled at set-up, read from disk when a door opens."""

from __future__ import annotations

from typing import Final

import orjson
import pyarrow as pa
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from cluster.contract.decode import decode
from cluster.contract.rows import DecodeContext
from cluster.contract.sources.otlp import decode_traces

_AT_US: Final = 1_767_225_600_000_000
_LINE: Final = (
    b'{"event_id":"e","occurred_at":"2026-01-01T00:00:00Z","module":"gateway","kind":"gateway.request",'
    b'"model":"m","latency_ms":1.5,"input_tokens":1,"cost_usd":0.1,"attributes":{"a":[1],"user.id":"u"}}\n'
)


def warm() -> None:
    """Decode one small body of each form; takes tens of seconds the first time on a machine, then a fraction of one."""
    context = DecodeContext(tenant_id="warm", region="warm", received_at_us=_AT_US)
    # Once with and once without an id of its own.
    decode(_LINE + _LINE.replace(b"event_id", b"other"), content_type="application/x-ndjson", context=context)
    decode(_table(), content_type="application/vnd.apache.arrow.stream", context=context)
    decode_traces(_spans().SerializeToString(), "application/x-protobuf", context)


def _table() -> bytes:
    row = orjson.loads(_LINE)
    table = pa.Table.from_pylist([row | {"attributes": orjson.dumps(row["attributes"]).decode()}])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


def _spans() -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "warm"
    span = resource.scope_spans.add().spans.add(name="chat m", kind=3, trace_id=b"t" * 16, span_id=b"s" * 8)
    span.start_time_unix_nano = _AT_US * 1_000
    span.end_time_unix_nano = span.start_time_unix_nano + 1_000_000
    span.attributes.add(key="gen_ai.request.model").value.string_value = "m"
    span.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = 1
    span.attributes.add(key="gen_ai.request.temperature").value.double_value = 0.5
    span.attributes.add(key="stream").value.bool_value = True
    return request
