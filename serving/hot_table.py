"""The partials of one tier in one in-memory table: loaded a day at a time, merged as they pile up."""
# ruff: noqa: S608 (the text is ours, every value is bound: models/query/sql.py)

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import duckdb
import pyarrow as pa

from cluster.contract.columns import ROLLUP_SCHEMA
from cluster.lake.tables import MINUTES, ROLLUPS
from models.aggregate.rollup import ROLLUP_KEYS, coarsen, merge
from models.query.sql import Fragment, joined, placed
from models.query.times import DAY_US, Range
from serving.relations import read_files

_KEYS: Final = ("tenant_id", *ROLLUP_KEYS)
_SCHEMA: Final = pa.schema([pa.field("tenant_id", pa.string(), nullable=False), *ROLLUP_SCHEMA])
_COLUMNS: Final = ", ".join(_SCHEMA.names)
# Files read into Arrow at once, so that a first load does not need the day twice.
_LOAD_FILES: Final = 64
# New partials of a day are merged when there are so many: a merge costs some 2 us a row and halves what questions read.
_MERGE_ROWS: Final = 20_000
# Deleted rows that are not worth writing the table anew for.
_SWEEP_ROWS: Final = 200_000


class HotTable:
    """One tier's rows. Not thread-safe; the follower's transaction is around all that changes it."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, name: str, *, merge_rows: int | None = None) -> None:
        """
        Args:
            name: of the tier, a key of ROLLUPS.
            merge_rows: new partials of a day that are merged at once.
        """
        self._cursor = cursor
        self._window_us = ROLLUPS[name]
        self._name = f"hot_{name}"
        self._merge_rows = _MERGE_ROWS if merge_rows is None else merge_rows
        # Rows of each day that are merged, and those that came since.
        self._merged: dict[int, int] = {}
        self._new: dict[int, int] = {}
        self._rows_ever = 0
        cursor.register("hot_schema", _SCHEMA.empty_table())
        cursor.execute(f"CREATE TABLE {self._name} AS SELECT 0 AS day_, false AS merged_, {_COLUMNS} FROM hot_schema")
        cursor.unregister("hot_schema")

    def rows(self, columns: str, spans: Sequence[Range]) -> Fragment:
        """SELECT of the columns of all tenants' partials whose window begins in one of the ranges."""
        whole = Range(min(span.from_us for span in spans), max(span.to_us for span in spans))
        inside = joined((_inside(span) for span in spans), " OR ")
        # The bounds of the whole stand alone too: they are what row groups are skipped by.
        return placed(f"SELECT {columns} FROM {self._name} WHERE {{}} AND ({{}})", _inside(whole), inside)

    def load(self, start_us: int, paths: Sequence[str]) -> None:
        """Take in files of one day: partials in windows of the tier's length, or finer ones."""
        for at in range(0, len(paths), _LOAD_FILES):
            read = read_files(paths[at : at + _LOAD_FILES])
            rows = self._cursor.sql(
                f"SELECT {_COLUMNS} FROM ({read.text})", params=list(read.parameters)
            ).to_arrow_table()
            self._insert(start_us, rows, merged=False)
            if self._new.get(start_us, 0) >= max(self._merge_rows, self._again(start_us)):
                self._merge(start_us)

    def drop(self, start_us: int) -> None:
        """Forget a day."""
        self._cursor.execute(f"DELETE FROM {self._name} WHERE day_ = ?", [start_us // DAY_US])
        self._merged.pop(start_us, None)
        self._new.pop(start_us, None)

    def clear(self) -> None:
        """Forget everything."""
        self._cursor.execute(f"CREATE OR REPLACE TABLE {self._name} AS FROM {self._name} LIMIT 0")
        self._merged, self._new, self._rows_ever = {}, {}, 0

    def sweep(self) -> None:
        """Write the table anew once most of what it ever took in is deleted: deleted rows keep their memory."""
        live = sum(self._merged.values()) + sum(self._new.values())
        if self._rows_ever > 2 * live + _SWEEP_ROWS:
            self._cursor.execute(f"CREATE OR REPLACE TABLE {self._name} AS FROM {self._name} ORDER BY day_")
            self._rows_ever = live

    def _again(self, start_us: int) -> int:
        """Merged rows of a day that its next merge takes up again: those of minutes are never met a second time."""
        return 0 if self._window_us == ROLLUPS[MINUTES] else self._merged.get(start_us, 0)

    def _merge(self, start_us: int) -> None:
        taken = "day_ = ?" if self._again(start_us) else "day_ = ? AND NOT merged_"
        day = [start_us // DAY_US]
        partials = self._cursor.sql(f"SELECT {_COLUMNS} FROM {self._name} WHERE {taken}", params=day).to_arrow_table()
        self._cursor.execute(f"DELETE FROM {self._name} WHERE {taken}", day)
        self._merged[start_us] = self._merged.get(start_us, 0) - self._again(start_us)
        self._new[start_us] = 0
        fine = self._window_us == ROLLUPS[MINUTES]
        self._insert(
            start_us,
            merge([partials], keys=_KEYS) if fine else coarsen(partials, self._window_us, keys=_KEYS),
            merged=True,
        )

    def _insert(self, start_us: int, rows: pa.Table, *, merged: bool) -> None:
        self._cursor.register("incoming", rows)
        try:
            self._cursor.execute(
                f"INSERT INTO {self._name} SELECT ?, ?, {_COLUMNS} FROM incoming", [start_us // DAY_US, merged]
            )
        finally:
            self._cursor.unregister("incoming")
        counts = self._merged if merged else self._new
        counts[start_us] = counts.get(start_us, 0) + rows.num_rows
        self._rows_ever += rows.num_rows


def _inside(span: Range) -> Fragment:
    return Fragment(
        "window_start >= make_timestamptz(?::BIGINT) AND window_start < make_timestamptz(?::BIGINT)",
        (span.from_us, span.to_us),
    )
