"""One OTLP span as the protobuf library parsed it -> rows. The rules are told here; columns follow them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from cluster.contract.sources import dialects
from cluster.contract.sources.otlp_logs import evaluation
from cluster.contract.sources.otlp_rows import OtlpRows
from cluster.contract.sources.otlp_values import documents, flat, micros
from cluster.contract.vocabulary import STATUSES

# Where a failed span says what it failed of, and a guardrail what it found.
FAILURE_NAMES: Final = ("error.type", "http.response.status_code", "http.status_code", "exception.type")
VERDICT: Final = "gen_ai.guardrail.verdict.type"
STATUS_ERROR: Final = 2
ID_REFUSAL: Final = ("span_id_invalid", "trace id and span id must be 16 and 8 bytes and not all zero")
_SPAN_KINDS: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")
_NO_TRACE: Final = bytes(16)
_NO_SPAN: Final = bytes(8)
# Part of an exception's name, in lower case -> what the call failed of.
_FAILURES: Final = (("ratelimit", "rate_limited"), ("timeout", "timeout"), ("unavailable", "unavailable"))
_REFINED: Final = frozenset({"timeout", "rate_limited", "unavailable"})


def times_refusal(start: int, end: int) -> tuple[str, str]:
    return "span_times_invalid", f"the span ends {(start - end) / 1e9:.3f} s before it starts"


def add_span(rows: OtlpRows, span: Span, scope: dict[str, Any]) -> None:
    """The span's row, and one for each evaluation among its events.

    Raises:
        BodyTooLarge: more rows than the context allows.
    """
    trace_id, span_id = span.trace_id, span.span_id
    start, end = span.start_time_unix_nano, span.end_time_unix_nano
    if len(trace_id) != 16 or len(span_id) != 8 or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        rows.refuse(span, *ID_REFUSAL)
        return
    if end and end < start:
        rows.refuse(span, *times_refusal(start, end))
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
    row["status"] = failure(map(attributes.get, FAILURE_NAMES)) if status.code == STATUS_ERROR else "ok"
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
            verdict = attributes.get(VERDICT)
            if isinstance(verdict, str):
                row["guardrail_action"] = verdict
        return "guardrails", "guardrails.evaluation"
    return "observatory", "observatory.span"


def failure(values: Iterable[Any]) -> str:
    """What a failed span failed of: a class of its own where one of its FAILURE_NAMES says so."""
    for value in values:
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
        out["span_kind"] = _SPAN_KINDS[kind] if 0 <= kind < len(_SPAN_KINDS) else str(kind)
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
