"""Bring a table written by an earlier hub to the columns of this one: every file rewritten once, then the schema.

Readers name the columns of the catalogue in each file, so a table's files all have them or the table is upgraded
before anybody reads. An upgrade that is cut short goes on where it stopped: files that have the columns are left.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, Field
from deltalake.transaction import RemoveAction

from cluster.clock import Clock
from cluster.lake.commit import TableWriter
from cluster.lake.stage import StagedFile, stage
from cluster.lake.tables import uri

_FILES_PER_COMMIT: Final = 64


def missing_columns(lake: Path, name: str, schema: pa.Schema) -> list[pa.Field]:
    """Columns of the catalogue that the table on the disk does not have; none for a table that is not there."""
    location = uri(lake, name)
    if not DeltaTable.is_deltatable(location):
        return []
    known = {one.name for one in DeltaTable(location).schema().fields}
    return [one for one in schema if one.name not in known]


def upgrade(lake: Path, writer: TableWriter, clock: Clock) -> int:
    """Give every file and the table the columns they lack, null in old rows; files rewritten.

    Raises:
        OSError, deltalake.exceptions.DeltaError: the disk refused; the next start goes on.
    """
    table = writer.table
    missing = missing_columns(lake, table.name, table.schema)
    if not missing:
        return 0
    count = 0
    active = writer.active_files()
    for first in range(0, len(active), _FILES_PER_COMMIT):
        removed: list[RemoveAction] = []
        added: list[StagedFile] = []
        for file in active[first : first + _FILES_PER_COMMIT]:
            path = writer.root / str(file["path"])
            rows = pq.ParquetFile(path, page_checksum_verification=True).read()
            if all(one.name in rows.schema.names for one in table.schema):
                continue
            tenant = str(file["partition.tenant_id"])
            removed.append(
                RemoveAction(
                    path=str(file["path"]),
                    data_change=False,
                    deletion_timestamp=clock.now_us() // 1000,
                    size=int(str(file["size_bytes"])),
                    partition_values={"tenant_id": tenant, "event_date": str(file["partition.event_date"])},
                )
            )
            added += stage(lake, table, _widened(rows, table.schema), tenant_id=tenant, token=f"upgrade-{uuid4().hex}")
        if removed:
            writer.replace(removed, added)
            count += len(removed)
    DeltaTable(uri(lake, table.name)).alter.add_columns([Field.from_arrow(one) for one in missing])
    writer.reopen()
    return count


def _widened(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        rows.column(one.name).cast(one.type) if one.name in rows.schema.names else pa.nulls(rows.num_rows, one.type)
        for one in schema
    ]
    return pa.table(columns, schema=schema)
