"""What OTLP senders are answered: export responses with partial success, and google.rpc.Status for errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration  # type: ignore[import-untyped]
from google.protobuf.json_format import MessageToJson  # type: ignore[import-untyped]
from google.protobuf.message import Message  # type: ignore[import-untyped]
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from cluster.errors import HubError
from serving.problem import grpc_status_of, message_of, retry_after_s
from serving.reception import Receipt

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"

_MESSAGE_LENGTH_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Signal:
    """One OTLP signal: its messages, and the name of the field that counts what was refused."""

    name: str
    request: type[Message]
    response: Any
    rejected: str


SIGNALS: Final = {
    "traces": Signal("traces", ExportTraceServiceRequest, ExportTraceServiceResponse, "rejected_spans"),
    "logs": Signal("logs", ExportLogsServiceRequest, ExportLogsServiceResponse, "rejected_log_records"),
    "metrics": Signal("metrics", ExportMetricsServiceRequest, ExportMetricsServiceResponse, "rejected_data_points"),
}


def signal_of(message: Message) -> Signal | None:
    """The signal a gRPC request belongs to; all three services have a method of the same name."""
    return next((signal for signal in SIGNALS.values() if isinstance(message, signal.request)), None)


def export_response(signal: Signal, receipt: Receipt) -> Message:
    """The export response; `partial_success` is set only where rows were refused, as the specification asks.

    Repeats are not rejected: the hub has them.
    """
    response: Message = signal.response()
    if receipt.refused:
        partial = response.partial_success
        setattr(partial, signal.rejected, receipt.refused)
        told = "; ".join(f"{r.message} ({r.code})" for r in receipt.refusals[:5])
        partial.error_message = f"{receipt.refused} kept as dead letters: {told}"[:_MESSAGE_LENGTH_MAX]
    return response


def encoded(message: Message, content_type: str) -> tuple[bytes, str]:
    """The message in the form of the request, and the name of that form: protobuf, or JSON for anything else."""
    if content_type.split(";", 1)[0].strip().lower() == PROTOBUF:
        return message.SerializeToString(), PROTOBUF
    return MessageToJson(message, indent=None).encode(), JSON


def status_of_error(error: HubError) -> Status:
    """The error as google.rpc.Status, with the time to wait where the same request may succeed later."""
    # grpc.StatusCode.value is (number, words).
    number: int = grpc_status_of(error).value[0]
    status = Status(code=number, message=f"{message_of(error)}. {error.hint}".strip())
    wait_s = retry_after_s(error)
    if wait_s is not None:
        delay = Duration(seconds=int(wait_s), nanos=int((wait_s % 1) * 1_000_000_000))
        status.details.add().Pack(RetryInfo(retry_delay=delay))
    return status


def refuse(context: Any, error: HubError) -> None:
    """Set the error on a gRPC context: code, words, and the details that tell an exporter when to come again.

    Args:
        context: Ray Serve's gRPC context; the answer that goes with it is empty and not sent.
    """
    status = status_of_error(error)
    context.set_code(grpc_status_of(error))
    # Details travel as a header, which takes no line break.
    context.set_details(status.message.replace("\r", " ").replace("\n", " "))
    context.set_trailing_metadata([("grpc-status-details-bin", status.SerializeToString())])
