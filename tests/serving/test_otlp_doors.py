"""OTLP over HTTP and gRPC: answers an unmodified exporter understands."""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToJson
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    TraceServiceStub,
    add_TraceServiceServicer_to_server,
)
from ray.serve.grpc_util import RayServegRPCContext

from cluster.clock import SystemClock
from cluster.errors import ShardFull
from serving.otlp_answers import status_of_error
from tests.serving.conftest import Hub

PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}
SIGNALS = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}


def traces(count: int, *, bad: int = 0) -> ExportTraceServiceRequest:
    """A request of `count` good spans and `bad` ones that began in 1970."""
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    now_ns = SystemClock().now_us() * 1_000
    for number in range(count + bad):
        span = spans.add(trace_id=b"t" * 16, span_id=(number + 1).to_bytes(8, "big"), name="chat m")
        span.start_time_unix_nano = now_ns if number < count else 1
        span.end_time_unix_nano = span.start_time_unix_nano + 1_000_000
    return request


@pytest.fixture
def key(hub: Hub) -> str:
    return hub.key("ingest")


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("headers", [PROTOBUF, JSON])
def test_an_empty_request_of_each_signal_succeeds(shared_hub: Hub, signal: str, headers: dict[str, str]) -> None:
    body = SIGNALS[signal]().SerializeToString() if headers is PROTOBUF else b"{}"
    answer = shared_hub.call("POST", f"/v1/{signal}", key=shared_hub.key("ingest"), content=body, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, headers["content-type"])
    assert answer.content == (b"" if headers is PROTOBUF else b"{}")


def test_spans_in_protobuf_gzip_and_json_are_the_same_events(hub: Hub, key: str) -> None:
    request = traces(7)
    body = request.SerializeToString()
    hub.call("POST", "/v1/traces", key=key, content=body, headers=PROTOBUF)
    packed = {**PROTOBUF, "content-encoding": "gzip"}
    answer = hub.call("POST", "/v1/traces", key=key, content=gzip.compress(body), headers=packed)
    assert not ExportTraceServiceResponse.FromString(answer.content).HasField("partial_success")
    total = hub.call("GET", "/api/v1/ledger", key=hub.admin).json()["total"]
    assert (total["accepted"], total["repeated"]) == (7, 7)


def test_refused_spans_are_a_partial_success(hub: Hub, key: str) -> None:
    request = traces(3, bad=2)
    answer = hub.call("POST", "/v1/traces", key=key, content=request.SerializeToString(), headers=PROTOBUF)
    partial = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert (answer.status_code, partial.rejected_spans) == (200, 2)
    assert partial.error_message


def test_garbage_is_told_as_status_in_the_form_of_the_request(shared_hub: Hub) -> None:
    key = shared_hub.key("ingest")
    answer = shared_hub.call("POST", "/v1/traces", key=key, content=b"\xff" * 99, headers=PROTOBUF)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/x-protobuf")
    assert Status.FromString(answer.content).code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    answer = shared_hub.call("POST", "/v1/logs", key=key, content=b'{"resourceLogs": 5', headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (400, 3)
    assert shared_hub.call("POST", "/v1/metrics", key=key, content=b"x", headers={}).status_code == 415


@pytest.mark.parametrize("headers", [PROTOBUF, JSON])
def test_a_key_is_needed_even_on_this_machine(shared_hub: Hub, headers: dict[str, str]) -> None:
    answer = shared_hub.call("POST", "/v1/traces", content=b"", headers=headers)
    assert answer.status_code == 401
    wrong = shared_hub.call("POST", "/v1/traces", content=b"", headers=headers, key=shared_hub.key("read"))
    assert wrong.status_code == 403


def test_a_full_shard_tells_when_to_come_again() -> None:
    status = status_of_error(ShardFull("full", retry_after_s=1.5))
    assert status.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    info = RetryInfo()
    assert status.details[0].Unpack(info)
    assert (info.retry_delay.seconds, info.retry_delay.nanos) == (1, 500_000_000)


class Servicer(TraceServiceServicer):  # type: ignore[misc]
    """Calls the hub's export as Ray Serve does: with its own context, whose settings it then sends."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        kept = RayServegRPCContext(context)
        answer = await self._hub.app.state.otlp_export.export(request, kept)
        kept._set_on_grpc_context(context)
        return answer


def over_grpc(hub: Hub, ask: Callable[[Any], Awaitable[Any]]) -> Any:
    """What `ask` gets of a real gRPC server in front of the hub."""

    async def work() -> Any:
        server = grpc.aio.server()
        add_TraceServiceServicer_to_server(Servicer(hub), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                return await ask(TraceServiceStub(channel))
        finally:
            await server.stop(None)

    return hub.run(work())


@pytest.mark.parametrize("form", ["authorization", "x-api-key"])
def test_grpc_takes_spans(hub: Hub, key: str, form: str) -> None:
    text = f"Bearer {key}" if form == "authorization" else key

    async def ask(stub: Any) -> Any:
        return await stub.Export(traces(4, bad=1), metadata=((form, text),))

    assert over_grpc(hub, ask).partial_success.rejected_spans == 1
    assert hub.call("GET", "/api/v1/ledger", key=hub.admin).json()["total"]["accepted"] == 4


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        ((), grpc.StatusCode.UNAUTHENTICATED),
        ((("authorization", "Bearer hub_wrong"),), grpc.StatusCode.UNAUTHENTICATED),
        ((("authorization", "Basic eDp5"),), grpc.StatusCode.UNAUTHENTICATED),
    ],
)
def test_grpc_refuses_strangers_with_details(hub: Hub, metadata: Any, code: grpc.StatusCode) -> None:
    async def ask(stub: Any) -> Any:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Export(traces(1), metadata=metadata)
        return caught.value

    error = over_grpc(hub, ask)
    assert error.code() == code
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    assert Status.FromString(details).code == code.value[0]


def test_grpc_of_a_full_hub_says_when(hub: Hub, key: str) -> None:
    hub.pool.drain_shards()

    async def ask(stub: Any) -> Any:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Export(traces(1), metadata=(("x-api-key", key),))
        return caught.value

    error = over_grpc(hub, ask)
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    status = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    assert status.details[0].Is(RetryInfo.DESCRIPTOR)
    answer = hub.call("POST", "/v1/traces", key=key, content=MessageToJson(traces(1)).encode(), headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (503, grpc.StatusCode.UNAVAILABLE.value[0])
    assert int(answer.headers["retry-after"]) >= 1


def test_a_logs_answer_counts_log_records(shared_hub: Hub) -> None:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    record.time_unix_nano = 1
    headers, key = PROTOBUF, shared_hub.key("ingest")
    answer = shared_hub.call("POST", "/v1/logs", key=key, content=request.SerializeToString(), headers=headers)
    assert ExportLogsServiceResponse.FromString(answer.content).partial_success.rejected_log_records == 1
