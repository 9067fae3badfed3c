"""Entities beside each other in the stream: one that is slow while its neighbours are not is told, once."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# MLflow's own imports warn of what it depends on.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from cluster.artifacts import ModelStore, Record

from actors.detector import Detector
from actors.judges import Judges
from cluster.lake.commit import TableWriter
from cluster.lake.stage import stage
from cluster.lake.tables import TABLES
from models.anomaly import together
from models.anomaly.features import ENTITY_DIMENSIONS
from tests.actors.test_detector import World
from tests.models.anomaly.neighbours import DAY_ROWS, ROW_US, START_US, minutes, name_of, series_of_rows

pytestmark = pytest.mark.filterwarnings("ignore")

ROWS = 5 * DAY_ROWS
SLOW = (ROWS - 14, ROWS)
CULPRIT = name_of("search", "m")


def filled(folder: Path) -> World:
    """A world in which one of the entities has been slow for an hour."""
    made = World(folder)
    table = minutes(ROWS, slow=SLOW)
    files = stage(made.settings.lake, TABLES["rollup_1m"], table, tenant_id="acme", token="acme-1")
    TableWriter(made.settings.lake, TABLES["rollup_1m"]).append(files, {"test/acme": 1})
    made.clock.advance((ROWS * ROW_US + 5_000_000) / 1e6)
    return made


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = filled(tmp_path)
    yield made
    made.committer.drain()
    made.database.close()


def promote(store: ModelStore, **more: object) -> int:
    made = together.fit(series_of_rows(0, 4 * DAY_ROWS, minutes(ROWS, slow=SLOW)), budget_per_day=1.0)
    meaning = {"layout": "together", "dimensions": list(ENTITY_DIMENSIONS), "from_files": False, **more}
    version = store.register(
        "acme", made.kind, Record({}, {}, {}), arrays=made.arrays(), configuration={**made.configuration(), **meaning}
    )
    store.promote("acme", made.kind, version)
    return version


def detector(world: World, store: ModelStore) -> Detector:
    judges = Judges(world.settings, world.clock, open_store=lambda: store)
    return Detector(world.settings, clock=world.clock, commits=world.committer, judges=judges, feedback=world.feedback)


def beside(world: World) -> list[dict[str, Any]]:
    return [row for row in world.rows() if row["detector"] == "neighbourhood"]


def test_one_that_is_slow_beside_its_neighbours_is_told_once_with_its_version(world: World, store: ModelStore) -> None:
    version = promote(store)
    watching = detector(world, store)
    assert watching.tick() >= 1
    [told] = [row for row in beside(world) if row["state"] == "open"]
    assert (told["entity"], told["model_version"]) == (CULPRIT, version)
    assert told["started_at"].timestamp() * 1e6 >= START_US + (SLOW[0] - 1) * ROW_US
    assert json.loads(told["drivers"])[0]["measure"].startswith("latency_ms")
    assert json.loads(told["baseline"])["of"] == "training time of this entity, beside the others"
    # In the half day before, its budget of one false alarm a day.
    assert len(beside(world)) <= 2
    # What judges each alone has its say as well; the next minutes tell nothing anew.
    assert {row["detector"] for row in world.rows()} <= {"neighbourhood", "recent"}
    before = beside(world)
    for _ in range(3):
        world.clock.advance(60)
        watching.tick()
    assert beside(world) == before
    # A restart goes on with what was told.
    detector(world, store).tick()
    assert beside(world) == before


def test_without_a_promoted_one_nothing_is_judged_beside(world: World, store: ModelStore) -> None:
    judges = Judges(world.settings, world.clock, open_store=lambda: store)
    judges.of("acme")
    assert judges.beside("acme") is None
    promote(store, dimensions=["model"])
    world.clock.advance(61)
    judges.of("acme")
    assert judges.beside("acme") is None
    version = promote(store)
    world.clock.advance(61)
    judges.of("acme")
    found = judges.beside("acme")
    assert found is not None
    assert (found.version, found.model.kind) == (version, "neighbourhood")
