"""Vacuum frees what nobody needs and nothing else: not a file of a kept version, not one that waits for its commit."""

from __future__ import annotations

import os
from pathlib import Path

from deltalake import DeltaTable

from cluster.lake.scan import TableReader
from cluster.lake.vacuum import vacuum
from tests.serving.small_lake import Lake, tenants_apart

HOUR_S = 3_600.0


def files(lake: Lake) -> set[Path]:
    return set((lake.settings.lake / "rollup_1m").rglob("*.parquet"))


def age(path: Path, hours: float) -> None:
    at = path.stat().st_mtime - hours * HOUR_S
    os.utime(path, (at, at))


def test_compacted_files_go_and_active_ones_stay(tmp_path: Path) -> None:
    lake = tenants_apart(tmp_path, {"alpha": 100})
    before = files(lake)
    lake.compact("alpha")
    active = {Path(path) for path in DeltaTable(str(lake.settings.lake / "rollup_1m")).file_uris()}
    # The small lake notes removals as of 1970, so they have been gone for long.
    count, size_bytes = vacuum(lake.settings.lake, "rollup_1m", age_hours=1)
    assert count == len(before) and size_bytes > 0
    assert files(lake) == active
    assert TableReader(lake.settings.lake, "rollup_1m").refresh().version == 6
    assert vacuum(lake.settings.lake, "rollup_1m", age_hours=1) == (0, 0)


def test_what_waits_for_its_commit_stays_and_what_was_forgotten_goes(tmp_path: Path) -> None:
    lake = tenants_apart(tmp_path, {"alpha": 20})
    folder = next(iter(files(lake))).parent
    waiting, forgotten = folder / "part-waiting.parquet", folder / "part-forgotten.parquet"
    for path in (waiting, forgotten):
        path.write_bytes(b"rows")
    age(forgotten, hours=3.0)
    # Old files of the table itself are needed however old they are.
    for path in files(lake) - {waiting, forgotten}:
        age(path, hours=900.0)
    kept = files(lake) - {forgotten}
    assert vacuum(lake.settings.lake, "rollup_1m", age_hours=2) == (1, 4)
    assert files(lake) == kept


def test_a_table_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    assert vacuum(tmp_path, "events", age_hours=1) == (0, 0)
