"""Rows the events table holds and the sequences it stands at, from one snapshot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable

from cluster.lake.expired import expired
from cluster.lake.tables import ANCHOR, uri


@dataclass(frozen=True, slots=True)
class Committed:
    """One snapshot of the events table.

    Attributes:
        rows: rows of each tenant.
        sequences: last committed seal of each journal asked for, 0 for none.
        expired: rows of each tenant that were there and left because of their age.
    """

    version: int
    rows: dict[str, int]
    sequences: dict[str, int]
    expired: dict[str, int] = field(default_factory=dict)


def committed_counts(lake: Path, journals: Sequence[str]) -> Committed:
    """Count rows by tenant from the file statistics, and look the journals' sequences up, in one snapshot."""
    table = DeltaTable(uri(lake, ANCHOR))
    actions = pa.table(table.get_add_actions(flatten=True))
    rows: Counter[str] = Counter()
    if actions.num_rows:
        tenants = actions.column("partition.tenant_id").to_pylist()
        for tenant, count in zip(tenants, actions.column("num_records").to_pylist(), strict=True):
            rows[tenant] += count
    sequences = {journal: int(table.transaction_version(journal) or 0) for journal in journals}
    gone = expired(table, lake / ANCHOR)
    return Committed(int(table.version()), dict(rows), sequences, dict(gone.rows))
