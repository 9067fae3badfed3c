"""A small lake in the layout of the real one, made by the hub's own stage and commit: rows in, Delta tables out."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.transaction import RemoveAction

from actors.rollover import Rollover
from cluster.clock import ManualClock
from cluster.contract.columns import EVENT_SCHEMA
from cluster.lake.commit import TableWriter
from cluster.lake.scan import Snapshot, TableReader, files
from cluster.lake.stage import stage
from cluster.lake.tables import ROLLUPS, TABLES
from cluster.settings import Settings
from cluster.tenancy import TenantId, TenantScope
from models.aggregate.rollup import MINUTE_US, merge, roll
from serving.query_engine import QueryEngine

Row = dict[str, Any]
DAY_US = 86_400_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# 2026-01-01T00:00Z, where ManualClock starts.
NOW_US = ManualClock().now_us()
EMPTY: Row = dict.fromkeys(EVENT_SCHEMA.names)


def at(us: int) -> datetime:
    """Aware datetime of an instant, exact to the microsecond."""
    return EPOCH + timedelta(microseconds=us)


def event(number: int, **more: Any) -> Row:
    """One complete row; `occurred_at` in microseconds."""
    told = {
        "event_id": f"e-{number:06d}",
        "occurred_at": NOW_US - 3_600_000_000 + number * 1_000,
        "received_at": NOW_US,
        "module": "gateway",
        "kind": "gateway.request",
        "status": "ok",
        "counted": 0,
    }
    return {**EMPTY, **told, **more}


def batch(rows: Sequence[Row]) -> pa.Table:
    """Rows as EVENT_SCHEMA."""
    whole = [{**row, "occurred_at": at(row["occurred_at"]), "received_at": at(row["received_at"])} for row in rows]
    return pa.Table.from_pylist(whole, schema=EVENT_SCHEMA)


class Lake:
    """Tables under a folder, and the rows that were put in, by tenant."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: dict[str, list[Row]] = {}
        self.clock = ManualClock()
        self._writers: dict[str, TableWriter] = {}
        self._seals = 0

    def __repr__(self) -> str:
        # Hypothesis prints the arguments of an example that failed.
        return f"Lake({ {tenant: len(rows) for tenant, rows in self.rows.items()} })"

    @property
    def settings(self) -> Settings:
        return Settings(data=self.folder, query_memory_bytes=512 * 1024 * 1024)

    def seal(self, tenant: str, rows: Sequence[Row]) -> None:
        """Commit rows as one seal: events and their roll-up."""
        self._seals += 1
        self.rows.setdefault(tenant, []).extend(rows)
        events = batch(rows)
        for name, table in (("events", events), ("rollup_1m", roll(events, MINUTE_US))):
            staged = stage(self.settings.lake, TABLES[name], table, tenant_id=tenant, token=str(self._seals))
            self._writer(name).append(staged, {f"journal-{tenant}": self._seals})

    def compact(self, tenant: str) -> None:
        """Put one file of roll-ups for each day in place of all, partials of one key merged, as the committer does."""
        self._seals += 1
        table, writer = TABLES["rollup_1m"], self._writer("rollup_1m")
        found = files(TenantScope.of(TenantId(tenant)), self._snapshot("rollup_1m"), 0, 2**62)
        whole = merge([pq.ParquetFile(one.path).read() for one in found])
        staged = stage(self.settings.lake, table, whole, tenant_id=tenant, token=str(self._seals))
        root = Path(self.settings.lake, table.name).absolute()
        removed = [
            RemoveAction(
                path=str(Path(one.path).relative_to(root)),
                data_change=False,
                deletion_timestamp=0,
                size=one.size_bytes,
                partition_values={"tenant_id": one.tenant_id, "event_date": one.event_date},
            )
            for one in found
        ]
        writer.replace(removed, staged)

    def roll(self) -> None:
        """Take the minutes into hours and days, as the committer does."""
        writers = {name: self._writer(name) for name in ROLLUPS}
        rollover = Rollover(self.settings, writers, clock=self.clock)
        while (due := rollover.choose()) is not None:
            rollover.commit(due, rollover.merge(due))

    def _snapshot(self, table: str) -> Snapshot:
        return TableReader(self.settings.lake, table).refresh()

    def engine(self, *, hot_share: float = 0.5, **settings: Any) -> QueryEngine:
        """An engine at the newest version; the caller closes it."""
        changed = {name: getattr(self.settings, name) for name in ("data", "query_memory_bytes")} | settings
        engine = QueryEngine(Settings(**changed), self.clock, hot_share=hot_share)
        engine.refresh()
        return engine

    def _writer(self, name: str) -> TableWriter:
        if name not in self._writers:
            self._writers[name] = TableWriter(self.settings.lake, TABLES[name])
        return self._writers[name]


def random_rows(count: int, *, seed: int, days: int = 3) -> list[Row]:
    """Rows of every module over some days before NOW_US, with nulls in every optional field."""
    source = random.Random(seed)
    pick = source.choice

    def number(limit: int) -> int | None:
        return pick((None, source.randrange(limit)))

    return [
        event(
            number_ + seed * 1_000_000,
            occurred_at=NOW_US - 1 - source.randrange(days * DAY_US),
            module=pick(("gateway", "observatory", "guardrails")),
            kind=pick(("gateway.request", "observatory.span", "guardrails.evaluation")),
            service=pick((None, "search", "chat")),
            provider=pick((None, "p1", "p2")),
            model=pick((None, "m-1", "m-2", "m-3", "m'; DROP TABLE events; --")),
            status=pick(("ok", "error", None)),
            severity=pick((None, "info", "error")),
            project_id=pick((None, "north", "south")),
            user_id=pick((None, *(f"u{i}" for i in range(40)))),
            session_id=pick((None, *(f"s{i}" for i in range(20)))),
            cache_status=pick((None, "hit", "miss", "semantic")),
            guardrail_action=pick((None, "allow", "block", "deny")),
            latency_ms=pick((None, source.randrange(80_000) / 8)),
            ttft_ms=pick((None, source.randrange(8_000) / 8)),
            input_tokens=number(5_000),
            output_tokens=number(900),
            cache_read_tokens=number(400),
            cache_write_tokens=number(300),
            reasoning_tokens=number(200),
            cost_usd=pick((None, Decimal(source.randrange(10**9)).scaleb(-9))),
            attributes=pick(
                (None, '{"team":"red"}', '{"team":"blue","a.b":"flat","a":{"b":"nested"}}', '{"a":{"b":"deep"}}')
            ),
            payload='{"text":"Hello World","n":1.50}',
            trace_id=f"trace-{source.randrange(200)}",
            span_id=f"span-{number_}",
            counted=source.randrange(128),
        )
        for number_ in range(count)
    ]


def tenants_apart(folder: Path, sizes: Mapping[str, int]) -> Lake:
    """A lake of several tenants, each sealed in parts, the oldest rows last: they came late."""
    lake = Lake(folder)
    for place, (tenant, size) in enumerate(sizes.items()):
        rows = sorted(random_rows(size, seed=place + 1), key=lambda row: row["occurred_at"], reverse=True)
        for start in range(0, size, max(1, size // 5)):
            lake.seal(tenant, rows[start : start + max(1, size // 5)])
    return lake
