"""Model calls for benchmarks of questions, written straight into Delta: several tenants, tokens and times as recorded.

Tokens are pairs of recorded requests (Azure 2023, Mooncake), latencies recorded ones of providers (LLMPerf), and the
load over a week is BurstGPT's, minute by minute; all drawn with replacement. Without a folder of those files, tokens
and latencies are log-normal and the load is even; the figures say which.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from actors.rollover import Rollover
from cluster.clock import SystemClock
from cluster.contract.columns import EVENT_SCHEMA, INSTANT, MONEY
from cluster.lake.commit import TableWriter
from cluster.lake.stage import stage
from cluster.lake.tables import ROLLUPS, TABLES
from cluster.settings import Settings
from models.aggregate.rollup import MINUTE_US, roll

DAY_US: Final = 86_400_000_000
SEAL_ROWS: Final = 100_000
_FOLDER: Final = "llm_requests"
_TOKENS: Final = ("azure_llm_2023_conv.parquet", "mooncake_conversation.parquet")
_LATENCIES: Final = "llmperf_provider_requests.parquet"
_LOAD: Final = "burstgpt_1_minute_week1.parquet"
MODELS: Final = tuple(f"model-{index}" for index in range(12))
_EVERY_BIT: Final = 127
_ERROR_BIT: Final = 64
Numbers = npt.NDArray[np.float64]
Instants = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Recorded:
    """What calls are drawn from.

    Attributes:
        tokens: (n, 2) input and output tokens of one request each.
        times_ms: (m, 2) time to first token and whole latency of one request each.
        load: (k,) weight of each minute of a week; even where it is not recorded.
        told: where they are from.
    """

    tokens: npt.NDArray[np.int64]
    times_ms: Numbers
    load: Numbers
    told: str


def recorded(data: Path | None) -> Recorded:
    """Distributions of the files under a folder laid out as `../shared/data`, or synthetic ones without it."""
    folder = data / _FOLDER if data else None
    if folder is None or not folder.is_dir():
        source = np.random.default_rng(5)
        tokens = np.stack((source.lognormal(6.5, 1.0, 10_000), source.lognormal(5.0, 0.8, 10_000)), axis=1)
        times = np.stack((source.lognormal(5.0, 0.6, 10_000), source.lognormal(6.5, 0.8, 10_000)), axis=1)
        return Recorded(tokens.astype(np.int64), times, np.ones(7 * 1_440), "log-normal")
    pairs = [pq.read_table(folder / name, columns=["input_tokens", "output_tokens"]) for name in _TOKENS]
    calls = pq.read_table(folder / _LATENCIES, columns=["ttft_s", "end_to_end_latency_s"]).drop_null()
    minutes = pq.read_table(folder / _LOAD, columns=["minute", "tokens_per_s"])
    load = np.zeros(7 * 1_440)
    load[minutes.column("minute").to_numpy() % load.size] = minutes.column("tokens_per_s").to_numpy()
    return Recorded(
        _pairs(pa.concat_tables(pairs)).astype(np.int64),
        _pairs(calls) * 1_000,
        load,
        f"{', '.join(_TOKENS)}; {_LATENCIES}; {_LOAD}",
    )


def _pairs(table: pa.Table) -> Numbers:
    return np.stack([column.to_numpy().astype(np.float64) for column in table.columns], axis=1)


def instants(source: np.random.Generator, load: Numbers, count: int, span_us: tuple[int, int]) -> Instants:
    """(count,) rising instants of a range, as dense as the week's load says."""
    first, end = span_us
    minutes = np.arange(first // MINUTE_US, -(-end // MINUTE_US))
    weights = load[minutes % load.size] + 1e-9
    picked = source.choice(minutes, count, p=weights / weights.sum()) * MINUTE_US
    drawn: Instants = np.sort(picked + source.integers(0, MINUTE_US, count))
    return np.clip(drawn, first, end - 1)


def calls(source: np.random.Generator, known: Recorded, occurred_us: Instants, start: int) -> pa.Table:
    """Rows of EVENT_SCHEMA, numbered from `start`."""
    count = occurred_us.size
    at = pa.array(occurred_us).cast(INSTANT)
    names = source.zipf(1.6, count) % len(MODELS)
    failed = source.random(count) < 0.02
    numbers = np.arange(start, start + count)
    tokens = known.tokens[source.integers(0, len(known.tokens), count)]
    times = known.times_ms[source.integers(0, len(known.times_ms), count)]
    nano_usd = np.stack((tokens @ np.array([2_500, 10_000]), np.zeros(count, np.int64)), axis=1)
    columns: dict[str, pa.Array] = {
        "event_id": _named("bench-", numbers),
        "occurred_at": at,
        "received_at": at,
        "module": pa.repeat("gateway", count),
        "kind": pa.repeat("gateway.request", count),
        "environment": pa.repeat("production", count),
        "service": _named("service-", numbers % 3),
        "provider": _named("provider-", names % 4),
        "model": pa.array(MODELS).take(pa.array(names)),
        "operation": pa.repeat("chat", count),
        "status": pa.array(["ok", "error"]).take(pa.array(failed.astype(np.int8))),
        "trace_id": _named("trace-", numbers // 4),
        "span_id": _named("span-", numbers),
        "user_id": _named("user-", source.integers(0, 20_000, count)),
        "session_id": _named("session-", numbers // 20),
        "latency_ms": pa.array(times[:, 1]),
        "ttft_ms": pa.array(times[:, 0]),
        "input_tokens": pa.array(tokens[:, 0]),
        "output_tokens": pa.array(tokens[:, 1]),
        "cache_read_tokens": pa.array(tokens[:, 0] // 4),
        "cost_usd": pa.Array.from_buffers(MONEY, count, [None, pa.py_buffer(np.ascontiguousarray(nano_usd))]),
        "counted": pa.array(np.where(failed, _EVERY_BIT, _EVERY_BIT & ~_ERROR_BIT).astype(np.int16)),
    }
    arrays = [columns.get(one.name, pa.nulls(count, one.type)) for one in EVENT_SCHEMA]
    return pa.table(
        [array.cast(one.type) for array, one in zip(arrays, EVENT_SCHEMA, strict=True)], schema=EVENT_SCHEMA
    )


def _named(prefix: str, numbers: npt.NDArray[Any]) -> pa.Array:
    return pc.binary_join_element_wise(prefix, pa.array(numbers).cast(pa.string()), "")


def shares(count: int, events: int) -> list[int]:
    """Events of each tenant: the first has most, as 1, 1/2, 1/3 …"""
    weights = 1 / np.arange(1, count + 1)
    return [int(share) for share in np.ceil(events * weights / weights.sum())]


def slices(known: Recorded, *, events: int, days: int, end_us: int) -> Iterator[tuple[int, pa.Table]]:
    """One tenant's calls, oldest first, SEAL_ROWS at a time, with the number of the first."""
    source = np.random.default_rng(events)
    parts = -(-events // SEAL_ROWS)
    edges = np.linspace(end_us - days * DAY_US, end_us, parts + 1).astype(np.int64).tolist()
    for part in range(parts):
        start = part * SEAL_ROWS
        when = instants(source, known.load, min(SEAL_ROWS, events - start), (edges[part], edges[part + 1]))
        yield start, calls(source, known, when, start)


def fill(folder: Path, known: Recorded, tenants: Sequence[str], *, events: int, days: int) -> dict[str, int]:
    """Write calls and their roll-ups under a data folder without a hub, as the committer does.

    Returns:
        Events of each tenant.
    """
    settings = Settings(data=folder)
    lake = settings.lake
    writers = {name: TableWriter(lake, TABLES[name]) for name in ("rollup_1m", "events")}
    end_us = SystemClock().now_us()
    made = dict(zip(tenants, shares(len(tenants), events), strict=True))
    for tenant, count in made.items():
        for sequence, (_, rows) in enumerate(slices(known, events=count, days=days, end_us=end_us), start=1):
            tables = {"rollup_1m": roll(rows, MINUTE_US), "events": rows}
            for name, writer in writers.items():
                token = f"bench-{sequence:06d}"
                files = stage(lake, TABLES[name], tables[name], tenant_id=tenant, token=token)
                writer.append(files, {f"bench-{tenant}": sequence})
    rolled = {name: TableWriter(lake, TABLES[name]) for name in ROLLUPS}
    rollover = Rollover(settings, rolled, clock=SystemClock())
    while (due := rollover.choose()) is not None:
        rollover.commit(due, rollover.merge(due))
    return made
