"""Merge small files of a partition into one, between commits, by our own writer: checksums read and written."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

import pyarrow as pa
import structlog
from deltalake.transaction import RemoveAction

from cluster.lake.commit import TableWriter
from cluster.lake.scan import read_rows
from cluster.lake.stage import StagedFile, stage
from cluster.lake.tables import ROW_GROUP_ROWS, TABLES, Table
from cluster.settings import Settings
from models.aggregate.rollup import merge

log = structlog.get_logger("compaction")

# A file is small below this part of the target size and of the rows of one merge: what comes out of a merge is not.
_SMALL: Final = 4


@dataclass(frozen=True, slots=True)
class Chosen:
    """Small files of one partition, as the Delta log lists them."""

    table: str
    files: list[dict[str, object]]

    @property
    def tenant_id(self) -> str:
        """Tenant of the partition."""
        return str(self.files[0]["partition.tenant_id"])


class Compactor:
    """Finds the partition with the most small files and merges them."""

    def __init__(self, settings: Settings, writers: dict[str, TableWriter]) -> None:
        self._settings = settings
        self._writers = writers
        self._looked_at: dict[str, int] = {}
        self.compacted_files = 0

    def choose(self) -> Chosen | None:
        """Files to compact next, if any partition is due; the caller holds the table handles."""
        for name, writer in self._writers.items():
            # A version that was found clean, or that only compaction moved, needs no second look.
            if writer.version - self._looked_at.get(name, -1_000_000) < self._settings.compact_files // 2:
                continue
            files = self._choose(writer)
            if files:
                return Chosen(name, files)
            self._looked_at[name] = writer.version
        return None

    def merge(self, chosen: Chosen) -> list[StagedFile]:
        """Write the rows of the chosen files as one file, not yet part of the table; needs no handle.

        The chosen files stay on the disk whatever becomes of them; `swap` looks whether they are still the table's.
        """
        table = TABLES[chosen.table]
        root = self._settings.lake / table.name
        rows = pa.concat_tables([read_file(root, table, str(file["path"])) for file in chosen.files])
        if table.name.startswith("rollup_"):
            # Partials of one window and dimension set become one; sums and sketches are as before.
            rows = merge([rows])
        rows = rows.sort_by([(name, "ascending") for name in table.sort])
        token = f"compact-{uuid4().hex}"
        return stage(self._settings.lake, table, rows, tenant_id=chosen.tenant_id, token=token)

    def swap(self, chosen: Chosen, merged: list[StagedFile]) -> None:
        """Put the merged file in place of the chosen ones, in one commit; the caller holds the table handles.

        Where a correction has told one of them anew meanwhile, the merged rows are of the past: they are left.
        """
        active = {str(file["path"]) for file in self._writers[chosen.table].active_files()}
        if not active.issuperset(str(file["path"]) for file in chosen.files):
            log.info("compaction_overtaken", table=chosen.table, files=len(chosen.files))
            return
        now_ms = time.time_ns() // 1_000_000
        removed = [
            RemoveAction(
                path=str(file["path"]),
                data_change=False,
                deletion_timestamp=now_ms,
                size=_size(file),
                partition_values={"tenant_id": chosen.tenant_id, "event_date": str(file["partition.event_date"])},
            )
            for file in chosen.files
        ]
        self._writers[chosen.table].replace(removed, merged)
        self.compacted_files += len(chosen.files)
        log.info("compacted", table=chosen.table, files=len(chosen.files), rows=sum(file.row_count for file in merged))

    def _choose(self, writer: TableWriter) -> list[dict[str, object]]:
        """Small files of the partition that has most of them, oldest first, up to the target size."""
        groups: dict[tuple[object, object], list[dict[str, object]]] = {}
        for file in writer.active_files():
            if self._is_small(file):
                groups.setdefault((file["partition.tenant_id"], file["partition.event_date"]), []).append(file)
        if not groups:
            return []
        most = max(groups.values(), key=len)
        if len(most) < self._settings.compact_files:
            return []
        chosen: list[dict[str, object]] = []
        size = rows = 0
        for file in sorted(most, key=lambda file: str(file["modification_time"])):
            size, rows = size + _size(file), rows + _rows(file)
            if chosen and (size > self._settings.compact_target_bytes or rows > self._settings.compact_rows_max):
                break
            chosen.append(file)
        return chosen if len(chosen) > 1 else []

    def _is_small(self, file: dict[str, object]) -> bool:
        # By rows as well: a million narrow rows are small in bytes, and would stand before all later files for ever.
        # One that fills a row group gains nothing that is worth writing its rows once more.
        rows_max = min(ROW_GROUP_ROWS, self._settings.compact_rows_max // _SMALL)
        return _size(file) * _SMALL < self._settings.compact_target_bytes and _rows(file) < rows_max


def read_file(root: Path, table: Table, path: str) -> pa.Table:
    """Rows of one file of a table, in the table's columns and types."""
    return read_rows(root / path).select(table.schema.names).cast(table.schema)


def _size(file: dict[str, object]) -> int:
    return int(str(file["size_bytes"]))


def _rows(file: dict[str, object]) -> int:
    return int(str(file["num_records"]))
