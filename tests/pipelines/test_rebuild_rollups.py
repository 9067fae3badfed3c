"""The job over real Delta tables with Ray Data: silent when roll-ups are right, exact when they are not."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from cluster.lake.commit import TableWriter
from cluster.lake.stage import stage
from cluster.lake.tables import TABLES
from models.aggregate.rollup import DAY_US, MINUTE_US, roll
from pipelines.rebuild_rollups import examine, level, main
from tests.models.aggregate.events import START_US, Row, batch_of

# Ray Data warns of its own old settings while it reads them.
pytestmark = [
    pytest.mark.usefixtures("cluster"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::ray.util.annotations.RayDeprecationWarning"),
]

_ALL = ("1970-01-01", "9999-12-31")
_JOURNAL = "hub/local/0/test"


def seal(lake: Path, sequence: int, events: dict[str, list[Row]], *, forget: str = "") -> None:
    """Commit a seal as the committer does; the roll-ups of tenant `forget` leave out its first event."""
    staged = {"rollup_1m": [], "events": []}
    for tenant, told in events.items():
        table = pa.Table.from_batches([batch_of(told)])
        kept = table.slice(1) if tenant == forget else table
        for name, written in (("rollup_1m", roll(kept, MINUTE_US)), ("events", table)):
            staged[name] += stage(lake, TABLES[name], written, tenant_id=tenant, token=f"{sequence:012d}")
    for name, files in staged.items():
        TableWriter(lake, TABLES[name]).append(files, {_JOURNAL: sequence})


def _events(count: int) -> list[Row]:
    return [
        {
            "occurred_at": START_US + number * DAY_US // 7,
            "model": f"m{number % 3}",
            "user_id": f"u{number % 5}",
            "latency_ms": 10.0 + number,
            "input_tokens": number,
        }
        for number in range(count)
    ]


def test_right_rollups_give_an_empty_report(tmp_path: Path) -> None:
    seal(tmp_path, 1, {"acme": _events(40), "globex": _events(3)})
    seal(tmp_path, 2, {"acme": _events(15)})
    report = examine(tmp_path, None, _ALL)
    assert report["differences"] == []
    assert (report["events"], report["tenants"]) == (58, 2)


def test_a_forgotten_event_is_reported_for_its_tenant_and_day_alone(tmp_path: Path) -> None:
    seal(tmp_path, 1, {"acme": _events(10), "globex": _events(10)}, forget="globex")
    found = examine(tmp_path, None, _ALL)["differences"]
    assert {(one["tenant_id"], one["event_date"]) for one in found} == {("globex", "2026-05-28")}
    assert {one["column"] for one in found} >= {"event_count", "request_count", "latency_buckets", "users_sketch"}
    later = ("2026-05-30", "2026-06-30")
    assert examine(tmp_path, None, later)["differences"] == []


def test_an_empty_lake_has_no_difference(tmp_path: Path) -> None:
    assert examine(tmp_path, None, _ALL) == {
        "events_version": -1,
        "rollup_version": -1,
        "tenants": 0,
        "events": 0,
        "partials": 0,
        "differences": [],
    }


def test_a_seal_of_dead_letters_alone_does_not_hold_the_job_up(tmp_path: Path) -> None:
    seal(tmp_path, 1, {"acme": _events(2)})
    TableWriter(tmp_path, TABLES["events"]).append([], {_JOURNAL: 2})
    events, rollups = level(tmp_path)
    assert (events.version, rollups.version) == (2, 1)


def test_the_command_exits_by_its_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HUB_DATA", str(tmp_path))
    seal(tmp_path / "lake" / "local", 1, {"acme": _events(4)}, forget="acme")
    assert main(["--set", "tenant=acme"]) == 1
    assert json.loads(capsys.readouterr().out)["differences"] != []
    assert main(["--set", "to=2020-01-01"]) == 0


@pytest.mark.parametrize("wrong", ["tennant=acme", "from=yesterday"])
def test_wrong_usage_exits_with_two(wrong: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--set", wrong])
    assert stopped.value.code == 2
