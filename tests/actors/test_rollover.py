"""Hours and days hold what the minutes hold: each commit once, over compaction, restarts and rewrites."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest
from deltalake import DeltaTable

from actors.rollover import COARSE, Rollover
from cluster.clock import ManualClock
from cluster.lake.commit import TableWriter
from cluster.lake.stage import stage
from cluster.lake.tables import MINUTES, ROLLUPS, TABLES
from models.aggregate.rollup import MINUTE_US, roll
from tests.serving.small_lake import DAY_US, NOW_US, Lake, batch, event, random_rows, tenants_apart

SUMS = (
    "sum(event_count)::BIGINT, sum(request_count)::BIGINT, sum(input_tokens)::BIGINT, sum(cost_usd), "
    "sum(list_sum(latency_bucket_counts))::BIGINT, max(latency_ms_max), count(DISTINCT model)"
)


def totals(lake: Lake, name: str) -> list[tuple[Any, ...]]:
    """Sums of each tenant and day of a table, read by another engine."""
    paths = DeltaTable(str(lake.settings.lake / name)).file_uris()
    if not paths:
        return []
    query = (
        f"SELECT tenant_id, event_date, {SUMS} FROM read_parquet(?, hive_partitioning = true) GROUP BY ALL ORDER BY ALL"
    )
    return duckdb.execute(query, [paths]).fetchall()


def assert_conserved(lake: Lake) -> None:
    minutes = totals(lake, MINUTES)
    assert minutes
    for name in COARSE:
        assert totals(lake, name) == minutes


def test_sums_are_conserved_tier_by_tier(tmp_path: Path) -> None:
    lake = tenants_apart(tmp_path, {"alpha": 300, "beta": 100})
    lake.roll()
    assert_conserved(lake)
    for name in COARSE:
        paths = DeltaTable(str(lake.settings.lake / name)).file_uris()
        odd = duckdb.read_parquet(paths).filter(f"epoch_us(window_start) % {ROLLUPS[name]} <> 0")
        assert odd.aggregate("count(*)").fetchall() == [(0,)]
        # One file for each tenant and day, however many seals there were.
        assert len(paths) == len(totals(lake, name))


def test_a_commit_is_rolled_once_over_restarts_and_compactions(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    rows = random_rows(300, seed=5)
    for start in range(0, 300, 50):
        lake.seal("alpha", rows[start : start + 50])
        if start in (50, 200):
            # The files to roll next are compacted away before they are rolled.
            lake.compact("alpha")
        if start in (0, 150):
            lake.roll()
    # A new process knows from the tables alone where the last one ended.
    fresh = Lake(tmp_path)
    fresh.roll()
    fresh.roll()
    assert_conserved(fresh)


def test_late_events_reach_the_hour_they_belong_to(tmp_path: Path) -> None:
    lake = tenants_apart(tmp_path, {"alpha": 50})
    lake.roll()
    lake.seal("alpha", [event(900_001, occurred_at=NOW_US - 200 * DAY_US), event(900_002)])
    lake.roll()
    assert_conserved(lake)


@pytest.mark.parametrize("forgotten", [False, True], ids=["rows left", "log lost"])
def test_days_that_lost_rows_are_told_anew(tmp_path: Path, forgotten: bool) -> None:
    lake = tenants_apart(tmp_path, {"alpha": 200, "beta": 50})
    lake.roll()
    writers = {name: TableWriter(lake.settings.lake, TABLES[name]) for name in ROLLUPS}
    lost = writers[MINUTES].active_files()[0]
    tenant = str(lost["partition.tenant_id"])
    rows = roll(batch([event(900_003)]), MINUTE_US)
    fresh = stage(lake.settings.lake, TABLES[MINUTES], rows, tenant_id=tenant, token="corrected")
    version = writers[MINUTES].append(fresh, {"corrections": 1}, removed=[lost])
    if forgotten:
        # A clean-up took the log of that version: nothing tells what it changed, so everything is rolled anew.
        writers[MINUTES]._handle.create_checkpoint()
        (lake.settings.lake / MINUTES / "_delta_log" / f"{version:020d}.json").unlink()
    rollover = Rollover(lake.settings, writers, clock=ManualClock())
    while (due := rollover.choose()) is not None:
        rollover.commit(due, rollover.merge(due))
    assert_conserved(lake)


def test_nothing_new_is_no_commit(tmp_path: Path) -> None:
    lake = tenants_apart(tmp_path, {"alpha": 20})
    lake.roll()
    versions = [DeltaTable(str(lake.settings.lake / name)).version() for name in COARSE]
    lake.roll()
    assert [DeltaTable(str(lake.settings.lake / name)).version() for name in COARSE] == versions
