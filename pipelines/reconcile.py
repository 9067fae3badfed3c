"""Reconcile money: cost by events = cost by roll-ups = bill of each tenant, to the nano-dollar.

`python -m pipelines.reconcile`, also through `llmhub job reconcile`. Prints one JSON object; exits 1 when a difference
is not 0, and names its tenant, day, model and amount. It changes nothing.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from cluster.contract.columns import MONEY
from cluster.contract.event import COUNTED_COST, COUNTED_TOKENS
from cluster.errors import HubError
from cluster.lake.scan import ActiveFile, Snapshot, files, read_rows
from cluster.settings import Settings
from cluster.tenancy import TenantScope, tenant_id
from models.aggregate.groups import nano_usd
from models.aggregate.rollup import merge
from pipelines.rebuild_rollups import level

# (tenant, day, model) -> nano-dollars, or a count.
Sums = Counter[tuple[str, str, str]]

_END_US: Final = 253_402_300_800_000_000  # year 10000


def main() -> int:
    """Exit code: 0 no difference, 1 a difference or a failure."""
    try:
        report = reconcile(Settings.from_environment().lake)
    except HubError as error:
        print(f"{error.code}: {error.message} {error.hint}", file=sys.stderr)
        return 1
    print(json.dumps(report, indent=1))
    return 1 if report["differences"] else 0


def reconcile(lake: Path) -> dict[str, Any]:
    """The report: totals, bills by tenant, what has tokens but no cost by model, and every difference.

    Raises:
        Unavailable: the tables never stood at the same seals while we looked.
    """
    events, rollups = level(lake)
    by_event, unpriced = _of_events(_files(events))
    by_rollup, bills = _of_rollups(_files(rollups))
    differences = [
        {"tenant_id": key[0], "event_date": key[1], "model": key[2], "difference_usd": _usd(by_event[key] - theirs)}
        for key in sorted(by_event.keys() | by_rollup.keys())
        if by_event[key] != (theirs := by_rollup[key])
    ]
    totals = (by_event.total(), by_rollup.total(), bills.total())
    return {
        "events_version": events.version,
        "rollup_version": rollups.version,
        "events_usd": _usd(totals[0]),
        "rollups_usd": _usd(totals[1]),
        "bills_usd": _usd(totals[2]),
        "difference_usd": _usd(max(totals) - min(totals)),
        "bills": {tenant: _usd(nano) for tenant, nano in sorted(bills.items())},
        "unpriced": [
            {"tenant_id": key[0], "event_date": key[1], "model": key[2], "events": count}
            for key, count in sorted(unpriced.items())
        ],
        "differences": differences,
    }


def _files(snapshot: Snapshot) -> list[ActiveFile]:
    tenants = tuple(map(tenant_id, sorted(snapshot.by_tenant)))
    if not tenants:
        return []
    scope = TenantScope.operator(tenants, reason="reconcile compares the bills of all tenants")
    return files(scope, snapshot, 0, _END_US)


def _of_events(found: list[ActiveFile]) -> tuple[Sums, Sums]:
    """Nano-dollars of counted costs, and how many rows with counted tokens have no cost."""
    spent: Sums = Counter()
    unpriced: Sums = Counter()
    for one in found:
        rows = read_rows(one.path).select(["model", "cost_usd", "counted"])
        counted = rows.column("counted").to_numpy()
        money = nano_usd(rows.column("cost_usd").combine_chunks()) * ((counted & COUNTED_COST) != 0)
        bare = rows.column("cost_usd").is_null().to_numpy() & ((counted & COUNTED_TOKENS) != 0)
        _add(spent, one, rows.column("model"), money)
        _add(unpriced, one, rows.column("model"), bare.astype(np.int64))
    return +spent, +unpriced


def _of_rollups(found: list[ActiveFile]) -> tuple[Sums, Counter[str]]:
    """Nano-dollars of partials as they are stored, and of each tenant once they are merged as for an answer."""
    spent: Sums = Counter()
    bills: Counter[str] = Counter()
    for one in found:
        rows = read_rows(one.path)
        _add(spent, one, rows.column("model"), nano_usd(rows.column("cost_usd").cast(MONEY).combine_chunks()))
        merged = merge([rows]).column("cost_usd").combine_chunks()
        bills[one.tenant_id] += sum(nano_usd(merged).tolist())
    return +spent, bills


def _add(sums: Sums, file: ActiveFile, models: pa.ChunkedArray, values: np.ndarray[Any, np.dtype[np.int64]]) -> None:
    table = pa.table({"model": models.fill_null(""), "value": pa.array(values).cast(pa.decimal128(38, 0))})
    for row in table.group_by("model").aggregate([("value", "sum")]).to_pylist():
        sums[file.tenant_id, str(file.event_date), row["model"]] += int(row["value_sum"] or 0)


def _usd(nano: int) -> str:
    return f"{Decimal(nano).scaleb(-9):f}"


if __name__ == "__main__":
    sys.exit(main())
