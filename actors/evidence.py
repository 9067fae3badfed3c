"""What the events say of an incident: traces to look at, and what was changed shortly before it began."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.clock import format_rfc3339
from cluster.lake.scan import TableReader, files
from cluster.tenancy import TenantId, TenantScope

TRACES_MAX: Final = 3
CHANGES_MAX: Final = 10
# How long before its begin a change may be to do with an incident.
BEFORE_US: Final = 1_800_000_000
# Kinds of events that tell of a change.
CHANGED: Final = (
    "registry.version.",
    "registry.price.",
    "registry.asset.registered",
    "registry.asset.updated",
    "registry.asset.deleted",
    "registry.asset.status_changed",
    "guardrails.policy.",
    "gateway.route.changed",
    "audit.config",
)
_FILES_MAX: Final = 64
_COLUMNS: Final = (
    *("occurred_at", "kind", "service", "provider", "model", "operation"),
    *("status", "latency_ms", "trace_id", "payload"),
)
_PAYLOAD_LENGTH_MAX: Final = 400


@dataclass(frozen=True, slots=True)
class Evidence:
    """Of one incident."""

    trace_ids: tuple[str, ...] = ()
    changes: tuple[dict[str, Any], ...] = ()


class Events:
    """Reads the events table around incidents. Not thread-safe."""

    def __init__(self, lake: Path) -> None:
        self._reader = TableReader(lake, "events")

    def around(self, tenant: str, dimensions: Mapping[str, str | None], from_us: int, to_us: int) -> Evidence:
        """Traces of the entity in [from, to), failed and slow ones first, and changes in BEFORE_US before it.

        Raises:
            OSError, TableUnreadable: the table cannot be read.
        """
        snapshot = self._reader.refresh()
        scope = TenantScope.of(TenantId(tenant))
        chosen = files(scope, snapshot, from_us - BEFORE_US, to_us)[:_FILES_MAX]
        parts = [self._rows(one.path, from_us - BEFORE_US, to_us) for one in chosen]
        if not parts:
            return Evidence()
        rows = pa.concat_tables(parts)
        return Evidence(_traces(rows, dimensions, from_us), _changes(rows, from_us))

    def _rows(self, path: str, from_us: int, to_us: int) -> pa.Table:
        rows = pq.ParquetFile(path, page_checksum_verification=True).read(columns=list(_COLUMNS))
        at = rows.column("occurred_at").cast(pa.int64()).to_numpy()
        return rows.filter(pa.array((at >= from_us) & (at < to_us)))


def _traces(rows: pa.Table, dimensions: Mapping[str, str | None], from_us: int) -> tuple[str, ...]:
    mine = pc.and_(
        pc.is_valid(rows.column("trace_id")), pc.greater_equal(rows.column("occurred_at").cast(pa.int64()), from_us)
    )
    for name, value in dimensions.items():
        if name in rows.column_names and value is not None:
            mine = pc.and_(mine, pc.fill_null(pc.equal(rows.column(name), value), False))
    found = rows.filter(mine)
    failed = pc.fill_null(pc.not_equal(found.column("status"), "ok"), False)
    found = found.append_column("failed", pc.cast(failed, pa.int8()))
    found = found.sort_by([("failed", "descending"), ("latency_ms", "descending")])
    return tuple(dict.fromkeys(found.column("trace_id").to_pylist()))[:TRACES_MAX]


def _changes(rows: pa.Table, until_us: int) -> tuple[dict[str, Any], ...]:
    kinds = rows.column("kind")
    told = pc.starts_with(kinds, CHANGED[0])
    for prefix in CHANGED[1:]:
        told = pc.or_(told, pc.starts_with(kinds, prefix))
    told = pc.and_(told, pc.less_equal(rows.column("occurred_at").cast(pa.int64()), until_us))
    found = rows.filter(told).sort_by([("occurred_at", "descending")]).slice(0, CHANGES_MAX)
    return tuple(
        {
            "at": format_rfc3339(at_us),
            "kind": row["kind"],
            **{name: row[name] for name in ("service", "provider", "model") if row[name]},
            "payload": (row["payload"] or "")[:_PAYLOAD_LENGTH_MAX],
        }
        for row, at_us in zip(found.to_pylist(), found.column("occurred_at").cast(pa.int64()).to_pylist(), strict=True)
    )
