"""OTLP traces, logs and metrics, in protobuf and JSON, from the stock SDK and by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from google.protobuf import json_format
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode

from cluster.contract.sources.otlp import decode_logs, decode_metrics, decode_traces, traces_from_message
from cluster.errors import BodyTooLarge, BodyUnreadable, MediaTypeUnsupported
from tests.cluster.contract.bodies import CONTEXT, NOW_US, checked, codes, only

PROTOBUF = "application/x-protobuf"
NOW_NS = NOW_US * 1000
# The SDK stamps its own time; the hub's clock must not lie behind it.
LATER = replace(CONTEXT, received_at_us=4_000_000_000_000_000)


def traces(*spans: dict[str, Any], resource: dict[str, str] | None = None) -> ExportTraceServiceRequest:
    """A request by hand; a span's `attributes` are plain values."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    set_attributes(group.resource, resource or {"service.name": "api"})
    for fields in spans:
        span = group.scope_spans.add().spans.add(
            trace_id=fields.get("trace_id", bytes(range(16))),
            span_id=fields.get("span_id", bytes(range(1, 9))),
            name=fields.get("name", "call"),
            start_time_unix_nano=fields.get("start", NOW_NS),
            end_time_unix_nano=fields.get("end", NOW_NS + 1_500_000),
        )
        set_attributes(span, fields.get("attributes", {}))
    return request


