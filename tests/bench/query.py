"""How fast the dashboard's own seven requests are answered: p50, p95, p99, for one client and for twenty.

`--ingest` first sends the events of seven days to the running hub, as Arrow over HTTP. `--fill DIR` writes them and
their roll-ups under DIR without a hub, as the committer does. Then, with HUB_URL, the hub answers over HTTP; without,
the engine answers in this process over `--data DIR`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import httpx2
import numpy as np
import pyarrow as pa

from actors.rollover import Rollover
from cluster.clock import SystemClock
from cluster.contract.columns import EVENT_SCHEMA, INSTANT, MONEY
from cluster.lake.commit import TableWriter
from cluster.lake.stage import stage
from cluster.lake.tables import ROLLUPS, TABLES
from cluster.sdk.client import HubClient
from cluster.settings import Settings
from cluster.tenancy import DEFAULT_TENANT, TenantScope
from models.aggregate.rollup import MINUTE_US, roll
from models.query.times import format_instant
from serving.query_engine import QueryEngine

DAYS: Final = 7
DAY_US: Final = 86_400_000_000
SEAL_ROWS: Final = 100_000
BODY_ROWS: Final = 20_000
_SENDERS: Final = 3
# What the hub sets itself.
_OF_THE_HUB: Final = ["received_at", "counted", "usage_conflict"]
MODELS: Final = tuple(f"model-{index}" for index in range(12))
_EVERY_BIT: Final = 127
Pairs = list[tuple[str, str]]
Ask = Callable[[str, Pairs], Awaitable[int]]

TOKENS: Final = ("input_uncached_tokens", "cache_read_tokens", "cache_write_tokens", "output_text_tokens")
# The seven charts of the first page: name, route, question.
CHARTS: Final[tuple[tuple[str, str, Pairs], ...]] = (
    ("request_volume", "timeseries", [("measure", "request_count")]),
    (
        "latency_by_model",
        "aggregates",
        [("measure", "latency_ms_avg"), ("measure", "latency_ms_p95"), ("group_by", "model")],
    ),
    ("token_distribution", "aggregates", [("measure", name) for name in TOKENS]),
    ("error_rate", "timeseries", [("measure", "error_ratio")]),
    ("top_models", "aggregates", [("measure", "request_count"), ("group_by", "model"), ("limit", "10")]),
    ("cost_breakdown", "timeseries", [("measure", "cost_usd"), ("group_by", "provider")]),
    ("system_health", "ledger", []),
)
RANGES: Final = {"1h": DAY_US // 24, "24h": DAY_US, "7d": 7 * DAY_US}


def fill(folder: Path, events: int) -> None:
    """Write `events` model calls of the last seven days under the folder, in seals of SEAL_ROWS, each one commit."""
    lake = Settings(data=folder).lake
    writers = {name: TableWriter(lake, TABLES[name]) for name in ("rollup_1m", "events")}
    end_us = SystemClock().now_us()
    step_us = DAYS * DAY_US // events
    source = np.random.default_rng(7)
    for sequence, start in enumerate(range(0, events, SEAL_ROWS), start=1):
        count = min(SEAL_ROWS, events - start)
        first_us = end_us - DAYS * DAY_US + start * step_us
        rows = _calls(source, first_us + np.arange(count) * step_us, start)
        tables = {"rollup_1m": roll(rows, MINUTE_US), "events": rows}
        for name, writer in writers.items():
            files = stage(lake, TABLES[name], tables[name], tenant_id=DEFAULT_TENANT, token=f"bench-{sequence:06d}")
            writer.append(files, {"bench": sequence})
    rolled = {name: TableWriter(lake, TABLES[name]) for name in ROLLUPS}
    rollover = Rollover(Settings(data=folder), rolled, clock=SystemClock())
    while (due := rollover.choose()) is not None:
        rollover.commit(due, rollover.merge(due))


def ingest(url: str, key: str, events: int) -> dict[str, Any]:
    """Send the same model calls through the hub's door, and wait until the ledger has all of them committed."""
    end_us, step_us = SystemClock().now_us(), DAYS * DAY_US // events
    source = np.random.default_rng(7)
    start_s = time.perf_counter()
    with HubClient(url, key) as client, ThreadPoolExecutor(_SENDERS) as senders:
        for start in range(0, events, SEAL_ROWS):
            count = min(SEAL_ROWS, events - start)
            first_us = end_us - DAYS * DAY_US + start * step_us
            rows = _calls(source, first_us + np.arange(count) * step_us, start).drop_columns(_OF_THE_HUB)
            bodies = [rows.slice(at, BODY_ROWS) for at in range(0, count, BODY_ROWS)]
            accepted = sum(receipt.accepted for receipt in senders.map(client.post_arrow, bodies))
            if accepted != count:
                raise RuntimeError(f"{accepted} of {count} events were accepted; use a hub without earlier runs")
        acknowledged_s = time.perf_counter() - start_s
        while client.get("/api/v1/ledger")["total"]["committed"] < events:
            time.sleep(0.2)
    return {"ingested": events, "acknowledged_s": round(acknowledged_s, 1), "rows_in_one_body": BODY_ROWS}


