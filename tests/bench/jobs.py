"""What a question costs as a job on 1, 2 and 3 nodes: `llmhub bench jobs`, with clusters of its own, one by one.

The nodes are simulated on this machine, one CPU each, as in `llmhub bench shards`: more of them than cores cannot be
faster here. What is shown is that tasks run on all of them, that every number of nodes gives the answer that one
process gives which reads everything itself, and what the way over Ray Data costs beside that.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from cluster.clock import SystemClock
from cluster.lake.scan import TableReader
from cluster.metadata.first_start import bootstrap_admin
from cluster.metadata.query_jobs import DONE, Bounds, NewQueryJob, QueryJobStore
from cluster.metadata.schema import open_metadata
from cluster.settings import Settings
from cluster.tenancy import DEFAULT_TENANT, TenantScope
from models.query.pages import ROWS_MAX, Page
from models.query.plan import NO_FLOORS
from models.query.stored import Told
from models.query.times import Range
from serving.query_engine import QueryEngine
from tests.bench.ingest import machine, versions
from tests.bench.job_rows import fill

NODES: Final = (1, 2, 3)
_SCOPE: Final = TenantScope.of(DEFAULT_TENANT)
_QUESTION: Final = (
    *(("measure", name) for name in ("request_count", "cost_usd", "total_tokens", "error_ratio", "latency_ms_max")),
    *(("group_by", "attributes.team"), ("from", "-7d"), ("limit", "10000")),
)


def main(arguments: Sequence[str]) -> dict[str, Any]:
    """Measure, print the figures as JSON, and give them."""
    parser = argparse.ArgumentParser(prog="llmhub bench jobs", description=__doc__)
    parser.add_argument("--events", type=int, default=4_000_000)
    parser.add_argument("--nodes", type=int, action="append")
    parser.add_argument("--json", type=Path)
    # Of other benchmarks: folder of real data.
    parser.add_argument("--data", help=argparse.SUPPRESS)
    chosen = parser.parse_args(list(arguments))
    figures: dict[str, Any] = {"bench": "jobs", "machine": machine(), "versions": versions({})}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        settings = Settings(data=root, query_jobs=100, query_jobs_tenant=100, namespace="bench")
        now_us = SystemClock().now_us()
        figures["lake"] = fill(settings.lake, events=chosen.events, now_us=now_us)
        figures["directly"], answer = _directly(settings, now_us)
        print(f"directly: {figures['directly']}", file=sys.stderr, flush=True)
        figures["nodes"] = []
        bootstrap_admin(settings)
        for count in chosen.nodes or NODES:
            query_id = _queued(settings, now_us)
            told = _in_cluster(root, count, query_id)
            told["running_s"], kept = _kept(settings, query_id)
            told["equal"] = kept == answer
            figures["nodes"].append(told)
            print(f"{count} nodes: {told}", file=sys.stderr, flush=True)
    text = json.dumps(figures, indent=2)
    print(text)
    if chosen.json:
        chosen.json.write_text(text + "\n")
    return figures


def is_shown(figures: dict[str, Any]) -> bool:
    """Whether each number of nodes was used, and gave the answer."""
    return all(told["equal"] and told["nodes"] == told["nodes_used"] for told in figures["nodes"])


def _directly(settings: Settings, now_us: int) -> tuple[dict[str, Any], Any]:
    """Time and answer of an engine that reads everything itself."""
    engine = QueryEngine(replace(settings, query_timeout_s=600.0, query_scan_bytes=0), SystemClock())
    engine.refresh()
    began_s = time.monotonic()
    body = asyncio.run(engine.query(_SCOPE, "aggregate", _QUESTION, now_us=now_us)).body
    took_s = time.monotonic() - began_s
    engine.close()
    return {"seconds": round(took_s, 2)}, json.loads(body, parse_float=str)


def _queued(settings: Settings, now_us: int) -> str:
    """A job in the store, as the door leaves it there."""
    with_clock = SystemClock()
    database = open_metadata(settings, with_clock)
    new = NewQueryJob(
        tenant_id=DEFAULT_TENANT,
        project_id=None,
        key_id="bench",
        kind="aggregate",
        question=Told(_QUESTION, NO_FLOORS).text(),
        now_us=now_us,
        version=_version(settings),
        reason="measured",
        file_count=0,
        row_count=0,
        size_bytes=0,
    )
    made = QueryJobStore(database, with_clock, Bounds.of(settings)).create(new)
    database.close()
    return made.query_id


def _version(settings: Settings) -> int:
    return TableReader(settings.lake, "events").refresh().version


def _in_cluster(root: Path, nodes: int, query_id: str) -> dict[str, Any]:
    """Figures of the job in a cluster of its own, whose process is born with Ray's variables."""
    token = root / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "HUB_DATA": str(root)}
    environment |= {"HUB_NAMESPACE": "bench", "HUB_QUERY_JOBS": "100", "HUB_QUERY_JOBS_TENANT": "100"}
    command = [sys.executable, "-m", "tests.bench.job_cluster", str(nodes), query_id]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def _kept(settings: Settings, query_id: str) -> tuple[float, Any]:
    """Seconds from the claim of the job to its end, and the answer in the table as a door would read it."""
    database = open_metadata(settings, SystemClock())
    job = QueryJobStore(database, SystemClock(), Bounds.of(settings)).find(_SCOPE, query_id)
    database.close()
    assert job.state == DONE, job
    engine = QueryEngine(settings, SystemClock())
    engine.refresh()
    span = Range(job.started_at_us or 0, (job.ended_at_us or 0) + 1)
    body = asyncio.run(engine.stored(_SCOPE, query_id, Page(ROWS_MAX), span))
    engine.close()
    took_us = (job.ended_at_us or 0) - (job.started_at_us or 0)
    return round(took_us / 1e6, 1), json.loads(body, parse_float=str)


if __name__ == "__main__":
    sys.exit(0 if is_shown(main(sys.argv[1:])) else 1)
