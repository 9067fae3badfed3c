"""Three nodes on one machine: shards spread, a worker node is lost during ingest, and what was promised is kept.

`python -m tests.journeys.nodes` runs the loss twice and prints JSON, exit code 1 where a promise is broken:
- `HUB_ACK=journal`: nothing that was committed is lost, the other shards go on, and what the lost node's journal
  held is there as soon as that journal is read again;
- `HUB_ACK=commit`: nothing that was acknowledged is lost.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import ray
from deltalake import DeltaTable
from ray.cluster_utils import Cluster

from actors import pool
from actors.committer import Committer
from actors.shard import Shard
from cluster.clock import SystemClock
from cluster.errors import Busy
from cluster.settings import Settings
from cluster.tenancy import DEFAULT_TENANT
from tests.actors.batches import events

NODES = 3
BATCH_ROWS = 300
BEFORE, AFTER = 30, 30
DEADLINE_S = 120.0


async def admit_until_taken(shards: pool.ShardPool, ids: list[str]) -> float:
    """Send a batch until it is acknowledged; seconds it took."""
    started = time.monotonic()
    batch = events(ids, request_id=ids)
    while time.monotonic() - started < DEADLINE_S:
        try:
            await shards.admit(DEFAULT_TENANT, batch, None)
        except Busy as busy:
            await asyncio.sleep(min(busy.retry_after_s, 0.5))
        else:
            return time.monotonic() - started
    raise TimeoutError("a batch was not acknowledged after the loss of a node")


def committed_ids(settings: Settings) -> Counter[str]:
    """Ids in the events table, read by another engine."""
    with suppress(duckdb.Error):
        files = DeltaTable(str(settings.lake / "events")).file_uris()
        return (
            Counter(name for (name,) in duckdb.read_parquet(files).project("event_id").fetchall())
            if files
            else Counter()
        )
    return Counter()


async def ingest_over_a_loss(settings: Settings, cluster: Cluster, nodes: list[Any]) -> dict[str, Any]:
    """Send, lose a worker node that holds a shard, send on."""
    shards = pool.ShardPool.connect(settings)
    placed = {one["shard"]: one["node"] for one in await shards.status()}
    acknowledged: list[str] = []
    slowest = 0.0

    async def send(count: int) -> None:
        nonlocal slowest
        for _ in range(count):
            name = uuid4().hex
            ids = [f"{name}-{row}" for row in range(BATCH_ROWS)]
            slowest = max(slowest, await admit_until_taken(shards, ids))
            acknowledged.extend(ids)

    await send(BEFORE)
    committed_before = committed_ids(settings)
    victim = next(node for node in nodes[1:] if node.node_id in placed.values())
    lost = [shard for shard, node in placed.items() if node == victim.node_id]
    cluster.remove_node(victim, allow_graceful=False)
    await send(AFTER)
    return {
        "nodes_with_shards": len(set(placed.values())),
        "lost_shards": lost,
        "lost_journals": f"node-{nodes.index(victim)}",
        "acknowledged": set(acknowledged),
        "committed_before": committed_before,
        "slowest_batch_s": round(slowest, 1),
    }


def read_journals_again(settings: Settings, folder: Path, shards: list[int]) -> None:
    """What happens when the lost node's disk is back: its journals are sealed to their end."""
    os.environ["HUB_JOURNAL_DIR"] = str(folder)
    committer = Committer(settings, clock=SystemClock())
    for number in shards:
        shard = Shard(settings, number, shards=NODES, commits=committer, clock=SystemClock())
        shard.drain()
    committer.drain()


def lose_a_node(root: Path, ack: str) -> dict[str, Any]:
    """One cluster, one loss; figures."""
    settings = Settings(data=root, ack=ack, shards=NODES, seal_age_s=0.5, repeats_s=0.0)
    settings.lake.mkdir(parents=True)
    cluster = Cluster()
    journals = [root / f"node-{number}" for number in range(NODES)]
    nodes = [
        cluster.add_node(num_cpus=1, include_dashboard=False, env_vars={"HUB_JOURNAL_DIR": str(path)})
        for path in journals
    ]
    try:
        ray.init(address=cluster.address, namespace=settings.namespace, log_to_driver=False)
        pool.start(settings)
        found = asyncio.run(ingest_over_a_loss(settings, cluster, nodes))
        pool.drain(settings)
    finally:
        ray.shutdown()
        cluster.shutdown()
    acknowledged, before = found.pop("acknowledged"), found.pop("committed_before")
    after = committed_ids(settings)
    read_journals_again(settings, root / found["lost_journals"], found["lost_shards"])
    healed = committed_ids(settings)
    return {
        "ack": ack,
        **found,
        "acknowledged": len(acknowledged),
        "committed_then_lost": len(before.keys() - after.keys()),
        "missing_while_the_node_is_away": len(acknowledged - after.keys()),
        "missing_once_its_journal_is_read": len(acknowledged - healed.keys()),
        "doubled": sum(1 for count in healed.values() if count > 1),
    }


def is_kept(figures: dict[str, Any]) -> bool:
    """Whether the promises of this acknowledgement mode were kept."""
    kept = figures["committed_then_lost"] == figures["doubled"] == figures["missing_once_its_journal_is_read"] == 0
    if figures["ack"] == "commit":
        kept &= figures["missing_while_the_node_is_away"] == 0
    return bool(kept and figures["nodes_with_shards"] == NODES and figures["lost_shards"])


def main(arguments: list[str]) -> int:
    if arguments:
        root, ack = arguments
        print(json.dumps(lose_a_node(Path(root), ack)))
        return 0
    results = []
    with tempfile.TemporaryDirectory() as folder:
        token = Path(folder) / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        # Ray reads these when it is imported, so each cluster gets a process that is born with them.
        environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        for ack in ("journal", "commit"):
            command = [sys.executable, "-m", "tests.journeys.nodes", str(Path(folder) / ack), ack]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            results.append(json.loads(done.stdout.splitlines()[-1]))
    print(json.dumps(results, indent=2))
    return 0 if all(is_kept(figures) for figures in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
