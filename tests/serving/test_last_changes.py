"""An answer is kept exactly as long as the days and tenants it was read from do not change."""

from __future__ import annotations

from pathlib import Path

from cluster.lake.scan import TableReader
from cluster.tenancy import TenantId, TenantScope
from models.query.times import DAY_US, Range
from serving.last_changes import LastChanges
from tests.serving.small_lake import NOW_US, Lake, event

ALPHA, BETA = (TenantScope.of(TenantId(name)) for name in ("alpha", "beta"))
TODAY = NOW_US - NOW_US % DAY_US
LAST_WEEK = Range(TODAY - 7 * DAY_US, TODAY - DAY_US)
EVER = Range(0, TODAY + DAY_US)


def test_only_what_changed_counts_as_changed(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.seal("alpha", [event(1, occurred_at=TODAY - 3 * DAY_US)])
    reader = TableReader(lake.settings.lake, "rollup_1m")
    known = LastChanges(Path(lake.settings.lake / "rollup_1m"))

    def told() -> list[int]:
        known.follow(reader.refresh().version)
        return [known.state.last(scope, span) for scope in (ALPHA, BETA) for span in (LAST_WEEK, EVER)]

    first = told()
    assert len(set(first)) == 1
    lake.seal("alpha", [event(2, occurred_at=NOW_US - 1)])
    second = told()
    # Yesterday is outside the range that ends with it, and the other tenant has nothing new.
    assert second[0] == first[0] and second[1] > first[1] and second[2:] == first[2:]
    lake.seal("alpha", [event(3, occurred_at=TODAY - 2 * DAY_US)])
    third = told()
    assert third[0] > second[0] and third[1] > second[1] and third[2:] == first[2:]
    # Compaction moves rows and changes none.
    lake.compact("alpha")
    assert told() == third
    lake.seal("beta", [event(4, occurred_at=TODAY - 2 * DAY_US)])
    assert told()[:2] == third[:2] and told()[2] > third[2]


def test_a_log_that_is_gone_counts_as_a_change_of_everything(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.seal("alpha", [event(1)])
    root = lake.settings.lake / "rollup_1m"
    known = LastChanges(root)
    known.follow(1)
    lake.seal("alpha", [event(2)])
    (root / "_delta_log" / f"{2:020d}.json").unlink()
    known.follow(2)
    assert known.state.last(BETA, LAST_WEEK) == 2
