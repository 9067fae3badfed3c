"""Minute roll-ups of the newest days in memory: loaded file by file as the table grows, merged as they pile up.

One pair of in-memory tables for each day: `hot_D` holds merged partials, `hot_D_new` what came since. A question
reads both, so a partial counts from the moment its file is loaded.
"""
# ruff: noqa: S608 (the text is ours, every value is bound: models/query/sql.py)

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import duckdb
import pyarrow as pa

from cluster.contract.columns import ROLLUP_SCHEMA
from cluster.lake.scan import ActiveFile, Snapshot
from cluster.tenancy import TenantScope
from models.aggregate.rollup import ROLLUP_KEYS, merge
from models.query.sql import Fragment
from models.query.times import DAY_US, Range
from serving.relations import owned, read_files

_KEYS: Final = ("tenant_id", *ROLLUP_KEYS)
_SCHEMA: Final = pa.schema([pa.field("tenant_id", pa.string(), nullable=False), *ROLLUP_SCHEMA])
_COLUMNS: Final = ", ".join(_SCHEMA.names)
# Rows read into Arrow at once, so that a first load does not need the day twice.
_LOAD_ROWS: Final = 400_000
# New partials of a day are merged when there are so many: a merge costs some 2 us a row and halves what questions read.
_MERGE_ROWS: Final = 20_000
_LOAD_SHARE: Final = 0.7
# A question over more days is a union of more tables, each planned.
_DAYS_MAX: Final = 62


@dataclass(frozen=True, slots=True)
class Day:
    """One loaded day. `files` are the paths whose rows it holds."""

    start_us: int
    files: frozenset[str]
    new_rows: int

    @property
    def table(self) -> str:
        return f"hot_{self.start_us // DAY_US}"


@dataclass(frozen=True, slots=True)
class HotState:
    """What is loaded, as of one table version.

    Attributes:
        covered_from_us: every row of that instant or later is in memory.
    """

    version: int = -1
    covered_from_us: int = 0
    days: tuple[Day, ...] = ()


