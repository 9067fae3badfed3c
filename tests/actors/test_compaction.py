"""Compaction keeps every row, merges partials, and lets commits pass."""

from __future__ import annotations

from pathlib import Path

import duckdb
from deltalake import DeltaTable

from actors.committer import Committer
from actors.compaction import Compactor
from actors.shard import Shard
from cluster.clock import SystemClock
from cluster.lake.commit import TableWriter
from cluster.lake.tables import TABLES
from cluster.settings import Settings
from tests.actors.batches import events


def _totals(settings: Settings) -> tuple[int, int, int]:
    """Distinct ids, rows, and requests by the roll-ups, read by another engine."""
    rows = duckdb.read_parquet(DeltaTable(str(settings.lake / "events")).file_uris())
    partials = duckdb.read_parquet(DeltaTable(str(settings.lake / "rollup_1m")).file_uris())
    (distinct, count) = rows.aggregate("count(distinct event_id), count(*)").fetchall()[0]
    ((requests,),) = partials.aggregate("sum(request_count)::BIGINT").fetchall()
    return int(distinct), int(count), int(requests)


def test_small_files_become_one_and_nothing_changes(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, seal_age_s=0.01, commit_linger_s=0.0, ack="commit", compact_files=5)
    committer = Committer(settings, clock=SystemClock())
    shard = Shard(settings, 0, shards=1, commits=committer, clock=SystemClock())
    for number in range(12):
        shard.admit("default", events([f"{number}-{row}" for row in range(10)]).serialize(), None)
    shard.drain()
    committer.drain()
    before = _totals(settings)
    writers = {name: TableWriter(settings.lake, table) for name, table in TABLES.items()}
    compactor = Compactor(settings, writers)
    while (chosen := compactor.choose()) is not None:
        compactor.swap(chosen, compactor.merge(chosen))
    assert _totals(settings) == before == (120, 120, 120)
    assert len(DeltaTable(str(settings.lake / "events")).file_uris()) < 5
    assert len(DeltaTable(str(settings.lake / "rollup_1m")).file_uris()) < 5


def test_a_merged_file_does_not_stand_in_the_way_of_later_ones(tmp_path: Path) -> None:
    # Ten rows a file: three of them fill a merge, whose outcome is far below the target in bytes.
    settings = Settings(
        data=tmp_path, seal_age_s=0.01, commit_linger_s=0.0, ack="commit", compact_files=3, compact_rows_max=44
    )
    committer = Committer(settings, clock=SystemClock())
    shard = Shard(settings, 0, shards=1, commits=committer, clock=SystemClock())
    for number in range(16):
        shard.admit("default", events([f"{number}-{row}" for row in range(10)]).serialize(), None)
    shard.drain()
    committer.drain()
    compactor = Compactor(settings, {"events": TableWriter(settings.lake, TABLES["events"])})
    while (chosen := compactor.choose()) is not None:
        compactor.swap(chosen, compactor.merge(chosen))
    assert _totals(settings) == (160, 160, 160)
    assert len(DeltaTable(str(settings.lake / "events")).file_uris()) <= 6


def test_a_compaction_that_another_committer_overtook_is_left(tmp_path: Path) -> None:
    # Met in chaos, "two committers": the first had learnt of the second's swap when a seal of its own met it.
    settings = Settings(data=tmp_path, seal_age_s=0.01, commit_linger_s=0.0, ack="commit", compact_files=5)
    committer = Committer(settings, clock=SystemClock())
    shard = Shard(settings, 0, shards=1, commits=committer, clock=SystemClock())
    for number in range(6):
        shard.admit("default", events([f"{number}-{row}" for row in range(10)]).serialize(), None)
    shard.drain()
    committer.drain()
    before = _totals(settings)
    both = [{name: TableWriter(settings.lake, table) for name, table in TABLES.items()} for _ in range(2)]
    first, second = (Compactor(settings, writers) for writers in both)
    chosen = first.choose()
    assert chosen is not None
    merged = first.merge(chosen)
    quicker = second.choose()
    assert quicker is not None
    second.swap(quicker, second.merge(quicker))
    # As the committer does when a seal of its own finds that somebody was quicker.
    both[0][chosen.table].reopen()
    first.swap(chosen, merged)
    assert _totals(settings) == before
