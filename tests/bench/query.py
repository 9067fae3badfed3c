"""How fast questions are answered: p50, p95, p99 of the dashboard's own seven requests, for one client and for many.

`--ingest` first sends calls to the running hub, as Arrow over HTTP. `--fill DIR` writes calls and their roll-ups of
several tenants under DIR without a hub, as the committer does. Then, with HUB_URL, the hub answers over HTTP; without,
the engine answers in this process over `--lake DIR`. `--fairness` also measures one tenant while another scans raw
events; `--rival` puts the same questions to chDB, where it is installed.
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
from contextlib import suppress
from importlib.metadata import version
from itertools import count, islice
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from cluster import interpreter
from cluster.clock import SystemClock
from cluster.errors import QueryTimeout
from cluster.sdk.client import HubClient
from cluster.settings import Settings
from cluster.tenancy import DEFAULT_TENANT, TenantId, TenantScope
from models.aggregate.rollup import MINUTE_US
from models.query.times import format_instant
from serving.query_engine import QueryEngine
from tests.bench.connections import Connections
from tests.bench.query_rival import compared
from tests.bench.query_rows import DAY_US, Recorded, fill, recorded, slices

BODY_ROWS: Final = 20_000
_SENDERS: Final = 3
# What the hub sets itself.
_OF_THE_HUB: Final = ["received_at", "counted", "usage_conflict"]
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
# Only raw events have users: every one of the range is read.
_HEAVY: Final = [("measure", "event_count"), ("measure", "latency_ms_p95"), ("group_by", "user_id")]
_HEAVY_CLIENTS: Final = 6
# Runs without scans before those beside them, and as many after.
_ALONE_RUNS: Final = 3


def ingest(url: str, key: str, known: Recorded, options: argparse.Namespace) -> dict[str, Any]:
    """Send calls of one tenant through the hub's door, and wait until the ledger has all of them committed."""
    start_s = time.perf_counter()
    made = slices(known, events=options.events, days=options.days, end_us=SystemClock().now_us())
    with HubClient(url, key) as client, ThreadPoolExecutor(_SENDERS) as senders:
        for _, whole in made:
            rows = whole.drop_columns(_OF_THE_HUB)
            bodies = [rows.slice(at, BODY_ROWS) for at in range(0, rows.num_rows, BODY_ROWS)]
            accepted = sum(receipt.accepted for receipt in senders.map(client.post_arrow, bodies))
            if accepted != rows.num_rows:
                raise RuntimeError(f"{accepted} of {rows.num_rows} were accepted; use a hub without earlier runs")
        acknowledged_s = time.perf_counter() - start_s
        while client.get("/api/v1/ledger")["total"]["committed"] < options.events:
            time.sleep(0.2)
    return {"ingested": options.events, "acknowledged_s": round(acknowledged_s, 1), "rows_in_one_body": BODY_ROWS}


async def measure(
    ask: Ask, *, clients: int, rounds: int, think_s: float = 0.0, live: bool = False, seed: int = 0
) -> dict[str, Any]:
    """Latencies in ms of each chart.

    Args:
        seed: another one asks about other ranges.
        think_s: mean time, exponential, that a client waits before each question; 0 for a closed loop.
        live: ranges end now, as those of a page do, and may be answered from a cache; else each has its own.
    """
    took: dict[str, list[float]] = {name: [] for name, _, _ in CHARTS}
    source = random.Random(f"{clients} {seed}")
    end_us = SystemClock().now_us()

    def span() -> Pairs:
        name, length_us = source.choice(list(RANGES.items()))
        if live:
            return [("from", f"-{name}"), ("to", "now")]
        to_us = (end_us - source.randrange(DAY_US)) // MINUTE_US * MINUTE_US
        return [("from", format_instant(to_us - length_us)), ("to", format_instant(to_us))]

    async def client() -> None:
        for _ in range(rounds):
            asked = span()
            for name, route, question in CHARTS:
                if think_s:
                    await asyncio.sleep(source.expovariate(1 / think_s))
                start_s = time.perf_counter()
                await ask(route, question + (asked if route != "ledger" else []))
                took[name].append((time.perf_counter() - start_s) * 1_000)

    start_s = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    elapsed_s = time.perf_counter() - start_s
    every = [ms for column in took.values() for ms in column]
    return {
        "clients": clients,
        "think_s": think_s,
        "ranges": "live" if live else "each its own",
        "requests_per_s": round(len(every) / elapsed_s, 1),
        "all": quantiles(every),
        **{name: quantiles(column) for name, column in took.items()},
    }


