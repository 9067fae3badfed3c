"""kill -9 every part in turn during ingest, with senders that retry: nothing acknowledged is lost or doubled.

`python -m tests.journeys.crash [--times 10] [--parts shard,committer,replica,head]` prints its figures as JSON and
exits with 1 when an acknowledged event is missing, an id is there twice, or the ledger does not add up.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
from deltalake import DeltaTable

from cluster.errors import HubError
from cluster.sdk.client import HubClient, utc
from infra.runtime import processes
from tests.journeys.local_hub import LocalHub, local_hub

PARTS = ("shard", "committer", "replica", "head")
BATCH_ROWS = 200
SENDERS = 2


@dataclass
class Sent:
    """What senders were told, by event id."""

    acknowledged: set[str] = field(default_factory=set)
    batches: int = 0
    retries: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def send(hub: LocalHub, sent: Sent, stop: threading.Event, pace: threading.Event) -> None:
    """Send batches until told to stop; a batch is repeated until it is acknowledged."""
    client = hub.client(deadline_s=180.0)
    while not stop.is_set():
        batch = uuid4().hex
        ids = [f"{batch}-{row}" for row in range(BATCH_ROWS)]
        client.post_events(_event(name, row) for row, name in enumerate(ids))
        with sent.lock:
            sent.acknowledged.update(ids)
            sent.batches += 1
        pace.wait(0.05)
    with sent.lock:
        sent.retries += client.trouble.retries
    client.close()


def _event(name: str, row: int) -> dict[str, Any]:
    return {
        "event_id": name,
        "occurred_at": utc(time.time_ns() // 1000),
        "module": "gateway",
        "kind": "gateway.request",
        "operation": "chat",
        "model": f"model-{row % 3}",
        "status": "ok",
        "request_id": name,
        "latency_ms": 10.0 + row,
        "input_tokens": row,
        "output_tokens": 1,
    }


def kill_in_turn(hub: LocalHub, parts: Sequence[str], times: int) -> Counter[str]:
    """kill -9 each part `times` times, each time waiting until batches are acknowledged again."""
    killed: Counter[str] = Counter()
    probe = hub.client(deadline_s=180.0)
    for part in parts:
        for _ in range(times):
            processes.wait_until(lambda part=part: bool(hub.pids(part)), deadline_s=120.0, every_s=0.1)  # type: ignore[misc]
            before = hub.state.recoveries
            victims = hub.kill(part)
            assert victims, f"no process of {part} was found to kill"
            killed[part] += 1
            print(f"  killed {part} ({victims})", file=sys.stderr, flush=True)
            if part == "head":
                # Doors may outlive the head for a moment and still acknowledge; the next kill waits for the new head.
                assert processes.wait_until(lambda: _recovered(hub, before), deadline_s=240.0, every_s=0.2)  # noqa: B023
            probe.post_events([_event(f"probe-{uuid4().hex}", 0)])
    probe.close()
    return killed


def _recovered(hub: LocalHub, before: int) -> bool:
    return hub.state.recoveries > before and hub.state.phase == "ready"


def run(data: Path, parts: Sequence[str], times: int) -> dict[str, Any]:
    """The whole journey over a fresh hub; its figures."""
    sent, stop, pace = Sent(), threading.Event(), threading.Event()
    # What a kill doubles is to be seen, not taken out.
    with local_hub(data, repeats_s=0) as hub:
        senders = [threading.Thread(target=send, args=(hub, sent, stop, pace)) for _ in range(SENDERS)]
        for sender in senders:
            sender.start()
        try:
            killed = kill_in_turn(hub, parts, times)
        finally:
            stop.set()
            for sender in senders:
                sender.join()
        ledger = _settled(hub)
    return {
        **_compare(data, sent),
        "killed": dict(killed),
        "ledger": ledger,
        "retries": sent.retries,
        "batches": sent.batches,
    }


def _settled(hub: LocalHub) -> dict[str, int]:
    """The ledger once nothing is in flight."""
    client: HubClient = hub.client(deadline_s=120.0)
    found: dict[str, int] = {}

    def quiet() -> bool:
        try:
            found.update(client.get("/api/v1/ledger")["total"])
        except HubError:
            return False
        return found.get("in_flight") == 0

    processes.wait_until(quiet, deadline_s=90.0, every_s=0.5)
    client.close()
    return found


def _compare(data: Path, sent: Sent) -> dict[str, int]:
    """Acknowledged ids against the ids in the table, read by another engine from the files of the Delta log."""
    files = DeltaTable(str(data / "lake" / "local" / "events")).file_uris()
    rows = duckdb.read_parquet(files).filter("event_id NOT LIKE 'probe-%'").project("event_id").fetchall()
    committed = Counter(name for (name,) in rows)
    return {
        "acknowledged": len(sent.acknowledged),
        "committed_distinct": len(committed),
        "missing": len(sent.acknowledged - committed.keys()),
        "doubled": sum(1 for count in committed.values() if count > 1),
    }


def is_sound(figures: dict[str, Any]) -> bool:
    """Whether the journey found nothing lost, nothing doubled and a ledger that adds up."""
    same = figures["acknowledged"] == figures["committed_distinct"]
    ledger = figures["ledger"]
    return bool(
        same
        and figures["missing"] == figures["doubled"] == 0
        and ledger["difference"] == 0
        and ledger["in_flight"] == 0
        and figures["acknowledged"] > 0
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--parts", default=",".join(PARTS))
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder) / "data", chosen.parts.split(","), chosen.times)
    print(json.dumps(figures, indent=2))
    return 0 if is_sound(figures) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
