"""Rows the events table holds and the sequences it stands at, from one snapshot."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from cluster.lake.changes import has_newer
from cluster.lake.expired import expired
from cluster.lake.repeats import NONE, repeats
from cluster.lake.tables import ANCHOR, uri


@dataclass(frozen=True, slots=True)
class Committed:
    """One snapshot of the events table.

    Attributes:
        rows: rows of each tenant.
        sequences: last committed seal of each journal asked for, 0 for none.
        expired: rows of each tenant that were there and left because of their age.
        repeats: rows of each tenant that were there and left as repeats of others.
    """

    version: int
    rows: dict[str, int]
    sequences: dict[str, int]
    expired: dict[str, int] = field(default_factory=dict)
    repeats: dict[str, int] = field(default_factory=dict)


class CommittedCounts:
    """Counts of the newest snapshot; each time reads only what the log gained. May be asked from any thread."""

    def __init__(self, lake: Path) -> None:
        self._lake = lake
        self._lock = threading.Lock()
        self._handle: DeltaTable | None = None
        self._counted = Committed(-1, {}, {})
        self._repeats = NONE

    def newest(self, journals: Sequence[str]) -> Committed:
        """Rows by tenant from the file statistics, and the journals' sequences, in one snapshot."""
        with self._lock:
            table = self._newest()
            version = int(table.version())
            if version != self._counted.version:
                gone = expired(table, self._lake / ANCHOR)
                self._repeats = repeats(table, self._lake / ANCHOR, self._repeats)
                self._counted = Committed(version, _rows(table), {}, dict(gone.rows), dict(self._repeats.rows))
            sequences = {journal: int(table.transaction_version(journal) or 0) for journal in journals}
            return replace(self._counted, sequences=sequences)

    def _newest(self) -> DeltaTable:
        if self._handle is not None:
            try:
                if has_newer(self._lake / ANCHOR, int(self._handle.version())):
                    self._handle.update_incremental()
                return self._handle
            except DeltaError:
                # The log before the last checkpoint was cleaned up meanwhile.
                pass
        self._handle = DeltaTable(uri(self._lake, ANCHOR))
        return self._handle


def _rows(table: DeltaTable) -> dict[str, int]:
    actions = pa.table(table.get_add_actions(flatten=True))
    rows: Counter[str] = Counter()
    if actions.num_rows:
        tenants = actions.column("partition.tenant_id").to_pylist()
        for tenant, count in zip(tenants, actions.column("num_records").to_pylist(), strict=True):
            rows[tenant] += count
    return dict(rows)
