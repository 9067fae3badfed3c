"""A tenant at ten times its quota beside a quiet one: `python -m tests.journeys.noisy_tenant`, over a hub of its own.

Prints JSON: the quiet tenant's ingest latency and freshness alone and beside the noisy one, their ratio, what each was
answered, and the ledger. Nothing here asserts a time: machines differ.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx2
import numpy as np

from cluster.sdk.client import HubClient, utc
from tests.bench.freshness import one as freshness_s
from tests.journeys.local_hub import LocalHub, local_hub

_NOISY_THREADS: Final = 4
_NOISY_ROWS: Final = 500
_QUIET_ROWS: Final = 50
_QUIET_EVERY_S: Final = 0.1
_FRESHNESS_SAMPLES: Final = 5
_SETTLED_WITHIN_S: Final = 60.0


@dataclass
class Sender:
    """One tenant's sender and what it was answered."""

    url: str
    key: str
    statuses: Counter[int] = field(default_factory=Counter)
    accepted: int = 0
    seconds: list[float] = field(default_factory=list)
    refusal: dict[str, Any] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, client: httpx2.Client, rows: int) -> None:
        """Send rows that nobody sent before, once, without any patience."""
        at = utc(time.time_ns() // 1_000)
        names = uuid4().hex
        body = b"\n".join(
            b'{"event_id":"%s-%d","occurred_at":"%s","module":"gateway","kind":"gateway.request","model":"m"}'
            % (names.encode(), number, at.encode())
            for number in range(rows)
        )
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/x-ndjson"}
        began = time.monotonic()
        answer = client.post(f"{self.url}/api/v1/events", content=body, headers=headers)
        took_s = time.monotonic() - began
        with self._lock:
            self.statuses[answer.status_code] += 1
            if answer.status_code == httpx2.codes.ACCEPTED:
                self.accepted += answer.json()["accepted"]
                self.seconds.append(took_s)
            else:
                self.refusal = {"retry_after": answer.headers.get("retry-after"), **answer.json()}

    def pace(self, rows: int, every_s: float, stop: threading.Event) -> None:
        """Send again and again at fixed instants, or as fast as answers come, until told to stop."""
        with httpx2.Client(timeout=60.0) as client:
            due = time.monotonic()
            while not stop.is_set():
                self.send(client, rows)
                due = max(due + every_s, time.monotonic() - every_s)
                stop.wait(max(0.0, due - time.monotonic()))


@contextmanager
def sending(sender: Sender, *, threads: int, rows: int, every_s: float) -> Iterator[None]:
    """The sender at work, each thread with a pace of its own, until the block ends."""
    stop = threading.Event()
    workers = [threading.Thread(target=sender.pace, args=(rows, every_s, stop)) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        stop.set()
        for worker in workers:
            worker.join()


def run(hub: LocalHub, *, seconds: float, events_per_s: int, samples: int = _FRESHNESS_SAMPLES) -> dict[str, Any]:
    """The figures; `seconds` for each of the two halves.

    Args:
        events_per_s: the noisy tenant's quota.
        samples: measured freshnesses of each half.
    """
    suffix = uuid4().hex[:8]
    quiet_key, noisy_key = (_tenant(hub, f"{name}-{suffix}") for name in ("quiet", "noisy"))
    limit = {"events_per_s": events_per_s, "burst_s": 1.0}
    _ask(hub, "PUT", f"/api/v1/tenants/noisy-{suffix}/quota", limit)
    alone, beside, noisy = (Sender(hub.url, key) for key in (quiet_key, quiet_key, noisy_key))
    halves = []
    with HubClient(hub.url, quiet_key) as client:
        with sending(alone, threads=1, rows=_QUIET_ROWS, every_s=_QUIET_EVERY_S):
            halves.append(_half(client, seconds, samples))
        every_s = _NOISY_THREADS * _NOISY_ROWS / (10 * events_per_s)
        with (
            sending(noisy, threads=_NOISY_THREADS, rows=_NOISY_ROWS, every_s=every_s),
            sending(beside, threads=1, rows=_QUIET_ROWS, every_s=_QUIET_EVERY_S),
        ):
            halves.append(_half(client, seconds, samples))
    accounts = _settled(hub, suffix)
    first, second = _latency(alone), _latency(beside)
    return {
        "quiet_alone": {**first, **halves[0], "statuses": dict(alone.statuses)},
        "quiet_beside": {**second, **halves[1], "statuses": dict(beside.statuses)},
        "ratio": {name: round(second[name] / first[name], 3) for name in ("p50_ms", "p95_ms")},
        "noisy": {
            "quota_events_per_s": events_per_s,
            "offered_events": sum(noisy.statuses.values()) * _NOISY_ROWS,
            "accepted": noisy.accepted,
            "statuses": dict(noisy.statuses),
            "refusal": noisy.refusal,
        },
        # Each measured freshness is one event as well.
        "ledger": {
            "quiet_missing": alone.accepted + beside.accepted + 2 * samples - accounts[f"quiet-{suffix}"]["accepted"],
            "noisy_missing": noisy.accepted - accounts[f"noisy-{suffix}"]["accepted"],
            "in_flight": sum(account["in_flight"] for account in accounts.values()),
            "difference": sum(abs(account["difference"]) for account in accounts.values()),
        },
    }


def _half(client: HubClient, seconds: float, samples: int) -> dict[str, float]:
    ends = time.monotonic() + seconds
    found = [freshness_s(client) for _ in range(samples)]
    time.sleep(max(0.0, ends - time.monotonic()))
    return {"freshness_p50_s": round(float(np.median(found)), 3), "freshness_longest_s": round(max(found), 3)}


def _latency(sender: Sender) -> dict[str, float]:
    p50, p95 = np.percentile(sender.seconds, (50, 95)) * 1_000
    return {"p50_ms": round(float(p50), 2), "p95_ms": round(float(p95), 2)}


def _tenant(hub: LocalHub, name: str) -> str:
    """A new tenant's key."""
    _ask(hub, "POST", "/api/v1/tenants", {"tenant_id": name})
    made = _ask(hub, "POST", f"/api/v1/keys?tenant={name}", {"name": "journey", "scopes": ["ingest", "read"]})
    return str(made["key"])


def _ask(hub: LocalHub, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    answer = httpx2.request(method, hub.url + path, json=body, headers={"authorization": f"Bearer {hub.key}"})
    answer.raise_for_status()
    return answer.json()


def _settled(hub: LocalHub, suffix: str) -> dict[str, dict[str, int]]:
    """The two accounts once nothing is in flight."""
    ends = time.monotonic() + _SETTLED_WITHIN_S
    while True:
        rows = _ask(hub, "GET", "/api/v1/ledger")["tenants"]
        mine = {row.pop("tenant_id"): row for row in rows if row["tenant_id"].endswith(suffix)}
        if not any(row["in_flight"] for row in mine.values()) or time.monotonic() > ends:
            return mine
        time.sleep(0.2)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--events-per-s", type=int, default=2_000)
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help="a setting in small letters")
    chosen = parser.parse_args(arguments)
    settings = dict(pair.split("=", 1) for pair in chosen.set)
    with tempfile.TemporaryDirectory() as folder, local_hub(Path(folder), **settings) as hub:
        print(json.dumps(run(hub, seconds=chosen.seconds, events_per_s=chosen.events_per_s), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
