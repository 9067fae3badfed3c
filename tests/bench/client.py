"""What the Python client costs and brings: `llmhub bench client`, over a running hub.

Events per second from `record` to their acknowledgement, and what `record` itself takes from the application, flat out
and at a steady pace. In the same run the two ways people send without it: a POST for each event, and a POST for each
batch, both with httpx2 on one kept-alive connection. Every way encodes the same events within the time measured.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import numpy as np

from cluster.sdk.client import NDJSON, Counts, HubClient, Recording
from tests.bench.ingest import machine, versions

_LIBRARIES = ("httpx2", "msgspec", "zstandard")


def events(count: int) -> Iterator[dict[str, Any]]:
    """Calls as a gateway tells of them, without ids."""
    for number in range(count):
        yield {
            "occurred_at": time.time_ns() // 1_000,
            "module": "gateway",
            "kind": "gateway.request",
            "operation": "chat",
            "provider": "openai",
            "model": f"bench-model-{number % 7}",
            "status": "ok" if number % 50 else "error",
            "latency_ms": 200 + number % 1_700 + 0.25,
            "ttft_ms": 90 + number % 300,
            "input_tokens": 300 + number % 2_100,
            "output_tokens": 40 + number % 700,
            "cost_usd": f"0.{number % 9_999:06d}",
            "user_id": f"user-{number % 4_001}",
            "session_id": f"session-{number % 20_011}",
            "attributes": {"team": f"team-{number % 12}", "route": "/v1/chat/completions"},
        }


def recorded(url: str, key: str, count: int, *, pause_s: float = 0.0) -> dict[str, Any]:
    """`record` for each event, then `flush`."""
    made = list(events(count))
    took_ns = np.zeros(count, np.int64)
    recording = Recording(queue_events=count, queue_bytes=4096 * count)
    with HubClient(url, key, recording=recording) as client:
        # The first call starts the threads, which happens once in a program.
        client.record(made[0])
        client.flush()
        began = time.monotonic()
        for number, event in enumerate(made):
            called = time.perf_counter_ns()
            client.record(event)
            took_ns[number] = time.perf_counter_ns() - called
            if pause_s:
                time.sleep(pause_s)
        recorded_s = time.monotonic() - began
        counts = client.flush(600.0)
        seconds = time.monotonic() - began
    return {
        "events_per_s": round((counts.acknowledged - 1) / seconds),
        "recorded_per_s": round(count / recorded_s),
        "record_us": {f"p{share}": round(float(np.percentile(took_ns, share)) / 1_000, 1) for share in (50, 99)},
        "retries": client.trouble.retries,
        "counts": _told(counts),
    }


def posted(url: str, key: str, count: int, *, batch: int) -> dict[str, Any]:
    """A POST for each `batch` events, one after the other, as a program without the client would do it."""
    made = list(events(count))
    headers = {"Authorization": f"Bearer {key}", "Content-Type": NDJSON}
    accepted = busy = 0
    took_ns: list[int] = []
    with httpx2.Client(headers=headers, timeout=60.0, trust_env=False) as http:
        began = time.monotonic()
        for first in range(0, count, batch):
            called = time.perf_counter_ns()
            rows = [{"event_id": uuid4().hex, **event} for event in made[first : first + batch]]
            body = "\n".join(map(json.dumps, rows)).encode()
            while (answer := http.post(f"{url}/api/v1/events", content=body)).status_code in (429, 503):
                busy += 1
                time.sleep(float(answer.headers.get("retry-after", 1)))
            answer.raise_for_status()
            accepted += answer.json()["accepted"]
            took_ns.append(time.perf_counter_ns() - called)
        seconds = time.monotonic() - began
    return {
        "events_per_s": round(accepted / seconds),
        "batch": batch,
        "blocked_us_per_post": {f"p{share}": round(float(np.percentile(took_ns, share)) / 1_000) for share in (50, 99)},
        "retries": busy,
        "acknowledged": accepted,
    }


def main(arguments: Sequence[str]) -> dict[str, Any]:
    """Measure the ways in turn, print their figures as JSON, and give them."""
    chosen = _parser().parse_args(list(arguments))
    url, key = chosen.url.rstrip("/"), chosen.key
    ways: dict[str, Callable[[], dict[str, Any]]] = {
        "record_flat_out": lambda: recorded(url, key, chosen.events),
        "record_paced": lambda: recorded(url, key, chosen.paced_events, pause_s=0.001),
        "post_each_event": lambda: posted(url, key, chosen.single_events, batch=1),
        "post_each_batch": lambda: posted(url, key, chosen.events, batch=chosen.batch),
    }
    figures: dict[str, Any] = {"bench": "client", "machine": machine()}
    figures["versions"] = versions(_state()) | {name: version(name) for name in _LIBRARIES}
    figures["event_bytes"] = round(np.mean([len(json.dumps(event)) for event in events(1_000)]))
    figures["events"] = {
        "record_flat_out": chosen.events,
        "record_paced": chosen.paced_events,
        "post_each_event": chosen.single_events,
        "post_each_batch": chosen.events,
    }
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for _ in range(chosen.runs):
        # In turn, so that a slower stretch of the machine meets all of them.
        for name, measure in ways.items():
            runs[name].append(measure())
            print(f"{name:<16} {runs[name][-1]['events_per_s']:>8,} events/s", file=sys.stderr, flush=True)
    figures["runs"] = runs
    figures["median_events_per_s"] = {
        name: round(float(np.median([run["events_per_s"] for run in done]))) for name, done in runs.items()
    }
    text = json.dumps(figures, indent=2)
    print(text)
    if chosen.json:
        chosen.json.write_text(text + "\n")
    return figures


def _told(counts: Counts) -> dict[str, int]:
    names = ("recorded", "acknowledged", "repeated", "refused", "spooled", "dropped", "pending")
    return {name: getattr(counts, name) for name in names}


def _state() -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((Path(os.environ.get("HUB_DATA", ".llmhub")) / "hub.json").read_text())
    except (OSError, ValueError):
        return {}
    return state


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llmhub bench client", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--url", default=os.environ.get("HUB_URL", "http://127.0.0.1:8000"))
    parser.add_argument("--key", default=os.environ.get("HUB_API_KEY", ""))
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--paced-events", type=int, default=5_000)
    parser.add_argument("--single-events", type=int, default=500)
    parser.add_argument("--batch", type=int, default=2_000, help="events of one POST of the baseline")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    # Of other benchmarks: folder of real data.
    parser.add_argument("--data", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
