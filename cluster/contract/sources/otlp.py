"""OTLP traces -> events. A span is `observatory.span`; a guardrail's span is `guardrails.evaluation`.

Every span is taken, model call or not. Resource, scope and span attributes are kept together in `attributes`, the
span's name, kind, events, links and status message in `payload`. An evaluation told of as a span event is an
`observatory.eval` event of its own beside the span.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from cluster.contract.rows import DecodeContext, Decoded
from cluster.contract.sources import dialects
from cluster.contract.sources.otlp_logs import decode_logs, evaluation, logs_from_message
from cluster.contract.sources.otlp_metrics import decode_metrics, metrics_from_message
from cluster.contract.sources.otlp_rows import OtlpRows
from cluster.contract.sources.otlp_values import documents, flat, micros, parse, scope_attributes
from cluster.contract.vocabulary import STATUSES

__all__ = [
    "decode_logs",
    "decode_metrics",
    "decode_traces",
    "logs_from_message",
    "metrics_from_message",
    "traces_from_message",
]

_SPAN_KINDS: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")
_STATUS_ERROR: Final = 2
_NO_TRACE: Final = bytes(16)
_NO_SPAN: Final = bytes(8)
# Part of an exception's name, in lower case -> what the call failed of.
_FAILURES: Final = (("ratelimit", "rate_limited"), ("timeout", "timeout"), ("unavailable", "unavailable"))
_REFINED: Final = frozenset({"timeout", "rate_limited", "unavailable"})


def decode_traces(body: bytes, content_type: str, context: DecodeContext) -> Decoded:
    """Spans of an OTLP/HTTP body, protobuf or JSON.

    Raises:
        BodyUnreadable: not an export request.
        BodyTooLarge: more spans than the context allows.
        MediaTypeUnsupported: neither protobuf nor JSON.
    """
    return traces_from_message(parse(ExportTraceServiceRequest, body, content_type), context)


def traces_from_message(message: ExportTraceServiceRequest, context: DecodeContext) -> Decoded:
    """Spans of a parsed request, as the gRPC door gets it.

    Raises:
        BodyTooLarge: more spans than the context allows.
    """
    rows = OtlpRows(context, "span")
    for resource_spans in message.resource_spans:
        resource = flat(resource_spans.resource.attributes, {})
        for scope_spans in resource_spans.scope_spans:
            scope = scope_attributes(scope_spans.scope, resource)
            for span in scope_spans.spans:
                _add_span(rows, span, scope)
    return rows.seal()


def _add_span(rows: OtlpRows, span: Span, scope: dict[str, Any]) -> None:
    trace_id, span_id = span.trace_id, span.span_id
    start, end = span.start_time_unix_nano, span.end_time_unix_nano
    if len(trace_id) != 16 or len(span_id) != 8 or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        rows.refuse(span, "span_id_invalid", "trace id and span id must be 16 and 8 bytes and not all zero")
        return
    if end and end < start:
        rows.refuse(span, "span_times_invalid", f"the span ends {(start - end) / 1e9:.3f} s before it starts")
        return
    attributes = flat(span.attributes, dict(scope))
    row = dialects.canonical(attributes)
    trace, own = trace_id.hex(), span_id.hex()
    row["event_id"] = trace + own
    row["trace_id"] = trace
    row["span_id"] = own
    if parent := span.parent_span_id:
        row["parent_span_id"] = parent.hex()
    row["occurred_at"] = micros(start)
    if end:
        row["latency_ms"] = (end - start) / 1e6
    status, events = span.status, span.events
    row["status"] = _failure(attributes) if status.code == _STATUS_ERROR else "ok"
    row["module"], row["kind"] = _kind(row, attributes)
    row["attributes"], row["payload"] = documents(attributes, _payload(span, status.message, events))
    rows.add(span, row)
    if not events:
        return
    for ordinal, event in enumerate(events):
        if event.name == dialects.EVALUATION_EVENT:
            told = flat(event.attributes, dict(scope))
            rows.add(
                event,
                evaluation(told, event_id=f"{trace}{own}e{ordinal}", trace_id=trace, span_id=own)
                | {"occurred_at": micros(event.time_unix_nano or start)},
            )


def _kind(row: dict[str, Any], attributes: dict[str, Any]) -> tuple[str, str]:
    if row.get("operation") == dialects.GUARDRAIL_OPERATION or "guardrail_action" in row:
        if "guardrail_action" not in row:
            verdict = attributes.get("gen_ai.guardrail.verdict.type")
            if isinstance(verdict, str):
                row["guardrail_action"] = verdict
        return "guardrails", "guardrails.evaluation"
    return "observatory", "observatory.span"


def _failure(attributes: dict[str, Any]) -> str:
    """What a failed span failed of: a class of its own where its error type or HTTP status says so."""
    for name in ("error.type", "http.response.status_code", "http.status_code", "exception.type"):
        value = attributes.get(name)
        if value is None:
            continue
        word = str(value).lower()
        known = STATUSES.get(word)
        if known in _REFINED:
            return known
        squeezed = word.replace("_", "").replace(" ", "")
        for part, status in _FAILURES:
            if part in squeezed:
                return status
    return "error"


def _payload(span: Span, status_message: str, events: Sequence[Span.Event]) -> dict[str, Any]:
    out: dict[str, Any] = {"name": span.name}
    kind = span.kind
    if kind:
        out["span_kind"] = _SPAN_KINDS[kind] if kind < len(_SPAN_KINDS) else str(kind)
    if status_message:
        out["status_message"] = status_message
    if span.trace_state:
        out["trace_state"] = span.trace_state
    if events:
        out["events"] = [
            {"name": event.name, "time_unix_nano": event.time_unix_nano, "attributes": flat(event.attributes, {})}
            for event in events
        ]
    if links := span.links:
        out["links"] = [
            {
                "trace_id": link.trace_id.hex(),
                "span_id": link.span_id.hex(),
                "attributes": flat(link.attributes, {}),
            }
            for link in links
        ]
    dropped = span.dropped_attributes_count + span.dropped_events_count + span.dropped_links_count
    if dropped:
        out["dropped_count"] = dropped
    return out