async def fairness(quiet: Ask, heavy: Ask, *, rounds: int, clients: int = 1, think_s: float = 0.0) -> dict[str, Any]:
    """One tenant's latencies alone, and while another scans a month of raw events over and over.

    Args:
        clients, think_s: of the first tenant, as of `measure`.
    """
    # First of all: what is read from files for the first time would count against whoever comes first.
    await measure(quiet, clients=1, rounds=4 * rounds, seed=-1)
    seeds = count()

    async def again(times: int) -> list[dict[str, float]]:
        told = []
        for seed in islice(seeds, times):
            told.append((await measure(quiet, clients=clients, rounds=rounds, think_s=think_s, seed=seed))["all"])
        return told

    alone = await again(_ALONE_RUNS)
    scans = 0

    async def scan() -> None:
        nonlocal scans
        while True:
            # A range of its own each time, so that no cache answers it.
            asked = [*_HEAVY, ("from", "-30d"), ("filter", f"latency_ms:gt:{scans * 1e-6:.6f}")]
            # One that ran to its deadline was load as well.
            with suppress(QueryTimeout):
                await heavy("aggregates", asked)
            scans += 1

    scanning = [asyncio.create_task(scan()) for _ in range(_HEAVY_CLIENTS)]
    beside: list[dict[str, float]] = []
    while scans < _HEAVY_CLIENTS and not any(task.done() for task in scanning):
        beside += await again(1)
    for task in scanning:
        task.cancel()
    ended = await asyncio.gather(*scanning, return_exceptions=True)
    broken = [error for error in ended if isinstance(error, Exception)]
    if broken:
        raise broken[0]
    # What was begun goes on to its end, though nobody waits for it.
    await asyncio.sleep(Settings().query_timeout_s)
    alone += await again(_ALONE_RUNS)
    return {
        "clients": clients,
        "think_s": think_s,
        "alone": _middle(alone),
        "beside_scans": _middle(beside),
        "runs": {"alone": len(alone), "beside_scans": len(beside)},
        "scans_ended": scans,
        "scanning_clients": _HEAVY_CLIENTS,
    }


