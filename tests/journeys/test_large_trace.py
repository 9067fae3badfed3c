"""A trace far larger than one message of gRPC's own default comes whole through edge, door and engine."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cluster.sdk.client import HubClient, HubRefused
from tests.journeys.local_hub import LocalHub

pytestmark = [pytest.mark.journey, pytest.mark.timeout(180)]

SPANS = 10_000
VISIBLE_WITHIN_S = 30.0


def spans(trace_id: str) -> list[dict[str, Any]]:
    """One root, a hundred agents under it, model calls under each."""
    start = datetime.now(UTC) - timedelta(minutes=5)
    rows = []
    for number in range(SPANS):
        parent = None if number == 0 else f"{0:016x}" if number <= 100 else f"{1 + number % 100:016x}"
        rows.append(
            {
                "occurred_at": (start + timedelta(milliseconds=number)).isoformat(),
                "module": "observatory",
                "kind": "observatory.span",
                "operation": "chat",
                "model": "gpt-4o",
                "trace_id": trace_id,
                "span_id": f"{number:016x}",
                "parent_span_id": parent,
                "latency_ms": 20.0,
                "input_tokens": 10,
                "output_tokens": 5,
                "payload": {"note": "n" * 200},
            }
        )
    return rows


def test_ten_thousand_spans_open_as_one_tree(hub: LocalHub) -> None:
    trace_id = secrets.token_hex(16)
    with hub.client() as client:
        receipt = client.post_events(spans(trace_id))
        assert receipt.accepted == SPANS
        deadline = time.monotonic() + VISIBLE_WITHIN_S
        while (found := _spans(client, trace_id)) < SPANS and time.monotonic() < deadline:
            time.sleep(0.2)
    assert found == SPANS


def _spans(client: HubClient, trace_id: str) -> int:
    try:
        return len(client.get(f"/api/v1/traces/{trace_id}")["spans"])
    except HubRefused as error:
        if error.status != 404:
            raise
        return 0
