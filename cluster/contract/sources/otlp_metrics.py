"""OTLP metrics -> `observatory.metric`, one event for each data point."""

from __future__ import annotations

from typing import Any, Final

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1 import metrics_pb2 as wire

from cluster.contract.columns import TOKEN_FIELDS
from cluster.contract.rows import DecodeContext, Decoded
from cluster.contract.sources import dialects
from cluster.contract.sources.otlp_rows import OtlpRows
from cluster.contract.sources.otlp_values import documents, flat, micros, parse, scope_attributes

_TYPES: Final = {
    "gauge": "gauge",
    "sum": "counter",
    "histogram": "histogram",
    "exponential_histogram": "exponential_histogram",
    "summary": "summary",
}
_TEMPORALITY: Final = ("unspecified", "delta", "cumulative")
_OPTIONAL: Final = ("sum", "min", "max")


def decode_metrics(body: bytes, content_type: str, context: DecodeContext) -> Decoded:
    """Data points of an OTLP/HTTP body, protobuf or JSON; raises as `decode_traces` does."""
    return metrics_from_message(parse(ExportMetricsServiceRequest, body, content_type), context)


def metrics_from_message(message: ExportMetricsServiceRequest, context: DecodeContext) -> Decoded:
    """Data points of a parsed request, as the gRPC door gets it."""
    rows = OtlpRows(context, "data point")
    for resource_metrics in message.resource_metrics:
        resource = flat(resource_metrics.resource.attributes, {})
        for scope_metrics in resource_metrics.scope_metrics:
            scope = scope_attributes(scope_metrics.scope, resource)
            for metric in scope_metrics.metrics:
                kind = metric.WhichOneof("data")
                if kind is None:
                    rows.refuse(metric, "metric_empty", "the metric has no data; send a gauge, sum or histogram")
                    continue
                data = getattr(metric, kind)
                for point in data.data_points:
                    rows.add(point, _row(metric, data, point, scope))
    return rows.seal()


def _row(metric: wire.Metric, data: Any, point: Any, scope: dict[str, Any]) -> dict[str, Any]:
    kind = metric.WhichOneof("data") or ""
    payload: dict[str, Any] = {"name": metric.name, "type": _TYPES[kind]}
    if metric.unit:
        payload["unit"] = metric.unit
    if kind in ("sum", "histogram", "exponential_histogram"):
        temporality = data.aggregation_temporality
        payload["temporality"] = _TEMPORALITY[temporality] if temporality < len(_TEMPORALITY) else str(temporality)
    if point.start_time_unix_nano:
        payload["start_time_unix_nano"] = point.start_time_unix_nano
    payload |= _value(kind, point)
    attributes = flat(point.attributes, dict(scope))
    row = dialects.canonical(attributes)
    # A metric sums up calls that spans tell of one by one: no usage of its own.
    for name in (*TOKEN_FIELDS, "cost_usd", "ttft_ms"):
        row.pop(name, None)
    exemplars = getattr(point, "exemplars", ())
    if exemplars and any(exemplars[0].trace_id):
        row["trace_id"] = exemplars[0].trace_id.hex()
    row["occurred_at"] = micros(point.time_unix_nano)
    row["module"], row["kind"] = "observatory", "observatory.metric"
    row["attributes"], row["payload"] = documents(attributes, payload)
    return row


def _value(kind: str, point: Any) -> dict[str, Any]:
    if kind in ("gauge", "sum"):
        chosen = point.WhichOneof("value")
        return {} if chosen is None else {"value": getattr(point, chosen)}
    out: dict[str, Any] = {"count": point.count}
    if kind == "summary":
        out["sum"] = point.sum
        out["quantiles"] = [[pair.quantile, pair.value] for pair in point.quantile_values]
        return out
    out |= {name: getattr(point, name) for name in _OPTIONAL if point.HasField(name)}
    if kind == "histogram":
        out["bounds"] = list(point.explicit_bounds)
        out["counts"] = list(point.bucket_counts)
        return out
    out["scale"] = point.scale
    out["zero_count"] = point.zero_count
    for side in ("positive", "negative"):
        buckets = getattr(point, side)
        if buckets.bucket_counts:
            out[side] = {"offset": buckets.offset, "counts": list(buckets.bucket_counts)}
    return out
