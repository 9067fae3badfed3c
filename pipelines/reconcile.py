"""Reconcile money: cost by events = cost by roll-ups of every length = bill of each tenant, to the nano-dollar.

`python -m pipelines.reconcile`, also through `llmhub job reconcile`. Prints one JSON object; exits 1 when a difference
is not 0 or an event is there twice, and names the fault, its tenant, day, model and amount. It changes nothing.
Where a sender told a cost, what it differs by from the hub's own is told as well; that is no fault.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.contract.columns import MONEY
from cluster.contract.event import COUNTED_COST, COUNTED_TOKENS
from cluster.hashing import hash128, seed_of
from cluster.lake.past import snapshot_at
from cluster.lake.scan import ActiveFile, Snapshot, TableReader, files, read_rows
from cluster.lake.tables import MINUTES, ROLLUPS
from cluster.settings import Settings
from cluster.tenancy import TenantScope, tenant_id
from models.aggregate.groups import nano_usd
from models.aggregate.rollup import merge
from pipelines.rebuild_rollups import level
from pipelines.report import reported

# (tenant, day, model) -> nano-dollars, or a count.
Key = tuple[str, str, str]
Sums = Counter[Key]

_END_US: Final = 253_402_300_800_000_000  # year 10000
_SEED: Final = seed_of("reconcile")
_NAMED_MAX: Final = 20

LOST: Final = "roll-ups lack events"
SURPLUS: Final = "roll-ups hold more than the events"
CHANGED: Final = "a cost was changed"
WRONG_BILL: Final = "a bill differs from the minutes it is made of"
DOUBLED: Final = "an event is there twice"


@dataclass(slots=True)
class _Events:
    """What the events tell.

    Attributes:
        spent, rows: nano-dollars of counted costs, and rows.
        unpriced: rows with counted tokens and no cost.
        sent: of calls with both figures: rows, rows that differ, nano-dollars sent and computed.
        altered: computed rows whose cost is not what was computed.
        hashes: of the ids of each tenant, a block for each file.
    """

    spent: Sums = field(default_factory=Counter)
    rows: Sums = field(default_factory=Counter)
    unpriced: Sums = field(default_factory=Counter)
    sent: dict[Key, npt.NDArray[np.int64]] = field(default_factory=dict)
    altered: list[dict[str, Any]] = field(default_factory=list)
    hashes: dict[str, list[npt.NDArray[np.uint64]]] = field(default_factory=lambda: defaultdict(list))


def main() -> int:
    """Exit code: 0 no difference, 1 a difference or a failure."""
    return reported(lambda: reconcile(Settings.from_environment().lake), lambda report: not report["faults"])


def reconcile(lake: Path) -> dict[str, Any]:
    """The report: totals, bills by tenant, what is unpriced, what senders and hub tell apart, and every fault by name.

    Raises:
        Unavailable: the tables never stood at the same seals while we looked.
    """
    events, rollups = level(lake)
    told = _of_events(_files(events))
    by_rollup, counts, bills = _of_rollups(_files(rollups))
    differences = [
        {
            **_named(key),
            "fault": _fault(counts[key] - told.rows[key]),
            "difference_usd": _usd(told.spent[key] - by_rollup[key]),
            "events_missing": told.rows[key] - counts[key],
        }
        for key in sorted(told.rows.keys() | counts.keys())
        if (told.spent[key], told.rows[key]) != (by_rollup[key], counts[key])
    ]
    faults = [*differences, *told.altered, *_doubled(told, _files(events)), *_wrong_bills(lake)]
    totals = (told.spent.total(), by_rollup.total(), bills.total())
    return {
        "events_version": events.version,
        "rollup_version": rollups.version,
        "events": told.rows.total(),
        "events_usd": _usd(totals[0]),
        "rollups_usd": _usd(totals[1]),
        "bills_usd": _usd(totals[2]),
        "difference_usd": _usd(max(totals) - min(totals)),
        "bills": {tenant: _usd(nano) for tenant, nano in sorted(bills.items())},
        "unpriced": [{**_named(key), "events": count} for key, count in sorted(told.unpriced.items())],
        "sent_costs": [_sent_line(key, sums) for key, sums in sorted(told.sent.items())],
        "differences": differences,
        "faults": faults,
    }


def _fault(surplus: int) -> str:
    return CHANGED if not surplus else LOST if surplus < 0 else SURPLUS


def _sent_line(key: Key, sums: npt.NDArray[np.int64]) -> dict[str, Any]:
    rows, differ, sent, computed = sums.tolist()
    usd = {"sent_usd": _usd(sent), "computed_usd": _usd(computed), "difference_usd": _usd(sent - computed)}
    return {**_named(key), "events": rows, "events_that_differ": differ, **usd}


def _files(snapshot: Snapshot) -> list[ActiveFile]:
    tenants = tuple(map(tenant_id, sorted(snapshot.by_tenant)))
    if not tenants:
        return []
    scope = TenantScope.operator(tenants, reason="reconcile compares the bills of all tenants")
    return files(scope, snapshot, 0, _END_US)


_COLUMNS: Final = ("event_id", "model", "counted", "cost_usd", "cost_usd_computed", "cost_is_sent")


def _of_events(found: list[ActiveFile]) -> _Events:
    told = _Events()
    for one in found:
        rows = read_rows(one.path).select(_COLUMNS).combine_chunks()
        model, counted = rows.column("model"), rows.column("counted").to_numpy()
        cost, computed = (rows.column(name).combine_chunks() for name in ("cost_usd", "cost_usd_computed"))
        nano, own = nano_usd(cost), nano_usd(computed)
        _add(told.spent, one, model, nano * ((counted & COUNTED_COST) != 0))
        _add(told.rows, one, model, np.ones(rows.num_rows, np.int64))
        bare = np.asarray(cost.is_null()) & ((counted & COUNTED_TOKENS) != 0)
        _add(told.unpriced, one, model, bare.astype(np.int64))
        is_sent = rows.column("cost_is_sent")
        both = np.asarray(pc.and_(cost.is_valid(), computed.is_valid()))
        sent, priced = (both & np.asarray(pc.equal(is_sent, flag).fill_null(False)) for flag in (True, False))
        parts = [sent, sent & (nano != own), nano * sent, own * sent]
        for column, part in enumerate(parts):
            sums: Sums = Counter()
            _add(sums, one, model, part.astype(np.int64))
            for key, value in sums.items():
                told.sent.setdefault(key, np.zeros(len(parts), np.int64))[column] += value
        for row in np.flatnonzero(priced & (nano != own))[:_NAMED_MAX].tolist():
            key = (one.tenant_id, str(one.event_date), model[row].as_py() or "")
            amount = _usd(int(nano[row] - own[row]))
            name = rows.column("event_id")[row].as_py()
            told.altered.append({"fault": CHANGED, **_named(key), "event_id": name, "difference_usd": amount})
        if rows.num_rows:
            told.hashes[one.tenant_id].append(hash128(rows.column("event_id").combine_chunks(), _SEED))
    told.spent, told.unpriced = +told.spent, +told.unpriced
    told.sent = {key: sums for key, sums in told.sent.items() if sums[0]}
    return told


def _of_rollups(found: list[ActiveFile]) -> tuple[Sums, Sums, Counter[str]]:
    """Nano-dollars and events of partials as they are stored, and each tenant's money merged as for an answer."""
    spent: Sums = Counter()
    counts: Sums = Counter()
    bills: Counter[str] = Counter()
    for one in found:
        rows = read_rows(one.path)
        _add(spent, one, rows.column("model"), nano_usd(rows.column("cost_usd").cast(MONEY).combine_chunks()))
        _add(counts, one, rows.column("model"), rows.column("event_count").to_numpy())
        merged = merge([rows]).column("cost_usd").combine_chunks()
        bills[one.tenant_id] += sum(nano_usd(merged).tolist())
    return +spent, +counts, bills