class HotRollups:
    """Keeps the newest days of `rollup_1m` in a DuckDB connection of its own; one thread updates, many read."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, *, memory_bytes: int, merge_rows: int = _MERGE_ROWS
    ) -> None:
        """
        Args:
            memory_bytes: older days are left to the files once in-memory tables take more.
            merge_rows: new partials of a day that are merged at once.
        """
        self._cursor = connection.cursor()
        self._memory_bytes = memory_bytes
        self._merge_rows = merge_rows
        self._cursor.execute(f"CREATE TABLE hot_empty AS SELECT * FROM ({_empty(self._cursor)})")
        self._days_most = _DAYS_MAX
        self.state = HotState()

    def rows(self, scope: TenantScope, span: Range, columns: Iterable[str]) -> Fragment | None:
        """SELECT of the scope's partials that can lie in the range; None when a part of it is not in memory.

        Args:
            columns: of the roll-ups; those of the scope are added. Planning forty unread ones takes 1 ms.
        """
        state = self.state
        if state.version < 0 or span.from_us < state.covered_from_us:
            return None
        names = [
            name
            for day in state.days
            if day.start_us < span.to_us and span.from_us < day.start_us + DAY_US
            for name in ((day.table, f"{day.table}_new") if day.new_rows else (day.table,))
        ]
        listed = ", ".join(sorted({"tenant_id", "project_id", *columns}))
        union = " UNION ALL ".join(f"SELECT {listed} FROM {name}" for name in names or ["hot_empty"])
        return owned(scope, Fragment(union))

    def update(self, snapshot: Snapshot) -> None:
        """Load what the snapshot has and memory has not; afterwards questions see exactly that version.

        Raises:
            duckdb.Error: a file could not be read; memory stays at the version it had.
        """
        while snapshot.version != self.state.version:
            try:
                self.state = self._load(snapshot)
            except duckdb.OutOfMemoryException:
                if self._days_most == 0:
                    raise
                # Questions hold the memory, or a day is larger than its limit: the files answer for the older half.
                self._days_most = min(self._days_most, max(1, len(self.state.days))) // 2

    def _load(self, snapshot: Snapshot) -> HotState:
        active: dict[int, list[ActiveFile]] = {}
        for files in snapshot.by_tenant.values():
            for one in files:
                active.setdefault(one.from_us // DAY_US * DAY_US, []).append(one)
        loaded = {day.start_us: day for day in self.state.days}
        held, moved = _held(self.state.days, snapshot)
        kept: list[Day] = []
        covered_from_us = 0
        self._cursor.begin()
        try:
            for start_us in sorted(active, reverse=True):
                # A day to be loaded needs room below the limit, or one at the limit would come and go.
                share = 1.0 if start_us in loaded else _LOAD_SHARE
                full = kept and self._memory_used() > self._memory_bytes * share
                if full or len(kept) >= self._days_most:
                    # Newest first, so what is left out is older than all that is kept.
                    covered_from_us = start_us + DAY_US
                    break
                kept.append(self._day(start_us, active[start_us], loaded.get(start_us), held=held, moved=moved))
            for day in loaded.values():
                if day.start_us not in {one.start_us for one in kept}:
                    self._drop(day)
            self._cursor.commit()
        except BaseException:
            self._cursor.rollback()
            raise
        return HotState(snapshot.version, covered_from_us, tuple(kept))

    def _day(
        self, start_us: int, active: list[ActiveFile], day: Day | None, *, held: frozenset[str], moved: frozenset[str]
    ) -> Day:
        paths = frozenset(one.path for one in active)
        if day is None or day.files - paths - moved:
            # Rows left the table, or we cannot tell: only loading the day anew is surely right.
            day, held = Day(start_us, frozenset(), 0), frozenset()
            for name in (day.table, f"{day.table}_new"):
                self._cursor.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM hot_empty")
        new_rows = day.new_rows
        for chunk in _chunks(one for one in active if one.path not in held):
            new_rows += self._insert(f"{day.table}_new", self._read(chunk))
            if new_rows >= self._merge_rows:
                self._merge(day)
                new_rows = 0
        return Day(start_us, paths, new_rows)

    def _merge(self, day: Day) -> None:
        partials = self._cursor.sql(f"SELECT {_COLUMNS} FROM {day.table}_new").to_arrow_table()
        self._insert(day.table, merge([partials], keys=_KEYS))
        self._cursor.execute(f"CREATE OR REPLACE TABLE {day.table}_new AS SELECT * FROM hot_empty")

    def _read(self, files: Sequence[ActiveFile]) -> pa.Table:
        read = read_files(one.path for one in files)
        return self._cursor.sql(f"SELECT {_COLUMNS} FROM ({read.text})", params=list(read.parameters)).to_arrow_table()

    def _insert(self, name: str, rows: pa.Table) -> int:
        self._cursor.register("incoming", rows)
        try:
            self._cursor.execute(f"INSERT INTO {name} SELECT {_COLUMNS} FROM incoming")
        finally:
            self._cursor.unregister("incoming")
        return int(rows.num_rows)

    def _drop(self, day: Day) -> None:
        for name in (day.table, f"{day.table}_new"):
            self._cursor.execute(f"DROP TABLE {name}")

    def _memory_used(self) -> int:
        told = self._cursor.execute("SELECT sum(memory_usage_bytes) FROM duckdb_memory()").fetchall()
        return int(told[0][0] or 0)


def _held(days: Sequence[Day], snapshot: Snapshot) -> tuple[frozenset[str], frozenset[str]]:
    """Active paths whose rows are in memory, and the loaded paths whose rows merely moved to some of those.

    A compaction of files that are all loaded brings nothing new. One that also took in files committed since we last
    looked does, and cannot be told apart row by row: its days load anew.
    """
    loaded = frozenset(path for day in days for path in day.files)
    held, moved = loaded, frozenset[str]()
    for rewrite in snapshot.rewrites:
        if rewrite.removed <= held:
            held, moved = held - rewrite.removed | rewrite.added, moved | rewrite.removed
    active = {one.path for files in snapshot.by_tenant.values() for one in files}
    return (held, moved) if held <= active else (loaded, frozenset())


def _empty(cursor: duckdb.DuckDBPyConnection) -> str:
    cursor.register("hot_schema", _SCHEMA.empty_table())
    return f"SELECT {_COLUMNS} FROM hot_schema"


def _chunks(files: Iterable[ActiveFile]) -> Iterable[list[ActiveFile]]:
    chunk: list[ActiveFile] = []
    rows = 0
    for one in files:
        chunk.append(one)
        rows += max(one.row_count, 0)
        if rows >= _LOAD_ROWS:
            yield chunk
            chunk, rows = [], 0
    if chunk:
        yield chunk
