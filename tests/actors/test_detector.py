"""The detector over real tables and a real committer: an incident is found once, told on, and closed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from actors.committer import Committer
from actors.detector import Detector, dimensions_of
from actors.judges import Judges
from cluster.clock import ManualClock
from cluster.contract import event
from cluster.errors import SequenceGap, Unavailable
from cluster.lake.commit import TableWriter
from cluster.lake.scan import TableReader, read_rows
from cluster.lake.stage import stage
from cluster.lake.tables import TABLES
from cluster.metadata.feedback import FeedbackStore, Verdict
from cluster.metadata.schema import open_metadata
from cluster.metadata.tenants import TenantStore
from cluster.settings import Settings
from cluster.tenancy import TenantId
from models.aggregate.rollup import MINUTE_US, roll
from tests.models.aggregate.events import Row, batch_of

START_US = 1_767_225_600_000_000
MINUTES = 400
OUTAGE = range(370, 385)
ENTITY = "service=chat,provider=p,model=m,operation=chat"
PLACES = {"service=chat", "provider=p,model=m"}

_COUNTED = event.COUNTED_REQUEST | event.COUNTED_TOKENS | event.COUNTED_LATENCY


def _no_store() -> Any:
    raise Unavailable("MLflow is away", retry_after_s=1.0)


class World:
    """Tables, a committer and a detector that can be started again."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data=folder)
        self.clock = ManualClock(START_US)
        self.committer = Committer(self.settings, clock=self.clock)
        self.database = open_metadata(self.settings, self.clock)
        self.feedback = FeedbackStore(self.database, self.clock)
        self._sealed = 0

    def detector(self) -> Detector:
        judges = Judges(self.settings, self.clock, open_store=_no_store)
        return Detector(self.settings, clock=self.clock, commits=self.committer, judges=judges, feedback=self.feedback)

    def seal(
        self,
        tenant: str,
        minutes: range,
        *,
        outage: range = range(0),
        slow: range = range(0),
        kinds: tuple[Row, ...] = (),
    ) -> None:
        rows = [row for minute in minutes for row in _minute(minute, failing=minute in outage, slow=minute in slow)]
        events = pa.Table.from_batches([batch_of([*rows, *kinds])])
        self._sealed += 1
        for name, table in (("rollup_1m", roll(events, MINUTE_US)), ("events", events)):
            files = stage(self.settings.lake, TABLES[name], table, tenant_id=tenant, token=f"{tenant}-{self._sealed}")
            TableWriter(self.settings.lake, TABLES[name]).append(files, {f"test/{tenant}": self._sealed})

    def to_minute(self, minute: int) -> None:
        self.clock.advance((START_US + minute * MINUTE_US + 5_000_000 - self.clock.now_us()) / 1e6)

    def rows(self) -> list[dict[str, Any]]:
        snapshot = TableReader(self.settings.lake, "anomalies").refresh()
        found = [
            row for files in snapshot.by_tenant.values() for one in files for row in read_rows(one.path).to_pylist()
        ]
        return sorted(found, key=lambda row: (row["anomaly_id"], row["revision"]))


def _minute(minute: int, *, failing: bool, slow: bool) -> list[Row]:
    source = np.random.default_rng(minute)
    return [
        {
            "occurred_at": START_US + minute * MINUTE_US + number * 1_000_000,
            "event_id": f"e-{minute}-{number}",
            "kind": "gateway.request",
            "service": "chat",
            "provider": "p",
            "model": "m",
            "operation": "chat",
            "status": "unavailable" if failing and number % 4 else "ok",
            "counted": _COUNTED | (event.COUNTED_ERROR if failing and number % 4 else 0),
            "trace_id": f"t-{minute}-{number}",
            "latency_ms": float(source.lognormal(8 if slow else 5, 0.2)),
            "input_tokens": int(source.integers(900, 1_100)),
            "output_tokens": int(source.integers(90, 110)),
        }
        for number in range(int(source.integers(18, 23)))
    ]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.committer.drain()
    made.database.close()


def test_an_outage_is_found_once_with_its_drivers_traces_and_the_change_before_it(world: World) -> None:
    changed: Row = {
        "occurred_at": START_US + 365 * MINUTE_US,
        "event_id": "c-1",
        "kind": "registry.version.promoted",
        "model": "m",
        "payload": '{"version":"2"}',
    }
    world.seal("acme", range(378), outage=OUTAGE, kinds=(changed,))
    world.to_minute(378)
    detector = world.detector()
    assert detector.tick() >= 1
    assert detector.tick() == 0
    found = max(world.rows(), key=lambda row: row["score"])
    assert {row["entity"] for row in world.rows()} == PLACES
    assert (found["state"], found["model_version"], found["detector"]) == ("open", 0, "recent")
    assert found["score"] > found["threshold"]
    drivers = json.loads(found["drivers"])
    assert drivers[0]["measure"] == "error_ratio"
    assert drivers[0]["direction"] == "up"
    assert found["started_at"].timestamp() * 1e6 == pytest.approx(START_US + 372 * MINUTE_US, abs=2 * MINUTE_US)
    assert json.loads(found["baseline"])["of"] == "the 120 minutes before"
    traces = json.loads(found["trace_ids"])
    assert len(traces) == 3
    assert all(370 <= int(one.split("-")[1]) < 378 for one in traces)
    assert [one["kind"] for one in json.loads(found["changes"])] == ["registry.version.promoted"]