def _doubled(told: _Events, found: list[ActiveFile]) -> Iterable[dict[str, Any]]:
    """Ids that a tenant has more than once, the first of them by name."""
    for tenant, blocks in told.hashes.items():
        first = np.sort(np.concatenate([block[:, 0] for block in blocks]))
        again = np.unique(first[1:][first[1:] == first[:-1]])
        if not again.size:
            continue
        named: Counter[tuple[str, str, str]] = Counter()
        for one in (one for one in found if one.tenant_id == tenant):
            rows = read_rows(one.path).select(["event_id", "model"]).combine_chunks()
            if rows.num_rows:
                words = hash128(rows.column("event_id").combine_chunks(), _SEED)[:, 0]
                for row in rows.take(np.flatnonzero(np.isin(words, again))).to_pylist():
                    named[str(row["event_id"]), str(one.event_date), row["model"] or ""] += 1
        ids = Counter(name for name, _, _ in named.elements())
        for (name, day, model), _ in named.most_common():
            if ids[name] > 1:
                yield {"fault": DOUBLED, **_named((tenant, day, model)), "event_id": name, "times": ids.pop(name)}


def _wrong_bills(lake: Path) -> Iterable[dict[str, Any]]:
    """Hours and days against the minutes they were rolled from, at the version they hold."""
    for name in ROLLUPS:
        if name == MINUTES:
            continue
        coarse = TableReader(lake, name).refresh()
        if not coarse.rolled:
            continue
        fine = snapshot_at(lake, MINUTES, version=coarse.rolled)
        theirs, ours = (_of_rollups(_files(one))[:2] for one in (coarse, fine))
        for key in sorted({*theirs[0], *ours[0], *theirs[1], *ours[1]}):
            money, events = theirs[0][key] - ours[0][key], theirs[1][key] - ours[1][key]
            if money or events:
                more = {"table": name, "difference_usd": _usd(money), "events_more": events}
                yield {"fault": WRONG_BILL, **_named(key), **more}


def _add(sums: Sums, file: ActiveFile, models: pa.ChunkedArray, values: npt.NDArray[np.int64]) -> None:
    table = pa.table({"model": models.fill_null(""), "value": pa.array(values).cast(pa.decimal128(38, 0))})
    for row in table.group_by("model").aggregate([("value", "sum")]).to_pylist():
        sums[file.tenant_id, str(file.event_date), row["model"]] += int(row["value_sum"] or 0)


def _named(key: Key) -> dict[str, str]:
    return dict(zip(("tenant_id", "event_date", "model"), key, strict=True))


def _usd(nano: int) -> str:
    return f"{Decimal(nano).scaleb(-9):f}"


if __name__ == "__main__":
    sys.exit(main())
