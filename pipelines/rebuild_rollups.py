"""Recompute the roll-ups from the events, with Ray Data, and report every difference from the stored ones.

`python -m pipelines.rebuild_rollups [--set tenant=NAME] [--set from=YYYY-MM-DD] [--set to=YYYY-MM-DD]`, also through
`ray job submit` and `llmhub job`. Prints one JSON object; exits 1 when something differs, 0 when nothing does.
It changes nothing: a difference is a fault to be looked at, not to be painted over.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
import ray.data

from cluster.contract.columns import EVENT_SCHEMA, ROLLUP_SCHEMA
from cluster.errors import RequestInvalid, Unavailable
from cluster.lake.changes import day_start_us
from cluster.lake.expired import EXPIRED
from cluster.lake.scan import ActiveFile, Snapshot, TableReader, files
from cluster.lake.tables import PARTITION_COLUMNS, TABLES, uri
from cluster.settings import Settings
from cluster.tenancy import TenantScope, tenant_id
from models.aggregate.difference import PARTITIONED_KEYS, difference
from models.aggregate.rollup import MINUTE_US, ROLLED_COLUMNS, merge, roll
from pipelines.joining import join
from pipelines.options import chosen
from pipelines.report import reported

_OPTIONS: Final = ("tenant", "from", "to")
_ROWS_PER_BATCH: Final = 131_072
# Partials the driver gathers before it merges them: bounds its memory, not the size of the table.
_PARTIALS_PER_MERGE: Final = 64
_LOOKS: Final = 200
_BETWEEN_LOOKS_S: Final = 0.05
_DAYS: Final = ("1970-01-01", "9999-12-31")
_END_US: Final = 253_402_300_800_000_000  # year 10000


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 no difference, 1 a difference or a failure, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.rebuild_rollups", description=__doc__)
    parser.add_argument(
        "--set", action="append", default=[], metavar="K=V", help="tenant, from, to (dates, [from, to))"
    )
    try:
        options = chosen(parser.parse_args(arguments).set, _OPTIONS)
        days = _days(options)
    except RequestInvalid as error:
        parser.error(error.message)
    join()
    lake = Settings.from_environment().lake
    return reported(lambda: examine(lake, options.get("tenant"), days), lambda report: not report["differences"])


def examine(lake: Path, tenant: str | None, days: tuple[str, str]) -> dict[str, Any]:
    """The report: what was compared, and `difference` between roll-ups made again and stored ones.

    Args:
        lake: folder of the region's tables.
        tenant: only this one; None for all.
        days: [from, to) as ISO dates.

    Raises:
        Unavailable: the tables never stood at the same seals while we looked.
    """
    events, rollups = level(lake)
    tenants = sorted({*events.by_tenant, *rollups.by_tenant}) if tenant is None else [tenant]
    again = stored = _nothing()
    if tenants:
        scope = TenantScope.operator(tuple(map(tenant_id, tenants)), reason="rebuild_rollups compares all tenants")
        again = _rolled_again([one.path for one in _files(scope, events, days)])
        stored = _stored(_files(scope, rollups, days))
    found = difference(again, stored)
    return {
        "events_version": events.version,
        "rollup_version": rollups.version,
        "tenants": len(tenants),
        "events": int(pc.sum(again.column("event_count")).as_py() or 0),
        "partials": again.num_rows,
        "differences": [asdict(one) for one in found],
    }


def level(lake: Path) -> tuple[Snapshot, Snapshot]:
    """Snapshots of events and roll-ups that hold the same seals.

    A seal's roll-ups are committed before its events. So roll-ups read after events hold all of their seals, and no
    more once no journal stands further there. (It may stand further in events: a seal of dead letters alone.)
    """
    events, rollups = TableReader(lake, "events"), TableReader(lake, "rollup_1m")
    for _ in range(_LOOKS):
        told, partials = events.refresh(), rollups.refresh()
        journals = _journals(Path(uri(lake, "rollup_1m")) / "_delta_log", partials.version)
        base = events.transaction_versions(journals)
        ahead = rollups.transaction_versions(journals)
        if all(sequence <= base.get(journal, 0) for journal, sequence in ahead.items()):
            return _whole(told, partials), _whole(partials, told)
        time.sleep(_BETWEEN_LOOKS_S)
    raise Unavailable("events and roll-ups never stood at the same seals", retry_after_s=10.0)


def _whole(snapshot: Snapshot, other: Snapshot) -> Snapshot:
    """Without the days of which either table may have let go, since each does so in its own commit."""

    def kept(tenant: str, one: ActiveFile) -> bool:
        floor_us = max(snapshot.floors.get(tenant, 0), other.floors.get(tenant, 0))
        return day_start_us(one.event_date) >= floor_us

    by_tenant = {
        tenant: tuple(one for one in found if kept(tenant, one)) for tenant, found in snapshot.by_tenant.items()
    }
    return replace(snapshot, by_tenant={tenant: found for tenant, found in by_tenant.items() if found})


def _journals(log: Path, version: int) -> set[str]:
    # Only the newest commits can be ahead of the events, so a log whose old part was cleaned up still tells enough.
    journals: set[str] = set()
    for number in range(version, max(version - 256, -1), -1):
        path = log / f"{number:020d}.json"
        if not path.exists():
            continue
        actions = (json.loads(line) for line in path.read_text().splitlines())
        journals |= {action["txn"]["appId"] for action in actions if "txn" in action}
    # Each table numbers what age took from it for itself: that is no seal.
    return journals - {EXPIRED}


def _files(scope: TenantScope, snapshot: Snapshot, days: tuple[str, str]) -> list[ActiveFile]:
    # By partition, not by instants: the last window of a day starts a minute before its last event.
    return [one for one in files(scope, snapshot, 0, _END_US) if days[0] <= one.event_date < days[1]]


def _rolled_again(paths: list[str]) -> pa.Table:
    """Merged partials of event files, keyed by PARTITIONED_KEYS; read and rolled up by the cluster."""
    if not paths:
        return _nothing()
    rows = ray.data.read_parquet(paths, schema=_readable(TABLES["events"].schema))
    rows = rows.select_columns([*ROLLED_COLUMNS, *PARTITION_COLUMNS])
    parts = rows.map_batches(_rolled, batch_format="pyarrow", batch_size=_ROWS_PER_BATCH, zero_copy_batch=True)
    return _gathered(parts.iter_batches(batch_format="pyarrow", batch_size=None))


def _stored(found: list[ActiveFile]) -> pa.Table:
    """Merged partials of roll-up files. Read here: a thousandth of the events, and more files than rows are worth."""
    return _gathered(
        _placed(pq.ParquetFile(one.path, page_checksum_verification=True).read(), one.tenant_id, one.event_date)
        for one in found
    )


def _gathered(parts: Iterable[pa.Table]) -> pa.Table:
    gathered = [_nothing()]
    for part in parts:
        gathered.append(part)
        if len(gathered) > _PARTIALS_PER_MERGE:
            gathered = [merge(gathered, keys=PARTITIONED_KEYS)]
    return merge(gathered, keys=PARTITIONED_KEYS)


def _placed(partials: pa.Table, tenant: str, day: str) -> pa.Table:
    for name, value in zip(PARTITION_COLUMNS, (tenant, day), strict=True):
        partials = partials.append_column(name, pa.array([value] * partials.num_rows, pa.string()))
    return partials


def _readable(schema: pa.Schema) -> pa.Schema:
    # Given rather than found: Ray would take it from the first file, and a tenant called "2026" for a number.
    return pa.schema([*schema, *(pa.field(name, pa.string()) for name in PARTITION_COLUMNS)])


def _rolled(batch: pa.Table) -> pa.Table:
    """Partials of a batch that may hold rows of several tenants and days."""
    events = batch.select(ROLLED_COLUMNS).cast(pa.schema([EVENT_SCHEMA.field(name) for name in ROLLED_COLUMNS]))
    parts = []
    for partition in _partitions(batch).to_pylist():
        tenant, day = partition["tenant_id"], partition["event_date"]
        mine = pc.and_(pc.equal(batch.column("tenant_id"), tenant), pc.equal(batch.column("event_date"), day))
        parts.append(_placed(roll(events.filter(mine), MINUTE_US), tenant, day))
    return _gathered(parts)


def _partitions(batch: pa.Table) -> pa.Table:
    return batch.group_by(list(PARTITION_COLUMNS)).aggregate([]).select(list(PARTITION_COLUMNS))


def _nothing() -> pa.Table:
    names = [pa.field(name, pa.string()) for name in PARTITION_COLUMNS]
    return merge([pa.schema([*names, *ROLLUP_SCHEMA]).empty_table()], keys=PARTITIONED_KEYS)


def _days(options: dict[str, str]) -> tuple[str, str]:
    days = options.get("from", _DAYS[0]), options.get("to", _DAYS[1])
    try:
        first, last = (date.fromisoformat(day).isoformat() for day in days)
    except ValueError as error:
        raise RequestInvalid(f"{days} are not dates like 2026-01-31") from error
    return first, last


if __name__ == "__main__":
    sys.exit(main())