def _calls(source: np.random.Generator, occurred_us: np.ndarray[Any, Any], start: int) -> pa.Table:
    count = occurred_us.size
    instants = pa.array(occurred_us).cast(INSTANT)
    names = source.zipf(1.6, count) % len(MODELS)
    failed = source.random(count) < 0.02
    numbers = np.arange(start, start + count)
    tokens = source.lognormal(6.5, 1.0, count).astype(np.int64)
    nano_usd = np.stack((tokens * 3_000, np.zeros(count, np.int64)), axis=1)
    columns: dict[str, pa.Array] = {
        "event_id": pa.array([f"bench-{number}" for number in numbers.tolist()]),
        "occurred_at": instants,
        "received_at": instants,
        "module": pa.repeat("gateway", count),
        "kind": pa.repeat("gateway.request", count),
        "environment": pa.repeat("production", count),
        "service": pa.array([f"service-{number % 3}" for number in numbers.tolist()]),
        "provider": pa.array([f"provider-{name % 4}" for name in names.tolist()]),
        "model": pa.array([MODELS[name] for name in names.tolist()]),
        "operation": pa.repeat("chat", count),
        "status": pa.array(np.where(failed, "error", "ok")),
        "trace_id": pa.array([f"{number // 4:032x}" for number in numbers.tolist()]),
        "span_id": pa.array([f"{number:016x}" for number in numbers.tolist()]),
        "user_id": pa.array([f"user-{user}" for user in source.integers(0, 20_000, count).tolist()]),
        "session_id": pa.array([f"session-{number // 20}" for number in numbers.tolist()]),
        "latency_ms": pa.array(source.lognormal(6.5, 0.8, count)),
        "ttft_ms": pa.array(source.lognormal(5.0, 0.6, count)),
        "input_tokens": pa.array(tokens),
        "output_tokens": pa.array(source.lognormal(5.0, 0.8, count).astype(np.int64)),
        "cache_read_tokens": pa.array(tokens // 4),
        "cost_usd": pa.Array.from_buffers(MONEY, count, [None, pa.py_buffer(np.ascontiguousarray(nano_usd))]),
        "counted": pa.array(np.where(failed, _EVERY_BIT, _EVERY_BIT & ~64).astype(np.int16)),
    }
    arrays = [columns.get(one.name, pa.nulls(count, one.type)) for one in EVENT_SCHEMA]
    return pa.table(
        [array.cast(one.type) for array, one in zip(arrays, EVENT_SCHEMA, strict=True)], schema=EVENT_SCHEMA
    )


async def measure(ask: Ask, *, end_us: int, clients: int, rounds: int, think_s: float) -> dict[str, Any]:
    """Latencies in ms of each chart; every question has a range of its own, so that no cache answers it.

    Args:
        think_s: mean time, exponential, that a client waits before each question; 0 for a closed loop.
    """
    took: dict[str, list[float]] = {name: [] for name, _, _ in CHARTS}
    source = random.Random(clients)

    async def client() -> None:
        for _ in range(rounds):
            length_us = source.choice(list(RANGES.values()))
            to_us = (end_us - source.randrange(DAY_US)) // MINUTE_US * MINUTE_US
            span = [("from", format_instant(to_us - length_us // MINUTE_US * MINUTE_US)), ("to", format_instant(to_us))]
            for name, route, question in CHARTS:
                if think_s:
                    await asyncio.sleep(source.expovariate(1 / think_s))
                start_s = time.perf_counter()
                await ask(route, question + (span if route != "ledger" else []))
                took[name].append((time.perf_counter() - start_s) * 1_000)

    start_s = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    elapsed_s = time.perf_counter() - start_s
    every = [ms for column in took.values() for ms in column]
    charts = {name: quantiles(column) for name, column in took.items()}
    return {
        "clients": clients,
        "think_s": think_s,
        "requests_per_s": round(len(every) / elapsed_s, 1),
        "all": quantiles(every),
        **charts,
    }


def quantiles(values_ms: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99 in ms."""
    cuts = statistics.quantiles(values_ms, n=100, method="inclusive")
    return {"p50_ms": round(cuts[49], 2), "p95_ms": round(cuts[94], 2), "p99_ms": round(cuts[98], 2)}


def main(arguments: list[str]) -> dict[str, Any]:
    """Run the benchmark and print its figures as JSON; see `--help`."""
    parser = argparse.ArgumentParser(prog="llmhub bench query", description=__doc__)
    parser.add_argument("--data", type=Path, help="hub data folder with events in it; without one, a filled new one")
    parser.add_argument("--fill", type=Path, help="only write events under this folder")
    parser.add_argument("--ingest", action="store_true", help="send the events to the hub first; it should be empty")
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=30, help="times each client asks all seven")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 20])
    parser.add_argument("--think", type=float, default=0.0, help="mean seconds a client waits before each question")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    if options.fill:
        fill(options.fill, options.events)
        return {"filled": options.events}
    url, key = os.environ.get("HUB_URL", ""), os.environ.get("HUB_API_KEY", "")
    sent = ingest(url, key, options.events) if options.ingest else {}
    if url and not options.data:
        figures = asyncio.run(_over_http(url, key, options))
    elif options.data:
        figures = asyncio.run(_in_process(options.data, options))
    else:
        with tempfile.TemporaryDirectory() as folder:
            fill(Path(folder), options.events)
            figures = asyncio.run(_in_process(Path(folder), options))
    figures |= sent | {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": {name: version(name) for name in ("duckdb", "deltalake", "pyarrow", "ray")},
    }
    text = json.dumps(figures, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text)
    return figures


async def _in_process(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    engine = QueryEngine(Settings(data=folder), SystemClock())
    scope = TenantScope.of(DEFAULT_TENANT)
    start_s = time.perf_counter()
    engine.refresh()
    loaded_s = time.perf_counter() - start_s

    async def ask(route: str, pairs: Pairs) -> int:
        if route == "ledger":
            return len(await engine.ledger_committed(scope))
        kind = "timeseries" if route == "timeseries" else "aggregate"
        return len((await engine.query(scope, kind, pairs)).body)

    rows = (await engine.ledger_committed(scope))["tenants"][DEFAULT_TENANT]["events"]
    end_us = SystemClock().now_us()
    runs = [
        await measure(ask, end_us=end_us, clients=n, rounds=options.rounds, think_s=options.think)
        for n in options.clients
    ]
    engine.close()
    return {"over": "engine in process", "events": rows, "first_load_s": round(loaded_s, 2), "runs": runs}


async def _over_http(url: str, key: str, options: argparse.Namespace) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {key}"}
    limits = httpx2.Limits(max_connections=max(options.clients), max_keepalive_connections=max(options.clients))
    async with httpx2.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=60.0) as client:

        async def ask(route: str, pairs: Pairs) -> int:
            path = "/api/v1/ledger" if route == "ledger" else f"/api/v1/metrics/{route}"
            answer = await client.get(f"{path}?{urlencode(pairs)}")
            answer.raise_for_status()
            return len(answer.content)

        # The ledger knows of a commit before the query engine has read it, by up to HUB_REFRESH_S.
        events, until_s = 0, time.perf_counter() + 60.0
        while events < (options.events if options.ingest else 1) and time.perf_counter() < until_s:
            counted = await client.get("/api/v1/metrics/aggregates?measure=event_count&from=-8d")
            counted.raise_for_status()
            events = counted.json()["rows"][0]["values"]["event_count"]
        end_us = SystemClock().now_us()
        runs = [
            await measure(ask, end_us=end_us, clients=n, rounds=options.rounds, think_s=options.think)
            for n in options.clients
        ]
    return {"over": url, "events": events, "runs": runs}


if __name__ == "__main__":
    main(sys.argv[1:])
