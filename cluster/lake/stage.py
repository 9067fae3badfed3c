"""Write rows as Parquet under a table, durable but not yet part of it, and return the file actions to commit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.clock import format_rfc3339
from cluster.lake.files import make_folder, sync_file, sync_folder
from cluster.lake.tables import Table


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A Parquet file that lies under a table and waits for a commit.

    Attributes:
        path: relative to the table, `tenant_id=…/event_date=…/part-….parquet`.
        stats: Delta statistics as JSON text: row count, and range and nulls of the time column.
    """

    table: str
    tenant_id: str
    event_date: str
    path: str
    size_bytes: int
    row_count: int
    stats: str


def stage(lake: Path, table: Table, rows: pa.Table, *, tenant_id: str, token: str) -> list[StagedFile]:
    """Write one tenant's rows, one file for each event date.

    Args:
        rows: (n,) rows of the table's file schema; text columns may be dictionaries.
        token: makes file names unique; an attempt that is repeated must bring a new one, since a file that a
            commit may already name is never written again.

    Raises:
        OSError: the disk refused; nothing of this call is committed and the caller may try again.
    """
    if rows.num_rows == 0:
        return []
    dates = pc.cast(rows.column(table.time_column), pa.date32()).combine_chunks()
    span = pc.min_max(dates).as_py()
    if span["min"] == span["max"]:
        return [_write(lake, table, rows, (tenant_id, span["min"].isoformat(), token))]
    staged = []
    for day in sorted(pc.unique(dates).to_pylist()):
        part = rows.filter(pc.equal(dates, pa.scalar(day, pa.date32())))
        staged.append(_write(lake, table, part, (tenant_id, day.isoformat(), token)))
    return staged


def _write(lake: Path, table: Table, rows: pa.Table, name: tuple[str, str, str]) -> StagedFile:
    tenant_id, event_date, token = name
    relative = f"tenant_id={tenant_id}/event_date={event_date}/part-{token}.parquet"
    path = lake / table.name / relative
    make_folder(path.parent)
    write_parquet(path, table, rows)
    sync_file(path)
    sync_folder(path.parent)
    return StagedFile(
        table=table.name,
        tenant_id=tenant_id,
        event_date=event_date,
        path=relative,
        size_bytes=path.stat().st_size,
        row_count=rows.num_rows,
        stats=_stats(table, rows),
    )


def write_parquet(path: Path, table: Table, rows: pa.Table) -> None:
    """Parquet with page checksums: without them most flipped bits are read as data (docs/decisions/0001)."""
    coded = {field.name for field in rows.schema if pa.types.is_dictionary(field.type)}
    pq.write_table(
        rows,
        path,
        row_group_size=table.row_group_rows,
        compression="zstd",
        compression_level=1,
        use_dictionary=[name for name in rows.schema.names if name in coded or name in table.dictionary],
        write_statistics=[table.time_column, *(n for n in ("trace_id", "event_id") if n in rows.schema.names)],
        write_page_checksum=True,
        # Readers are to find the table's own types, not how a shard held them.
        store_schema=not coded,
    )


def _stats(table: Table, rows: pa.Table) -> str:
    column = table.time_column
    span = pc.min_max(pc.cast(rows.column(column), pa.int64())).as_py()
    stats = {
        "numRecords": rows.num_rows,
        "minValues": {column: format_rfc3339(span["min"])},
        "maxValues": {column: format_rfc3339(span["max"])},
        "nullCount": {column: 0},
    }
    return orjson.dumps(stats).decode()