def set_attributes(target: Any, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        slot = target.attributes.add(key=name).value
        if isinstance(value, list):
            for member in value:
                slot.array_value.values.add(string_value=member)
            continue
        kind = {bool: "bool_value", int: "int_value", float: "double_value", str: "string_value", bytes: "bytes_value"}
        setattr(slot, kind[type(value)], value)


def hexed(request: Any) -> bytes:
    """OTLP/JSON as the specification has it: ids in hexadecimal, numbers of enums."""
    document = json_format.MessageToDict(request, use_integers_for_enums=True)

    def walk(node: Any) -> None:
        for name, member in list(node.items()) if isinstance(node, dict) else []:
            if name in ("traceId", "spanId", "parentSpanId"):
                import base64

                node[name] = base64.b64decode(member).hex()
            walk(member)
        for member in node if isinstance(node, list) else []:
            walk(member)

    walk(document)
    return orjson.dumps(document)


def sdk_spans() -> ExportTraceServiceRequest:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "shop", "deployment.environment.name": "prod"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("instrument", "1.2")
    agent = tracer.start_as_current_span("agent")
    call = tracer.start_as_current_span("chat gpt-4o", kind=SpanKind.CLIENT)
    with agent, call as span:
        span.set_attribute("gen_ai.operation.name", "chat")
        span.set_attribute("gen_ai.provider.name", "openai")
        span.set_attribute("gen_ai.response.model", "gpt-4o")
        span.set_attribute("gen_ai.usage.input_tokens", 12)
        span.set_attribute("gen_ai.response.finish_reasons", ["stop"])
        span.set_status(Status(StatusCode.ERROR, "boom"))
        span.set_attribute("error.type", "openai.RateLimitError")
        span.add_event("token", {"n": 1})
    return encode_spans(exporter.get_finished_spans())


@pytest.mark.parametrize("form", ["protobuf", "json", "message"])
def test_spans_of_the_stock_sdk_arrive_in_every_form(form: str) -> None:
    request = sdk_spans()
    if form == "message":
        decoded = traces_from_message(request, LATER)
    elif form == "json":
        decoded = decode_traces(hexed(request), "application/json", LATER)
    else:
        decoded = decode_traces(request.SerializeToString(), PROTOBUF, LATER)
    child, parent = checked(decoded).events.to_pylist()
    assert child["parent_span_id"] == parent["span_id"]
    assert child["event_id"] == child["trace_id"] + child["span_id"]
    assert (child["kind"], child["service"], child["environment"]) == ("observatory.span", "shop", "prod")
    assert (child["operation"], child["provider"], child["model"]) == ("chat", "openai", "gpt-4o")
    assert (child["input_tokens"], child["status"]) == (12, "rate_limited")
    assert child["latency_ms"] > 0
    attributes = orjson.loads(child["attributes"])
    assert attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert (attributes["otel.scope.name"], attributes["otel.scope.version"]) == ("instrument", "1.2")
    payload = orjson.loads(child["payload"])
    assert (payload["name"], payload["span_kind"], payload["status_message"]) == ("chat gpt-4o", "client", "boom")
    assert payload["events"][0]["attributes"] == {"n": 1}
    assert (parent["operation"], parent["status"]) == (None, "ok")


def test_bad_spans_are_refused_alone() -> None:
    request = traces(
        {"trace_id": bytes(16)},
        {"span_id": b"\x01"},
        {"start": NOW_NS, "end": NOW_NS - 1},
        {"start": 0, "end": 5},
        {"attributes": {"gen_ai.usage.input_tokens": -4}},
        {},
    )
    decoded = checked(traces_from_message(request, CONTEXT))
    assert codes(decoded) == [
        "span_id_invalid",
        "span_id_invalid",
        "span_times_invalid",
        "occurred_at_out_of_range",
        "tokens_out_of_range",
    ]
    assert decoded.refusals[2].message.startswith("span 2: ")
    assert decoded.events.num_rows == 1


def test_garbage_is_no_request() -> None:
    for content_type in (PROTOBUF, "application/json"):
        for body in (b"\xff\xff\xff", b"\x0a\xff\x01", b"{", b"[1]", b'{"resourceSpans": 5}'):
            with pytest.raises(BodyUnreadable):
                decode_traces(body, content_type, CONTEXT)
    with pytest.raises(MediaTypeUnsupported):
        decode_traces(b"", "text/plain", CONTEXT)
    with pytest.raises(BodyTooLarge):
        traces_from_message(traces({}, {}), replace(CONTEXT, rows_max=1))
    assert decode_traces(b"", PROTOBUF, CONTEXT).row_count == 0


def test_a_guardrail_span_is_an_evaluation_of_the_guardrails() -> None:
    spans = (
        {"attributes": {"gen_ai.operation.name": "run_guardrail", "gen_ai.guardrail.action.type": "blocked"}},
        {"attributes": {"openinference.span.kind": "GUARDRAIL"}, "span_id": bytes(7) + b"\x09"},
    )
    first, second = checked(traces_from_message(traces(*spans), CONTEXT)).events.to_pylist()
    assert (first["module"], first["kind"], first["guardrail_action"]) == (
        "guardrails",
        "guardrails.evaluation",
        "block",
    )
    assert (second["kind"], second["guardrail_action"]) == ("guardrails.evaluation", None)


def test_prompts_too_long_for_attributes_move_to_the_payload() -> None:
    row = only(traces_from_message(traces({"attributes": {"input.value": "x" * 90_000, "short": "y"}}), CONTEXT))
    assert orjson.loads(row["attributes"]) == {"service.name": "api", "short": "y"}
    assert len(orjson.loads(row["payload"])["attributes"]["input.value"]) == 90_000


def test_values_of_every_kind_are_kept() -> None:
    request = traces({"attributes": {"b": True, "f": 0.5, "raw": b"\x00\xff", "empty": ""}})
    pair = request.resource_spans[0].scope_spans[0].spans[0].attributes.add(key="map")
    pair.value.kvlist_value.values.add(key="inner").value.array_value.values.add().int_value = 3
    row = only(traces_from_message(request, CONTEXT))
    kept = orjson.loads(row["attributes"])
    assert kept == {"service.name": "api", "b": True, "f": 0.5, "raw": "AP8=", "empty": "", "map.inner": [3]}


def test_an_evaluation_is_an_event_of_its_own_from_logs_and_from_spans() -> None:
    attributes = {"gen_ai.evaluation.name": "relevance", "gen_ai.evaluation.score.value": 0.9}
    logs = ExportLogsServiceRequest()
    record = (
        logs.resource_logs.add()
        .scope_logs.add()
        .log_records.add(
            time_unix_nano=NOW_NS,
            event_name="gen_ai.evaluation.result",
            trace_id=bytes(range(16)),
            span_id=bytes(range(1, 9)),
        )
    )
    set_attributes(record, attributes)
    request = traces({})
    event = (
        request.resource_spans[0]
        .scope_spans[0]
        .spans[0]
        .events.add(name="gen_ai.evaluation.result", time_unix_nano=NOW_NS)
    )
    set_attributes(event, attributes)
    from_log = only(checked(decode_logs(logs.SerializeToString(), PROTOBUF, CONTEXT)))
    span, from_span = checked(traces_from_message(request, CONTEXT)).events.to_pylist()
    assert span["kind"] == "observatory.span"
    for row in (from_log, from_span):
        assert (row["kind"], row["trace_id"], row["span_id"]) == ("observatory.eval", span["trace_id"], span["span_id"])
        assert orjson.loads(row["payload"]) == {"name": "relevance", "score": 0.9}


def test_log_records_keep_level_body_and_trace() -> None:
    logs = ExportLogsServiceRequest()
    records = logs.resource_logs.add().scope_logs.add().log_records
    first = records.add(observed_time_unix_nano=NOW_NS, severity_number=17, severity_text="ERROR")
    first.body.string_value = "disk full"
    records.add()
    decoded = checked(decode_logs(hexed(logs), "application/json", CONTEXT))
    row, bare = decoded.events.to_pylist()
    assert (row["kind"], row["severity"], row["trace_id"]) == ("observatory.log", "error", None)
    assert orjson.loads(row["payload"]) == {"level": "ERROR", "body": "disk full"}
    assert bare["occurred_at"] == bare["received_at"]


def test_each_data_point_is_an_event_with_the_same_id_when_sent_again() -> None:
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader]).get_meter("m")
    meter.create_counter("gen_ai.client.inference.usage.input_tokens").add(5, {"gen_ai.request.model": "m1"})
    meter.create_histogram("gen_ai.client.operation.duration", "s").record(0.25)
    meter.create_gauge("queue").set(3)
    request = encode_metrics(reader.get_metrics_data())
    body = request.SerializeToString()
    decoded = checked(decode_metrics(body, PROTOBUF, LATER))
    payloads = [orjson.loads(text) for text in decoded.events.column("payload").to_pylist()]
    assert [(p["name"], p["type"]) for p in payloads] == [
        ("gen_ai.client.inference.usage.input_tokens", "counter"),
        ("gen_ai.client.operation.duration", "histogram"),
        ("queue", "gauge"),
    ]
    assert (payloads[0]["value"], payloads[1]["sum"], payloads[2]["value"]) == (5, 0.25, 3)
    assert decoded.events.column("model").to_pylist()[0] == "m1"
    assert decoded.events.column("input_tokens").null_count == 3
    again = decode_metrics(body, PROTOBUF, LATER)
    assert again.events.column("event_id").equals(decoded.events.column("event_id"))
    empty = ExportMetricsServiceRequest()
    empty.resource_metrics.add().scope_metrics.add().metrics.add(name="nothing")
    assert codes(checked(decode_metrics(hexed(empty), "application/json", CONTEXT))) == ["metric_empty"]
