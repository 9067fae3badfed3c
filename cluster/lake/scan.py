"""The only reader of the Delta tables: snapshots of their files, cut to the tenants and the time a question may see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from cluster.contract.columns import INSTANT
from cluster.lake.changes import TableUnreadable, has_newer, inside
from cluster.lake.expired import NOTHING, expired
from cluster.lake.tables import MINUTES, TABLES, uri
from cluster.tenancy import TenantScope

_DAY_US: Final = 86_400_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Other writers cut statistics to milliseconds, downwards.
_STATISTICS_SLACK_US: Final = 1_000


@dataclass(frozen=True, slots=True)
class ActiveFile:
    """A Parquet file of a snapshot.

    Attributes:
        path: where it lies; holds the table's columns without `tenant_id` and `event_date`, which are in the path.
        row_count: rows, or -1 where the log does not say.
        from_us, to_us: first and last instant of the time column; of the event date where the log does not say.
    """

    path: str
    tenant_id: str
    event_date: str
    size_bytes: int
    row_count: int
    from_us: int
    to_us: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of one table.

    Attributes:
        version: Delta version; -1 while the table does not exist.
        by_tenant: each tenant's active files.
        rolled: last version of the minute roll-ups that is in this table; 0 for tables that are not rolled from them.
        floors: by tenant, the first instant from which on no row left because of its age, in microseconds.
    """

    table: str
    version: int = -1
    by_tenant: Mapping[str, tuple[ActiveFile, ...]] = field(default_factory=dict)
    rolled: int = 0
    floors: Mapping[str, int] = field(default_factory=dict)


def files(scope: TenantScope, snapshot: Snapshot, from_us: int, to_us: int) -> list[ActiveFile]:
    """Files of the scope's tenants that can hold rows in [from_us, to_us), newest first."""
    found = [
        one
        for tenant in scope.tenants
        for one in snapshot.by_tenant.get(tenant, ())
        if one.from_us < to_us and one.to_us >= from_us
    ]
    found.sort(key=lambda one: (one.to_us, one.path), reverse=True)
    return found


def row_counts(scope: TenantScope, snapshot: Snapshot) -> dict[str, int]:
    """Rows of each tenant of the scope, from the log alone.

    Raises:
        TableUnreadable: a file was committed without its row count.
    """
    counts: dict[str, int] = {}
    for tenant in scope.tenants:
        active = snapshot.by_tenant.get(tenant, ())
        if any(one.row_count < 0 for one in active):
            raise TableUnreadable(f"{snapshot.table}: a file of tenant {tenant} has no row count in the log")
        counts[tenant] = sum(one.row_count for one in active)
    return counts


def read_rows(path: Path | str) -> pa.Table:
    """Rows of one file, page checksums verified; the partition columns are in its path.

    Raises:
        OSError: the file is gone or damaged.
    """
    return pq.ParquetFile(path, page_checksum_verification=True).read()


def read_span(path: Path | str, from_us: int, to_us: int) -> pa.Table:
    """Rows of one roll-up file whose window begins in [from_us, to_us), page checksums verified.

    Raises:
        OSError: the file is gone or damaged.
    """
    file = pq.ParquetFile(path, page_checksum_verification=True)
    place = file.schema.names.index("window_start")
    wanted = [
        number
        for number in range(file.num_row_groups)
        if _overlaps(file.metadata.row_group(number).column(place), from_us, to_us)
    ]
    # Roll-ups are few rows: threads would cost more than they save.
    rows = file.read_row_groups(wanted, use_threads=False)
    starts_us = rows.column("window_start").cast(INSTANT).cast(pa.int64())
    return rows.filter(pc.and_(pc.greater_equal(starts_us, from_us), pc.less(starts_us, to_us)))


def _overlaps(column: pq.ColumnChunkMetaData, from_us: int, to_us: int) -> bool:
    statistics = column.statistics
    if statistics is None or not statistics.has_min_max:
        return True
    low, high = (pa.scalar(value, INSTANT).cast(pa.int64()).as_py() for value in (statistics.min, statistics.max))
    return bool(low < to_us and high >= from_us)


class TableReader:
    """Follows one table: each `refresh` reads only what the log gained. Not thread-safe."""

    def __init__(self, lake: Path, table: str) -> None:
        self._root = Path(uri(lake, table)).absolute()
        self._time_column = TABLES[table].time_column
        self._handle: DeltaTable | None = None
        self._expired = NOTHING
        self.snapshot = Snapshot(table)

    def refresh(self) -> Snapshot:
        """The newest version; the same object as before when nothing was committed since.

        Raises:
            TableUnreadable: the table has deletion vectors, or a file outside its folder.
        """
        handle = self._newest()
        if handle is None or handle.version() == self.snapshot.version:
            return self.snapshot
        features = handle.protocol().reader_features or []
        if "deletionVectors" in features:
            raise TableUnreadable(f"{self.snapshot.table} has deletion vectors, which its file list does not show")
        version = int(handle.version())
        known = {one.path: one for active in self.snapshot.by_tenant.values() for one in active}
        by_tenant: dict[str, list[ActiveFile]] = {}
        for row in pa.table(handle.get_add_actions(flatten=True)).to_pylist():
            path = str(self._root / inside(str(row["path"])))
            one = known.get(path) or self._file(path, row)
            by_tenant.setdefault(one.tenant_id, []).append(one)
        rolled = handle.transaction_version(MINUTES) or 0
        active = {tenant: tuple(found) for tenant, found in by_tenant.items()}
        self._expired = expired(handle, self._root, self._expired)
        floors = {tenant: day * _DAY_US for tenant, day in self._expired.floors.items()}
        self.snapshot = Snapshot(self.snapshot.table, version, active, int(rolled), floors)
        return self.snapshot

    def transaction_versions(self, applications: Iterable[str]) -> dict[str, int]:
        """Last committed sequence of each journal that has one, as of the newest snapshot."""
        if self._handle is None:
            return {}
        found = {name: self._handle.transaction_version(name) for name in applications}
        return {name: int(version) for name, version in found.items() if version is not None}

    def _newest(self) -> DeltaTable | None:
        if self._handle is None:
            if not DeltaTable.is_deltatable(str(self._root)):
                return None
            self._handle = DeltaTable(str(self._root))
            return self._handle
        try:
            if has_newer(self._root, int(self._handle.version())):
                self._handle.update_incremental()
        except DeltaError:
            # We fell so far behind that the log before the last checkpoint was cleaned up.
            self._handle = DeltaTable(str(self._root))
        return self._handle

    def _file(self, path: str, row: Mapping[str, Any]) -> ActiveFile:
        day = date.fromisoformat(str(row["partition.event_date"]))
        start = _us(datetime(day.year, day.month, day.day, tzinfo=UTC))
        low, high = row.get(f"min.{self._time_column}"), row.get(f"max.{self._time_column}")
        rows = row.get("num_records")
        return ActiveFile(
            path=path,
            tenant_id=str(row["partition.tenant_id"]),
            event_date=day.isoformat(),
            size_bytes=int(row["size_bytes"]),
            row_count=-1 if rows is None else int(rows),
            from_us=start if low is None else _us(low),
            to_us=start + _DAY_US - 1 if high is None else _us(high) + _STATISTICS_SLACK_US,
        )


def _us(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)