def test_a_restart_tells_nothing_again_and_the_end_closes_it(world: World) -> None:
    world.seal("acme", range(378), outage=OUTAGE)
    world.to_minute(378)
    world.detector().tick()
    before = world.rows()
    again = world.detector()
    assert again.tick() == 0
    assert world.rows() == before
    world.seal("acme", range(378, MINUTES + 20), outage=OUTAGE)
    world.to_minute(MINUTES + 20)
    again.tick()
    states = {row["anomaly_id"]: row["state"] for row in world.rows()}
    assert set(states.values()) == {"closed"}
    assert sorted(row["entity"] for row in _outages(world) if row["revision"] == 0) == sorted(PLACES)


def test_too_little_data_is_said_and_no_score_made_up(world: World) -> None:
    world.seal("acme", range(40), outage=range(30, 40))
    world.to_minute(40)
    detector = world.detector()
    assert detector.tick() == 0
    assert "more than 60 are needed" in detector.states()["acme"]["*"]
    assert world.rows() == []


def test_an_idle_hub_costs_no_look_and_other_tenants_keep_their_own(world: World) -> None:
    world.seal("acme", range(378), outage=OUTAGE)
    world.seal("globex", range(378))
    world.to_minute(378)
    detector = world.detector()
    detector.tick()
    folders = {Path(one.path).parts[-3] for one in _files(world)}
    assert "tenant_id=acme" in folders
    assert sorted(row["entity"] for row in _outages(world) if row["revision"] == 0) == sorted(PLACES)
    world.to_minute(700)
    detector.tick()
    world.to_minute(701)
    assert detector.tick() == 0


def _outages(world: World) -> list[dict[str, Any]]:
    return [row for row in world.rows() if json.loads(row["drivers"])[0]["measure"] == "error_ratio"]


def _files(world: World) -> list[Any]:
    snapshot = TableReader(world.settings.lake, "anomalies").refresh()
    return [one for files in snapshot.by_tenant.values() for one in files]


def test_a_false_alarm_raises_the_threshold(world: World) -> None:
    TenantStore(world.database, world.clock).create_organisation("acme")
    TenantStore(world.database, world.clock).create("acme", organisation_id="acme")
    for number in range(40):
        verdict = Verdict(f"a-{number}", "recent", "service=chat", is_true=False, score=50.0, comment="", told_by="k")
        world.feedback.record(TenantId("acme"), verdict)
    world.seal("acme", range(378), outage=OUTAGE)
    world.to_minute(378)
    detector = world.detector()
    detector.tick()
    # A quarter over the level, there alone: nobody has called any of them real.
    levels = {row["entity"]: row["threshold"] for row in world.rows()}
    assert levels == {"service=chat": 10.0, "provider=p,model=m": 8.0}


def test_a_past_that_is_told_in_pieces_is_looked_at_however_long_ago_it_was(world: World) -> None:
    """As the demo does it: the first look meets half of the day, and the incident comes with the other half."""
    world.seal("acme", range(200))
    world.to_minute(900)
    detector = world.detector()
    assert detector.tick() == 0
    world.seal("acme", range(200, 900), outage=OUTAGE)
    world.to_minute(901)
    detector.tick()
    assert {row["entity"] for row in _outages(world)} == PLACES
    assert {row["state"] for row in _outages(world)} == {"closed"}


def test_the_same_rows_are_committed_once_and_a_second_writer_is_refused(world: World) -> None:
    world.seal("acme", range(378), outage=OUTAGE)
    world.to_minute(378)
    world.detector().tick()
    count = len(world.rows())
    assert world.committer.found_sequence("detector/local") == 1
    assert world.committer.commit_found("detector/local", 1, []) == 1
    with pytest.raises(SequenceGap):
        world.committer.commit_found("detector/local", 7, [])
    assert len(world.rows()) == count


def test_dimensions_come_back_from_the_text_of_an_entity() -> None:
    assert dimensions_of("service=chat,model=") == {"service": "chat", "model": None}
    assert dimensions_of("*") == {}
