"""Minute roll-ups of the newest days in memory: loaded file by file as the table grows, merged as they pile up.

One in-memory table for all days, tenants, merged partials and those that came since: a partial counts from the moment
its file is loaded. One table, because a union over days costs 2 ms of planning for each.
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
_DAYS_MAX: Final = 400
# Deleted rows that are not worth writing the table anew for.
_SWEEP_ROWS: Final = 200_000


@dataclass(frozen=True, slots=True)
class Day:
    """One loaded day. `files` are the paths whose rows it holds."""

    start_us: int
    files: frozenset[str]
    new_rows: int

    @property
    def number(self) -> int:
        """Days since 1970, the value of `day_`."""
        return self.start_us // DAY_US


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
        self._cursor.register("hot_schema", _SCHEMA.empty_table())
        self._cursor.execute(f"CREATE TABLE hot AS SELECT 0 AS day_, false AS merged_, {_COLUMNS} FROM hot_schema")
        self._rows_ever = 0
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
        listed = ", ".join(sorted({"tenant_id", "project_id", *columns}))
        return owned(scope, Fragment(f"SELECT {listed} FROM hot"))

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
            for start_us in loaded.keys() - {one.start_us for one in kept}:
                self._cursor.execute("DELETE FROM hot WHERE day_ = ?", [loaded[start_us].number])
            self._swept()
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
            self._cursor.execute("DELETE FROM hot WHERE day_ = ?", [day.number])
        new_rows = day.new_rows
        for chunk in _chunks(one for one in active if one.path not in held):
            new_rows += self._insert(day, self._read(chunk), merged=False)
            if new_rows >= self._merge_rows:
                self._merge(day)
                new_rows = 0
        return Day(start_us, paths, new_rows)

    def _merge(self, day: Day) -> None:
        unmerged = "day_ = ? AND NOT merged_"
        partials = self._cursor.sql(
            f"SELECT {_COLUMNS} FROM hot WHERE {unmerged}", params=[day.number]
        ).to_arrow_table()
        self._cursor.execute(f"DELETE FROM hot WHERE {unmerged}", [day.number])
        self._insert(day, merge([partials], keys=_KEYS), merged=True)

    def _swept(self) -> None:
        """Write the table anew once most of what it ever took in is deleted: deleted rows keep their memory."""
        live = int(self._cursor.execute("SELECT count(*) FROM hot").fetchall()[0][0])
        if self._rows_ever > 2 * live + _SWEEP_ROWS:
            self._cursor.execute("CREATE OR REPLACE TABLE hot AS SELECT * FROM hot ORDER BY day_")
            self._rows_ever = live

    def _read(self, files: Sequence[ActiveFile]) -> pa.Table:
        read = read_files(one.path for one in files)
        return self._cursor.sql(f"SELECT {_COLUMNS} FROM ({read.text})", params=list(read.parameters)).to_arrow_table()

    def _insert(self, day: Day, rows: pa.Table, *, merged: bool) -> int:
        self._cursor.register("incoming", rows)
        try:
            self._cursor.execute(f"INSERT INTO hot SELECT ?, ?, {_COLUMNS} FROM incoming", [day.number, merged])
        finally:
            self._cursor.unregister("incoming")
        self._rows_ever += rows.num_rows
        return int(rows.num_rows)

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