def _middle(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """The median of each figure over several runs."""
    return {name: round(statistics.median(run[name] for run in runs), 2) for name in runs[0]}


def quantiles(values_ms: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99 in ms."""
    # One value is all of its quantiles.
    cuts = statistics.quantiles(
        [*values_ms, values_ms[0]] if len(values_ms) == 1 else values_ms, n=100, method="inclusive"
    )
    return {"p50_ms": round(cuts[49], 2), "p95_ms": round(cuts[94], 2), "p99_ms": round(cuts[98], 2)}


def main(arguments: list[str]) -> dict[str, Any]:
    """Run the benchmark and print its figures as JSON; see `--help`."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.fairness and not options.lake and os.environ.get("HUB_URL") and not options.beside_key:
        parser.error("--fairness over HTTP needs --beside-key, a key of another tenant")
    known = recorded(options.data)
    tenants = [DEFAULT_TENANT, *(TenantId(f"bench-{number}") for number in range(1, options.tenants))]
    if options.fill:
        return {"filled": fill(options.fill, known, tenants, events=options.events, days=options.days)}
    url, key = os.environ.get("HUB_URL", ""), os.environ.get("HUB_API_KEY", "")
    sent = ingest(url, key, known, options) if options.ingest else {}
    if url and not options.lake:
        figures = asyncio.run(_over_http(url, key, options))
    elif options.lake:
        figures = asyncio.run(_in_process(options.lake, options))
    else:
        with tempfile.TemporaryDirectory() as folder:
            fill(Path(folder), known, tenants, events=options.events, days=options.days)
            options.lake = Path(folder)
            figures = asyncio.run(_in_process(options.lake, options))
    figures |= sent | {
        "drawn_from": known.told,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": {name: version(name) for name in ("duckdb", "deltalake", "pyarrow", "ray")},
    }
    text = json.dumps(figures, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text)
    return figures


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llmhub bench query", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of recorded requests that calls are drawn from")
    parser.add_argument("--lake", type=Path, help="hub data folder with events in it; without one, a filled new one")
    parser.add_argument("--fill", type=Path, help="only write events under this folder")
    parser.add_argument("--ingest", action="store_true", help="send the events to the hub first; it should be empty")
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--tenants", type=int, default=10, help="tenants of --fill; the first has the most events")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=30, help="times each client asks all seven")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 20, 100])
    parser.add_argument("--think", type=float, default=0.0, help="mean seconds a client waits before each question")
    parser.add_argument("--live", action="store_true", help="ranges end now, as on a page, so that a cache may answer")
    parser.add_argument("--fairness", action="store_true", help="one tenant beside another that scans raw events")
    parser.add_argument("--beside-key", default="", help="over HTTP: key of the other tenant, which scans")
    parser.add_argument("--rival", action="store_true", help="the same questions to chDB, two threads each")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser


async def _runs(ask: Ask, options: argparse.Namespace) -> list[dict[str, Any]]:
    return [
        await measure(ask, clients=clients, rounds=options.rounds, think_s=options.think, live=options.live)
        for clients in options.clients
    ]


async def _in_process(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    # As the replica has it.
    interpreter.share()
    engine = QueryEngine(Settings(data=folder), SystemClock())
    start_s = time.perf_counter()
    engine.refresh()
    figures: dict[str, Any] = {"over": "engine in process", "first_load_s": round(time.perf_counter() - start_s, 2)}

    def asked_by(tenant: str) -> Ask:
        scope = TenantScope.of(TenantId(tenant))

        async def ask(route: str, pairs: Pairs) -> int:
            if route == "ledger":
                return len(await engine.ledger_committed(scope))
            kind = "timeseries" if route == "timeseries" else "aggregate"
            return len((await engine.query(scope, kind, pairs)).body)

        return ask

    scope = TenantScope.of(DEFAULT_TENANT)
    figures["events"] = (await engine.ledger_committed(scope))["tenants"][DEFAULT_TENANT]["events"]
    figures["runs"] = await _runs(asked_by(DEFAULT_TENANT), options)
    if options.fairness:
        figures["fairness"] = [
            await fairness(
                asked_by("bench-1"),
                asked_by(DEFAULT_TENANT),
                rounds=options.rounds,
                clients=clients,
                think_s=options.think,
            )
            for clients in options.clients
        ]
    if options.rival:
        figures["rival"] = await compared(engine, folder, scope, now_us=SystemClock().now_us())
    engine.close()
    return figures


async def _over_http(url: str, key: str, options: argparse.Namespace) -> dict[str, Any]:
    hub = Connections(url, key)

    async def ask(route: str, pairs: Pairs) -> int:
        path = "/api/v1/ledger" if route == "ledger" else f"/api/v1/metrics/{route}"
        return len(await hub.get(f"{path}?{urlencode(pairs)}"))

    # The ledger knows of a commit before the query engine has read it, by up to HUB_REFRESH_S.
    events, until_s = 0, time.perf_counter() + 60.0
    while events < (options.events if options.ingest else 1) and time.perf_counter() < until_s:
        counted = await hub.get(f"/api/v1/metrics/aggregates?measure=event_count&from=-{options.days + 1}d")
        events = json.loads(counted)["rows"][0]["values"]["event_count"]
    figures = {"over": url, "events": events, "runs": await _runs(ask, options)}
    if options.fairness:
        other = Connections(url, options.beside_key)

        async def heavy(route: str, pairs: Pairs) -> int:
            try:
                return len(await other.get(f"/api/v1/metrics/{route}?{urlencode(pairs)}"))
            except RuntimeError as error:
                if "504" not in str(error):
                    raise
                raise QueryTimeout("the hub's deadline") from error

        figures["fairness"] = [
            await fairness(ask, heavy, rounds=options.rounds, clients=clients, think_s=options.think)
            for clients in options.clients
        ]
        other.close()
    hub.close()
    return figures


if __name__ == "__main__":
    main(sys.argv[1:])
