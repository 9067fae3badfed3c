"""Unmodified OpenTelemetry clients against a running hub: one call, one correct trace."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from cluster.sdk.client import HubClient, HubRefused
from tests.journeys.fake_openai import MODEL, fake_openai
from tests.journeys.local_hub import LocalHub

pytestmark = pytest.mark.journey

GRPC_CLIENTS = frozenset({"sdk-grpc", "openinference"})
LIBRARIES = {
    "genai": "opentelemetry.instrumentation.genai.openai",
    "openinference": "openinference.instrumentation.openai",
    "openllmetry": "opentelemetry.instrumentation.openai",
}
# The usage of fake_openai, in the hub's six exclusive buckets. By hand, a cache write is told as well.
BUCKETS = {
    "input_uncached": 400,
    "cache_read": 800,
    "cache_write": 0,
    "output_text": 217,
    "reasoning": 128,
    "other_modal": 0,
}
BUCKETS_BY_HAND = {**BUCKETS, "input_uncached": 300, "cache_write": 100}
FRESH_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def openai_url() -> Iterator[str]:
    with fake_openai() as url:
        yield url


@pytest.mark.parametrize("client", ["sdk-grpc", "sdk-http", "genai", "openinference", "openllmetry"])
def test_a_real_client_gives_one_correct_trace(client: str, hub: LocalHub, openai_url: str) -> None:
    library = LIBRARIES.get(client)
    if library is not None and not _installed(library):
        pytest.skip(f"{library} is not installed")
    door = hub.otlp_endpoint if client in GRPC_CLIENTS else hub.url
    (recorded,) = _recorded(client, door, hub.key, openai_url)
    trace = _trace(hub, recorded["trace_id"])
    (span,) = trace["spans"]
    assert span["span_id"] == recorded["span_id"]
    assert (span["kind"], span["operation"], span["status"]) == ("observatory.span", "chat", "ok")
    assert (span["service"], span["provider"], span["model"]) == ("journey", "openai", MODEL)
    assert span["tokens"] == (BUCKETS_BY_HAND if client.startswith("sdk-") else BUCKETS)
    assert span["usage_conflict"] is False
    assert Decimal(str(span["latency_ms"])) == Decimal(str(recorded["latency_ms"]))
    assert trace["totals"]["request_count"] == 1
    assert (trace["totals"]["input_tokens"], trace["totals"]["output_tokens"]) == (1200, 345)
    told = {name: value for name, value in recorded["attributes"].items() if name in span["attributes"]}
    assert {name: span["attributes"][name] for name in told} == told


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _recorded(client: str, door: str, key: str, url: str) -> list[dict[str, Any]]:
    # The libraries of OpenTelemetry itself write the newer names only when asked to.
    environment = {**os.environ, "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental"}
    command = [sys.executable, "-m", "tests.journeys.instrumented", client, door, key, url]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout.splitlines()[-1]))


def _trace(hub: LocalHub, trace_id: str) -> dict[str, Any]:
    """The trace, asked for until it is in answers."""
    deadline = time.monotonic() + FRESH_WITHIN_S
    with HubClient(hub.url, hub.key) as client:
        while True:
            try:
                return dict(client.get(f"/api/v1/traces/{trace_id}"))
            except HubRefused as error:
                if error.status != 404 or time.monotonic() > deadline:
                    raise
            time.sleep(0.2)
