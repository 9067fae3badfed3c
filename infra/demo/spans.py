"""Calls of a block -> an OTLP export request, each service in the dialect of its instrumentation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from infra.demo.platform import MODELS, SERVICES, TOOLS, Model, World, session_name, user_name
from infra.demo.traffic import OK, STATUSES, Block, Calls

Attributes = Iterator[tuple[str, str | int | float]]

_TOOL_US: Final = 300_000
_RETRIEVAL_US: Final = 90_000
_ENVIRONMENT: Final = "production"


@dataclass(frozen=True, slots=True)
class Told:
    """One model call as an instrumentation sees it. Totals are inclusive, as in OpenTelemetry."""

    model: Model
    session: str
    user: str
    tokens: tuple[int, int, int, int, int]
    ttft_ms: float
    failed: bool


def _current(call: Told, write: str) -> Attributes:
    """OpenTelemetry GenAI from 1.37 on; only the name of cache writes differs between its releases."""
    yield "gen_ai.operation.name", call.model.operation
    yield "gen_ai.provider.name", call.model.provider
    yield "gen_ai.request.model", call.model.name
    yield "gen_ai.conversation.id", call.session
    yield "user.id", call.user
    if call.failed:
        return
    yield "gen_ai.response.model", call.model.name
    names = ("input_tokens", "output_tokens", "cache_read.input_tokens", write, "reasoning.output_tokens")
    for name, count in zip(names, call.tokens, strict=True):
        yield f"gen_ai.usage.{name}", count
    yield "gen_ai.response.time_to_first_chunk", call.ttft_ms / 1000


def _otel(call: Told) -> Attributes:
    return _current(call, "cache_creation.input_tokens")


def _otel_genai(call: Told) -> Attributes:
    return _current(call, "cache_write.input_tokens")


def _otel_136(call: Told) -> Attributes:
    """OpenTelemetry up to 1.36: no cache and no reasoning tokens, no time to the first token."""
    yield "gen_ai.operation.name", call.model.operation
    yield "gen_ai.system", call.model.provider
    yield "gen_ai.request.model", call.model.name
    if not call.failed:
        yield "gen_ai.response.model", call.model.name
        yield "gen_ai.usage.input_tokens", call.tokens[0]
        yield "gen_ai.usage.output_tokens", call.tokens[1]


def _openinference(call: Told) -> Attributes:
    yield "openinference.span.kind", "EMBEDDING" if call.model.operation == "embeddings" else "LLM"
    yield "llm.system", "vertexai" if call.model.provider == "gcp.vertex_ai" else call.model.provider
    yield "llm.model_name", call.model.name
    yield "session.id", call.session
    yield "user.id", call.user
    if call.failed:
        return
    sent, output, read, write, reasoning = call.tokens
    yield "llm.token_count.prompt", sent
    yield "llm.token_count.completion", output
    yield "llm.token_count.total", sent + output
    yield "llm.token_count.prompt_details.cache_read", read
    yield "llm.token_count.prompt_details.cache_write", write
    yield "llm.token_count.completion_details.reasoning", reasoning


def _openllmetry(call: Told) -> Attributes:
    yield "llm.request.type", "chat"
    yield "gen_ai.system", {"anthropic": "Anthropic", "openai": "OpenAI"}.get(call.model.provider, call.model.provider)
    yield "gen_ai.request.model", call.model.name
    yield "traceloop.association.properties.session_id", call.session
    yield "traceloop.association.properties.user_id", call.user
    if call.failed:
        return
    yield "gen_ai.response.model", call.model.name
    names = ("prompt_tokens", "completion_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    for name, count in zip((*names, "reasoning_tokens"), call.tokens, strict=True):
        yield f"gen_ai.usage.{name}", count
    yield "llm.usage.total_tokens", call.tokens[0] + call.tokens[1]


DIALECTS: Final[dict[str, Callable[[Told], Attributes]]] = {
    "otel": _otel,
    "otel_genai": _otel_genai,
    "otel_136": _otel_136,
    "openinference": _openinference,
    "openllmetry": _openllmetry,
}
# Dialect -> operation -> attributes of spans that are no model calls.
_OTHER: Final[dict[bool, dict[str, dict[str, str]]]] = {
    True: {
        "invoke_agent": {"openinference.span.kind": "AGENT"},
        "invoke_workflow": {"openinference.span.kind": "CHAIN"},
        "execute_tool": {"openinference.span.kind": "TOOL"},
        "retrieval": {"openinference.span.kind": "RETRIEVER"},
    },
    False: {
        name: {"gen_ai.operation.name": name}
        for name in ("invoke_agent", "invoke_workflow", "execute_tool", "retrieval")
    },
}


def export_request(block: Block, world: World) -> tuple[bytes, int]:
    """The spans of a block as a protobuf ExportTraceServiceRequest, and how many they are."""
    request = ExportTraceServiceRequest()
    count = 0
    for at, service in enumerate(SERVICES):
        calls = block.calls.take(block.calls.service == at)
        if not len(calls):
            continue
        resource = request.resource_spans.add()
        for name, value in (("service.name", service.name), ("deployment.environment.name", _ENVIRONMENT)):
            resource.resource.attributes.append(attribute(name, value))
        scope = resource.scope_spans.add()
        scope.scope.name = f"simulated.{service.dialect}"
        scope.spans.extend(_call_spans(calls, service.dialect))
        if service.calls > 1 or service.retrieves:
            scope.spans.extend(_around(calls, "agent" if service.calls > 1 else "retrieval", service.dialect))
        count += len(scope.spans)
    return request.SerializeToString(), count


def _call_spans(calls: Calls, dialect: str) -> Iterator[Span]:
    attributes = DIALECTS[dialect]
    for row in range(len(calls)):
        model, at_us, user = MODELS[calls.model[row]], int(calls.at_us[row]), int(calls.user[row])
        status = int(calls.status[row])
        span = _span(
            calls, row, f"{model.operation} {model.name}", (at_us, at_us + round(1000 * float(calls.latency_ms[row])))
        )
        span.span_id = int(calls.span[row]).to_bytes(8, "big")
        if calls.parent[row]:
            span.parent_span_id = int(calls.parent[row]).to_bytes(8, "big")
        ttft = float(calls.ttft_ms[row])
        told = Told(
            model,
            session_name(user, at_us),
            user_name(user),
            tuple(calls.tokens[row].tolist()),
            0.0 if math.isnan(ttft) else ttft,
            status != OK,
        )
        span.attributes.extend(attribute(name, value) for name, value in attributes(told))
        if status != OK:
            span.status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR, message=STATUSES[status]))
            span.attributes.append(attribute("error.type", STATUSES[status]))
        yield span


def _around(calls: Calls, shape: str, dialect: str) -> Iterator[Span]:
    """The root of each task, and what happens between its calls: tools, or a retrieval before the first."""
    words = _OTHER[dialect == "openinference"]
    ends = calls.at_us + (calls.latency_ms * 1000).astype("int64")
    tasks: dict[int, list[int]] = {}
    for row, task in enumerate(calls.task.tolist()):
        tasks.setdefault(task, []).append(row)
    for rows in tasks.values():
        first = rows[0]
        before = _RETRIEVAL_US if shape == "retrieval" else 0
        begin = int(calls.at_us[first]) - before
        operation = "invoke_agent" if shape == "agent" else "invoke_workflow"
        root = _span(calls, first, operation, (begin, int(ends[rows].max())))
        root.span_id = int(calls.parent[first]).to_bytes(8, "big")
        root.attributes.extend(attribute(*pair) for pair in words[operation].items())
        yield root
        steps = [("retrieval", begin, _RETRIEVAL_US)] if before else []
        steps += [
            ("execute_tool", int(calls.at_us[row]) - _TOOL_US, _TOOL_US) for row in rows[1:] if calls.attempt[row] == 1
        ]
        for number, (name, at_us, length_us) in enumerate(steps):
            tool = TOOLS[(int(calls.span[first]) + number) % len(TOOLS)]
            step = _span(calls, first, name if name == "retrieval" else f"{name} {tool}", (at_us, at_us + length_us))
            step.span_id = ((int(calls.parent[first]) + number + 1) % (1 << 64) or 1).to_bytes(8, "big")
            step.parent_span_id = root.span_id
            step.attributes.extend(attribute(*pair) for pair in words[name].items())
            if name == "execute_tool":
                step.attributes.append(attribute("gen_ai.tool.name", tool))
            yield step


def _span(calls: Calls, row: int, name: str, at: tuple[int, int]) -> Span:
    high, low = calls.trace[row].tolist()
    return Span(
        trace_id=high.to_bytes(8, "big") + low.to_bytes(8, "big"),
        name=name,
        kind=Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=at[0] * 1000,
        end_time_unix_nano=at[1] * 1000,
    )


def attribute(name: str, value: Any) -> KeyValue:
    """One attribute as OTLP writes it."""
    pair = KeyValue(key=name)
    if isinstance(value, str):
        pair.value.string_value = value
    elif isinstance(value, int):
        pair.value.int_value = value
    else:
        pair.value.double_value = value
    return pair
