"""The latest rows of the events table, for a shard that begins on a node where nothing of its past lies on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from cluster.contract.columns import EVENT_SCHEMA
from cluster.lake.tables import ANCHOR, uri
from cluster.tenancy import TenantId

# What tells an event and its call apart, and where it goes.
IDENTITY: Final = ("event_id", "kind", "operation", "trace_id", "span_id", "request_id", "counted")


def recent_identities(lake: Path, *, rows_max: int) -> Iterator[tuple[TenantId, pa.RecordBatch]]:
    """Identity columns of the rows committed last, older files first.

    Args:
        rows_max: files are taken from the newest back until they hold this many rows.

    Yields:
        A tenant and rows of EVENT_SCHEMA whose other columns are null, page checksums verified.
    """
    location = uri(lake, ANCHOR)
    if not DeltaTable.is_deltatable(location):
        return
    actions = pa.table(DeltaTable(location).get_add_actions(flatten=True)).to_pylist()
    chosen, rows = [], 0
    for file in sorted(actions, key=lambda file: file["modification_time"], reverse=True):
        if rows >= rows_max:
            break
        rows += file["num_records"]
        chosen.append(file)
    for file in reversed(chosen):
        for batch in identities(lake / ANCHOR / file["path"]):
            yield TenantId(file["partition.tenant_id"]), batch


def identities(path: Path | str) -> Iterator[pa.RecordBatch]:
    """Identity columns of one file of events, as rows of EVENT_SCHEMA whose other columns are null."""
    parquet = pq.ParquetFile(path, page_checksum_verification=True)
    for batch in parquet.iter_batches(65_536, columns=list(IDENTITY)):
        yield _widened(batch)


def _widened(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [
        batch.column(field.name).cast(field.type) if field.name in IDENTITY else pa.nulls(batch.num_rows, field.type)
        for field in EVENT_SCHEMA
    ]
    fields = [field.with_nullable(True) for field in EVENT_SCHEMA]
    return pa.record_batch(columns, schema=pa.schema(fields))
