"""The last hours of minute partials by tenant, in memory: each commit is read once, and only what it brought."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from cluster.contract.columns import ROLLUP_SCHEMA
from cluster.lake.changes import changes
from cluster.lake.scan import ActiveFile, Snapshot, TableReader, read_rows
from cluster.lake.tables import MINUTES, uri
from models.aggregate.rollup import merge
from models.anomaly.features import ENTITY_DIMENSIONS

KEYS: Final = ("window_start", *ENTITY_DIMENSIONS)
# Tables of one tenant that stay unmerged.
_PARTS_MAX: Final = 32


class Minutes:
    """Follows the minute table. Not thread-safe."""

    def __init__(self, lake: Path, *, keep_us: int) -> None:
        """
        Args:
            keep_us: rows older than this before the newest look are forgotten.
        """
        self._root = Path(uri(lake, MINUTES)).absolute()
        self._reader = TableReader(lake, MINUTES)
        self._keep_us = keep_us
        self._version = -1
        self._parts: dict[str, list[pa.Table]] = {}

    def refresh(self, now_us: int) -> dict[str, int]:
        """Take in what was committed; the tenants that have new rows, each with the earliest minute of those.

        Raises:
            OSError, TableUnreadable: a file cannot be read; the next call tries again.
        """
        snapshot = self._reader.refresh()
        if snapshot.version == self._version:
            return {}
        from_us = now_us - self._keep_us
        gained = changes(self._root, self._version + 1, snapshot.version) if self._version >= 0 else None
        if gained is None:
            self._parts = {}
            fresh = self._all(snapshot, from_us)
        else:
            fresh = {}
            for (tenant, _), path in gained.appended:
                fresh.setdefault(tenant, []).append(str(self._root / path))
            for tenant in {tenant for tenant, _ in gained.rewritten}:
                self._parts.pop(tenant, None)
                fresh[tenant] = [one.path for one in _recent(snapshot.by_tenant.get(tenant, ()), from_us)]
        begins: dict[str, int] = {}
        for tenant, paths in fresh.items():
            read = [_read(path, from_us) for path in paths]
            self._parts.setdefault(tenant, []).extend(read)
            starts = [pc.min(one.column("window_start").cast(pa.int64())).as_py() for one in read]
            begins[tenant] = min((one for one in starts if one is not None), default=now_us)
            if len(self._parts[tenant]) > _PARTS_MAX:
                self._parts[tenant] = [self.rows(tenant, from_us)]
        self._version = snapshot.version
        return begins

    @property
    def tenants(self) -> tuple[str, ...]:
        """Those with rows."""
        return tuple(self._parts)

    def rows(self, tenant: str, from_us: int) -> pa.Table:
        """Partials of a tenant from an instant on, keyed by KEYS."""
        rows = merge(self._parts.get(tenant) or [merge([ROLLUP_SCHEMA.empty_table()], keys=KEYS)], keys=KEYS)
        return rows.filter(pa.array(rows.column("window_start").cast(pa.int64()).to_numpy() >= from_us))

    def forget(self, tenant: str) -> None:
        """Of a tenant that has been silent for longer than rows are kept."""
        self._parts.pop(tenant, None)

    def _all(self, snapshot: Snapshot, from_us: int) -> dict[str, list[str]]:
        found = {tenant: [one.path for one in _recent(files, from_us)] for tenant, files in snapshot.by_tenant.items()}
        return {tenant: paths for tenant, paths in found.items() if paths}


def past_rows(lake: Path, tenant: str, from_us: int, to_us: int) -> pa.Table:
    """Partials of one tenant over [from, to), keyed by KEYS, read once and not kept.

    Raises:
        OSError, TableUnreadable: a file cannot be read.
    """
    held = TableReader(lake, MINUTES).refresh().by_tenant.get(tenant, ())
    together = merge([ROLLUP_SCHEMA.empty_table()], keys=KEYS)
    inside = [one.path for one in held if one.to_us >= from_us and one.from_us < to_us]
    for at in range(0, len(inside), _PARTS_MAX):
        together = merge([together, *(_read(path, from_us) for path in inside[at : at + _PARTS_MAX])], keys=KEYS)
    return together.filter(pa.array(together.column("window_start").cast(pa.int64()).to_numpy() < to_us))


def _recent(files: Sequence[ActiveFile], from_us: int) -> list[ActiveFile]:
    return [one for one in files if one.to_us >= from_us]


def _read(path: str, from_us: int) -> pa.Table:
    rows = read_rows(path).select(ROLLUP_SCHEMA.names).cast(ROLLUP_SCHEMA)
    inside = rows.column("window_start").cast(pa.int64()).to_numpy() >= from_us
    return merge([rows.filter(pa.array(inside))], keys=KEYS)
