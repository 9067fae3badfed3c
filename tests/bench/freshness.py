"""From the acknowledgement of an event until it is in an answer: `llmhub bench freshness`, over a running hub."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from cluster.sdk.client import HubClient, utc

_DEADLINE_S = 60.0
_POLL_S = 0.02


def one(client: HubClient) -> float:
    """Send one event of a model nobody else names; seconds from its acknowledgement until it is counted."""
    model = f"fresh-{uuid4().hex}"
    event = {
        "event_id": model,
        "occurred_at": utc(time.time_ns() // 1000),
        "module": "gateway",
        "kind": "gateway.request",
        "model": model,
    }
    client.post_events([event])
    acknowledged = time.monotonic()
    question = [("measure", "request_count"), ("from", "-5m"), ("to", "now"), ("filter", f"model:eq:{model}")]
    while time.monotonic() - acknowledged < _DEADLINE_S:
        rows = client.get("/api/v1/metrics/aggregates", question)["rows"]
        if rows and rows[0]["values"]["request_count"]:
            return time.monotonic() - acknowledged
        time.sleep(_POLL_S)
    raise TimeoutError(f"{model} was acknowledged and is in no answer after {_DEADLINE_S:.0f} s")


def main(arguments: Sequence[str]) -> dict[str, Any]:
    """Figures in seconds; prints them as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", default=os.environ.get("HUB_URL", "http://127.0.0.1:8000"))
    parser.add_argument("--key", default=os.environ.get("HUB_API_KEY", ""))
    parser.add_argument("--events", type=int, default=40)
    parser.add_argument("--data")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    with HubClient(chosen.url, chosen.key) as client:
        seconds = sorted(one(client) for _ in range(chosen.events))
    figures = {
        "events": len(seconds),
        "p50_s": round(statistics.median(seconds), 2),
        "p95_s": round(seconds[int(0.95 * (len(seconds) - 1))], 2),
        "longest_s": round(seconds[-1], 2),
        "cores": os.cpu_count(),
    }
    text = json.dumps(figures, indent=2)
    print(text)
    if chosen.json:
        chosen.json.write_text(text + "\n")
    return figures


if __name__ == "__main__":
    main(sys.argv[1:])
