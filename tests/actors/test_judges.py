"""Which model judges a tenant: the champion of a real registry, else plain statistics; an altered one never."""

from __future__ import annotations

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
from actors.judges import STATISTICS, Judges
from actors.minutes import Minutes
from models.aggregate.rollup import MINUTE_US
from models.anomaly import detector, fleet
from models.anomaly.features import ENTITY_DIMENSIONS, entity_series
from models.anomaly.fleet import Units
from models.anomaly.series import told_features
from tests.actors.test_detector import ENTITY, OUTAGE, START_US, World

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.seal("acme", range(378), outage=OUTAGE)
    made.to_minute(378)
    yield made
    made.committer.drain()
    made.database.close()


def register(store: ModelStore, world: World, precision: float, **more: Any) -> int:
    """Train `pca` on the usual part of the tenant's minutes, register and promote it."""
    minutes = Minutes(world.settings.lake, keep_us=400 * MINUTE_US)
    minutes.refresh(world.clock.now_us())
    told = entity_series(minutes.rows("acme", START_US), from_us=START_US, to_us=START_US + 360 * MINUTE_US)
    features = told_features(list(told.values()))
    series = {str(name): one.only(features) for name, one in told.items()}
    units = Units.fit(series, seasons=False)
    head = detector.fit("pca", list(fleet.residuals_of(units, series).values()), seed=1)
    made = fleet.assemble(units, head, series)
    meaning = {"layout": "entities", "dimensions": list(ENTITY_DIMENSIONS), "from_files": False, **more}
    version = store.register(
        "acme", "pca", Record({}, {}, {}), arrays=made.arrays(), configuration={**made.configuration(), **meaning}
    )
    store.promote("acme", "pca", version, tags={"judged_average_precision": str(precision)})
    return version


def test_the_champion_judges_and_names_its_version(world: World, store: ModelStore) -> None:
    version = register(store, world, 0.5)
    judges = Judges(world.settings, world.clock, open_store=lambda: store)
    judge = judges.of("acme")
    assert judge.fleet is not None
    assert (judge.fleet.kind, judge.version, judge.layout) == ("pca", version, "entities")
    found = Detector(world.settings, clock=world.clock, commits=world.committer, judges=judges, feedback=world.feedback)
    assert found.tick() >= 1
    worst = max(world.rows(), key=lambda row: row["score"])
    assert (worst["detector"], worst["model_version"], worst["entity"]) == ("pca", version, ENTITY)


def test_a_new_champion_is_seen_and_an_altered_one_leaves_the_last(world: World, store: ModelStore) -> None:
    first = register(store, world, 0.5)
    judges = Judges(world.settings, world.clock, open_store=lambda: store)
    assert judges.of("acme").version == first
    second = register(store, world, 0.6)
    assert judges.of("acme").version == first
    world.clock.advance(61)
    assert judges.of("acme").version == second
    third = register(store, world, 0.7)
    [path] = [
        one
        for one in Path(store.artifacts or "").glob("*/artifacts/model/arrays.npz")
        if _run_of(store, third) in one.parts
    ]
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    world.clock.advance(61)
    assert judges.of("acme").version == second


def _run_of(store: ModelStore, version: int) -> str:
    from cluster.tenancy import TenantId, TenantScope

    known = store.versions(TenantScope.of(TenantId("acme")))
    return next(one.run_id for one in known if one.version == version)


def test_a_model_of_other_rows_is_left_alone_and_statistics_judge(world: World, store: ModelStore) -> None:
    register(store, world, 0.9, dimensions=["model"])
    judge = Judges(world.settings, world.clock, open_store=lambda: store).of("acme")
    assert judge is STATISTICS
