"""What shards and nodes cost and bring: `llmhub bench shards`, with hubs and clusters of its own, one by one.

Shards: a whole hub with 1, 2, 4 and 8 of them, the same NDJSON bodies over HTTP. Nodes: 1, 2 and 3 simulated ones on
this machine, two shards each, batches handed to the shards as a door does. One machine has the cores it has, so more
shards or nodes cannot be faster here; CPU seconds for a million events, by part, are what carries over to a larger
cluster. `extrapolation` is arithmetic on them, not a measurement.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.cluster_utils import Cluster

from actors import pool
from cluster.contract.decode import DecodeContext, decode
from cluster.errors import Busy
from cluster.sdk.client import NDJSON, HubClient
from cluster.settings import Settings
from cluster.tenancy import DEFAULT_TENANT
from infra.runtime.ray_head import TUNING
from tests.bench.footprint import Watch
from tests.bench.ingest import Run, machine, run_scenario, versions
from tests.bench.ingest_bodies import ndjson_body
from tests.journeys.local_hub import local_hub

SHARDS: Final = (1, 2, 4, 8)
NODES: Final = (1, 2, 3)
_SHARDS_A_NODE: Final = 2
_SCENARIO: Final = "ndjson_5000"
_CONNECTIONS: Final = 8
_ROWS: Final = 5_000
# Batches made beforehand: decoding is a door's work, and this measures what comes after it.
_PREPARED: Final = 60
_IN_FLIGHT: Final = 4
_RATES: Final = (100_000, 1_000_000)
# What a machine is planned to be used at, at most.
_BUSY_SHARE: Final = 0.7


def main(arguments: Sequence[str]) -> dict[str, Any]:
    """Measure, print the figures as JSON, and give them."""
    parser = argparse.ArgumentParser(prog="llmhub bench shards", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--shards", type=int, action="append")
    parser.add_argument("--nodes", type=int, action="append")
    parser.add_argument("--json", type=Path)
    # Of other benchmarks: folder of real data.
    parser.add_argument("--data", help=argparse.SUPPRESS)
    chosen = parser.parse_args(list(arguments))
    figures: dict[str, Any] = {"bench": "shards", "machine": machine(), "versions": versions({})}
    figures["shards"] = [_hub(number, chosen.seconds) for number in chosen.shards or SHARDS]
    figures["nodes"] = [_cluster(number, chosen.seconds) for number in chosen.nodes or NODES]
    figures["extrapolation"] = extrapolated(figures["shards"][0]["cpu_s_per_million_events"])
    text = json.dumps(figures, indent=2)
    print(text)
    if chosen.json:
        chosen.json.write_text(text + "\n")
    return figures


def _hub(shards: int, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, local_hub(Path(folder) / "data", shards=shards) as hub:
        run = Run(hub.url, hub.key, _SCENARIO, _CONNECTIONS, warm_up_s=3.0, seconds=seconds)
        with HubClient(hub.url, hub.key) as client:
            told = run_scenario(run, client, hub.layout.data / "lake" / "local", hub.state.supervisor_pid)
    kept = ("events_per_s", "latency_ms", "client_cpu_cores", "cpu_s_per_million_events", "ledger_matches")
    figures = {"shards": shards, **{name: told[name] for name in kept}}
    print(_line("shards", shards, figures), file=sys.stderr, flush=True)
    return figures


def _cluster(nodes: int, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data=Path(folder), shards=_SHARDS_A_NODE * nodes)
        settings.lake.mkdir(parents=True)
        # As `llmhub up` gives it to every process of Ray.
        os.environ.update(TUNING)
        cluster = Cluster()
        for number in range(nodes):
            journals = {"HUB_JOURNAL_DIR": str(Path(folder) / f"node-{number}")}
            cluster.add_node(num_cpus=1, include_dashboard=False, env_vars=journals)
        try:
            ray.init(address=cluster.address, namespace=settings.namespace, log_to_driver=False)
            pool.start(settings)
            with Watch(os.getpid()) as watch:
                events, took_s = asyncio.run(_admitted(settings, seconds))
            pool.drain(settings)
        finally:
            ray.shutdown()
            cluster.shutdown()
    cpu = watch.figures(events)["cpu_s_per_million_events"]
    figures = {
        "nodes": nodes,
        "shards": settings.shards,
        "events_per_s": round(events / took_s),
        "cpu_s_per_million_events": cpu,
    }
    print(_line("nodes", nodes, figures), file=sys.stderr, flush=True)
    return figures


async def _admitted(settings: Settings, seconds: float) -> tuple[int, float]:
    """Events acknowledged by the shards, and the time it took; the ids of later rounds are new ones."""
    shards = pool.ShardPool.connect(settings)
    prepared = _batches()
    began = time.monotonic()
    acknowledged = 0
    turn = 0

    async def send() -> None:
        nonlocal acknowledged, turn
        while time.monotonic() - began < seconds:
            number, turn = turn, turn + 1
            batch = _renamed(prepared[number % len(prepared)], number)
            while True:
                try:
                    # Added after the wait: `+= await` would add to a sum read before it, and lose what others added.
                    taken = await shards.admit(DEFAULT_TENANT, batch, None)
                    acknowledged += taken.accepted
                    break
                except Busy as busy:
                    await asyncio.sleep(min(busy.retry_after_s, 0.2))

    await asyncio.gather(*(send() for _ in range(_IN_FLIGHT)))
    took_s = time.monotonic() - began
    # Until all is committed, so that its CPU counts.
    while any(one["held_bytes"] for one in await shards.status()):  # noqa: ASYNC110 - nobody tells when
        await asyncio.sleep(0.1)
    return acknowledged, took_s


def _batches() -> list[pa.RecordBatch]:
    body = ndjson_body(_ROWS)
    made = []
    for _ in range(_PREPARED):
        body.renew()
        context = DecodeContext(
            tenant_id=DEFAULT_TENANT, region="local", received_at_us=time.time_ns() // 1000, rows_max=_ROWS
        )
        made.append(decode(bytes(body.content), content_type=NDJSON, context=context).events)
    return made


def _renamed(batch: pa.RecordBatch, number: int) -> pa.RecordBatch:
    """The batch under event ids that no batch before it had."""
    names = batch.column("event_id")
    fresh = pc.binary_join_element_wise(names, str(number), "-")
    return batch.set_column(batch.schema.get_field_index("event_id"), batch.schema.field("event_id"), fresh)


def extrapolated(cpu: dict[str, float]) -> dict[str, dict[str, float]]:
    """Cores that rates would need, at the CPU of one shard's hub and machines used to seven tenths."""
    spent = {name: s for name, s in cpu.items() if name != "all"}
    return {
        f"{rate}_events_per_s": {
            **{f"cores_of_{name}": round(rate * s / 1e6, 1) for name, s in spent.items()},
            "cores": round(rate * cpu["all"] / 1e6 / _BUSY_SHARE, 1),
        }
        for rate in _RATES
    }


def _line(of: str, number: int, figures: dict[str, Any]) -> str:
    cpu = figures["cpu_s_per_million_events"]
    return f"{number} {of}: {figures['events_per_s']:>8,} events/s  CPU s per million events {cpu}"


if __name__ == "__main__":
    main(sys.argv[1:])
