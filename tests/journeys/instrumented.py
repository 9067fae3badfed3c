"""One model call told by one real OpenTelemetry client, in a process of its own: the libraries patch the same methods.

    python -m tests.journeys.instrumented CLIENT DOOR KEY OPENAI_URL

Prints what the client itself recorded: ids, duration and attributes of its span, as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter

from tests.journeys import fake_openai

SERVICE = "journey"


def http_exporter(door: str, key: str) -> SpanExporter:
    """The stock OTLP/HTTP protobuf exporter."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=f"{door}/v1/traces", headers={"authorization": f"Bearer {key}"})


def grpc_exporter(door: str, key: str) -> SpanExporter:
    """The stock OTLP/gRPC exporter."""
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=door, insecure=True, headers=(("authorization", f"Bearer {key}"),))


def by_hand(provider: TracerProvider, url: str) -> None:
    """A span as the GenAI conventions describe it, made with the SDK alone."""
    usage = fake_openai.USAGE
    with provider.get_tracer("by-hand").start_as_current_span(f"chat {fake_openai.MODEL}") as span:
        span.set_attributes(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "o4-mini",
                "gen_ai.response.model": fake_openai.MODEL,
                "gen_ai.usage.input_tokens": usage["prompt_tokens"],
                "gen_ai.usage.output_tokens": usage["completion_tokens"],
                "gen_ai.usage.cache_read.input_tokens": 800,
                "gen_ai.usage.cache_creation.input_tokens": 100,
                "gen_ai.usage.reasoning.output_tokens": 128,
            }
        )


def genai(provider: TracerProvider, url: str) -> None:
    """opentelemetry-instrumentation-genai-openai, of OpenTelemetry itself; the line openai-v2 goes on as."""
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=provider)
    _ask(url)


def openinference(provider: TracerProvider, url: str) -> None:
    """openinference-instrumentation-openai."""
    from openinference.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=provider)
    _ask(url)


def openllmetry(provider: TracerProvider, url: str) -> None:
    """opentelemetry-instrumentation-openai, of OpenLLMetry."""
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument(tracer_provider=provider)
    _ask(url)


CLIENTS: dict[str, tuple[Callable[[str, str], SpanExporter], Callable[[TracerProvider, str], None]]] = {
    "sdk-grpc": (grpc_exporter, by_hand),
    "sdk-http": (http_exporter, by_hand),
    "genai": (http_exporter, genai),
    "openinference": (grpc_exporter, openinference),
    "openllmetry": (http_exporter, openllmetry),
}


def _ask(url: str) -> None:
    from openai import OpenAI

    client = OpenAI(base_url=url, api_key="none", max_retries=0)
    client.chat.completions.create(model="o4-mini", messages=[{"role": "user", "content": "What is the answer?"}])


class _Kept(SpanProcessor):
    """Spans as they ended."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


def main(client: str, door: str, key: str, url: str) -> None:
    """Make the call, export its span, print what it was."""
    exporter, call = CLIENTS[client]
    provider = TracerProvider(resource=Resource.create({"service.name": SERVICE}))
    kept = _Kept()
    provider.add_span_processor(kept)
    provider.add_span_processor(SimpleSpanProcessor(exporter(door, key)))
    call(provider, url)
    provider.shutdown()
    out = [
        {
            "trace_id": f"{span.context.trace_id:032x}",
            "span_id": f"{span.context.span_id:016x}",
            "name": span.name,
            "latency_ms": (span.end_time - span.start_time) / 1e6,
            "attributes": dict(span.attributes or {}),
        }
        for span in kept.spans
        if span.context and span.end_time and span.start_time
    ]
    print(json.dumps(out, default=str))


if __name__ == "__main__":
    main(*sys.argv[1:])
