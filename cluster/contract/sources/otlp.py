"""OTLP traces -> events. A span is `observatory.span`; a guardrail's span is `guardrails.evaluation`.

Every span is taken, model call or not. Resource, scope and span attributes are kept together in `attributes`, the
span's name, kind, events, links and status message in `payload`. An evaluation told of as a span event is an
`observatory.eval` event of its own beside the span.
"""

from __future__ import annotations

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from cluster.contract.rows import DecodeContext, Decoded
from cluster.contract.sources.otlp_logs import decode_logs, logs_from_message
from cluster.contract.sources.otlp_metrics import decode_metrics, metrics_from_message
from cluster.contract.sources.otlp_rows import OtlpRows
from cluster.contract.sources.otlp_spans import add_span
from cluster.contract.sources.otlp_traces import read_traces
from cluster.contract.sources.otlp_values import flat, is_protobuf, parse, scope_attributes

__all__ = [
    "decode_logs",
    "decode_metrics",
    "decode_traces",
    "logs_from_message",
    "metrics_from_message",
    "traces_from_message",
]


def decode_traces(body: bytes, content_type: str, context: DecodeContext) -> Decoded:
    """Spans of an OTLP/HTTP body, protobuf or JSON.

    Raises:
        BodyUnreadable: not an export request.
        BodyTooLarge: more spans than the context allows.
        MediaTypeUnsupported: neither protobuf nor JSON.
    """
    if is_protobuf(content_type):
        decoded = read_traces(body, context)
        if decoded is not None:
            return decoded
        return spans_one_by_one(parse(ExportTraceServiceRequest, body, content_type), context)
    return traces_from_message(parse(ExportTraceServiceRequest, body, content_type), context)


def traces_from_message(message: ExportTraceServiceRequest, context: DecodeContext) -> Decoded:
    """Spans of a parsed request, as the gRPC door gets it.

    Raises:
        BodyTooLarge: more spans than the context allows.
    """
    # Writing the request out again costs a fiftieth of asking the message for its spans.
    decoded = read_traces(message.SerializeToString(), context)
    return spans_one_by_one(message, context) if decoded is None else decoded


def spans_one_by_one(message: ExportTraceServiceRequest, context: DecodeContext) -> Decoded:
    """What `read_traces` gives, for every request there is.

    Raises:
        BodyTooLarge: more spans than the context allows.
    """
    rows = OtlpRows(context, "span")
    for resource_spans in message.resource_spans:
        resource = flat(resource_spans.resource.attributes, {})
        for scope_spans in resource_spans.scope_spans:
            scope = scope_attributes(scope_spans.scope, resource)
            for span in scope_spans.spans:
                add_span(rows, span, scope)
    return rows.seal()
