"""OTLP logs -> `observatory.log`; a GenAI evaluation result is `observatory.eval`."""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from cluster.contract.rows import DecodeContext, Decoded
from cluster.contract.sources import dialects
from cluster.contract.sources.otlp_rows import OtlpRows
from cluster.contract.sources.otlp_values import documents, flat, micros, parse, plain, scope_attributes


def decode_logs(body: bytes, content_type: str, context: DecodeContext) -> Decoded:
    """Log records of an OTLP/HTTP body, protobuf or JSON; raises as `decode_traces` does."""
    return logs_from_message(parse(ExportLogsServiceRequest, body, content_type), context)


def logs_from_message(message: ExportLogsServiceRequest, context: DecodeContext) -> Decoded:
    """Log records of a parsed request, as the gRPC door gets it."""
    rows = OtlpRows(context, "log record")
    for resource_logs in message.resource_logs:
        resource = flat(resource_logs.resource.attributes, {})
        for scope_logs in resource_logs.scope_logs:
            scope = scope_attributes(scope_logs.scope, resource)
            for record in scope_logs.log_records:
                rows.add(record, _row(record, flat(record.attributes, dict(scope)), context))
    return rows.seal()


def evaluation(attributes: dict[str, Any], **columns: Any) -> dict[str, Any]:
    """Row of an evaluation result; the judged span is the one it names."""
    payload = {
        "name": attributes.get("gen_ai.evaluation.name"),
        "score": attributes.get("gen_ai.evaluation.score.value"),
        "label": attributes.get("gen_ai.evaluation.score.label"),
        "explanation": attributes.get("gen_ai.evaluation.explanation"),
    }
    row = dialects.canonical(attributes) | columns
    row["module"], row["kind"] = "observatory", "observatory.eval"
    present = {name: value for name, value in payload.items() if value is not None}
    row["attributes"], row["payload"] = documents(attributes, present)
    return row


def _row(record: LogRecord, attributes: dict[str, Any], context: DecodeContext) -> dict[str, Any]:
    at = record.time_unix_nano or record.observed_time_unix_nano
    columns: dict[str, Any] = {"occurred_at": micros(at) if at else context.received_at_us}
    if any(record.trace_id):
        columns["trace_id"] = record.trace_id.hex()
    if any(record.span_id):
        columns["span_id"] = record.span_id.hex()
    if record.severity_number:
        columns["severity"] = str(record.severity_number)
    elif record.severity_text:
        columns["severity"] = record.severity_text
    event_name = record.event_name or attributes.get("event.name")
    if event_name == dialects.EVALUATION_EVENT:
        return evaluation(attributes, **columns)
    payload: dict[str, Any] = {}
    if event_name:
        payload["event_name"] = event_name
    if record.severity_text:
        payload["level"] = record.severity_text
    body = plain(record.body)
    if body is not None:
        payload["body"] = body
    row = dialects.canonical(attributes) | columns
    # Token counts of a log repeat its span's; as columns they would look like usage of its own.
    for name in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens"):
        row.pop(name, None)
    row["module"], row["kind"] = "observatory", "observatory.log"
    row["attributes"], row["payload"] = documents(attributes, payload)
    return row
