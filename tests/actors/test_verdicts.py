"""Verdicts on what the detector found, over real tables: each judge counts them for alarms with the same drivers."""

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
    from cluster.artifacts import ModelStore

from actors.detector import Detector
from actors.judges import Judges
from cluster.metadata.feedback import Verdict
from cluster.metadata.tenants import TenantStore
from cluster.tenancy import TenantId
from tests.actors import test_beside
from tests.actors.test_detector import ENTITY, OUTAGE, World
from tests.actors.test_judges import register

pytestmark = pytest.mark.filterwarnings("ignore")

ACME = TenantId("acme")
# Long after the first outage, which is past of the two hours before by then.
AGAIN, SLOW = range(600, 612), range(900, 912)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    _tenant(made)
    made.seal("acme", range(378), outage=OUTAGE)
    made.to_minute(378)
    yield made
    made.committer.drain()
    made.database.close()


def _tenant(world: World) -> None:
    tenants = TenantStore(world.database, world.clock)
    tenants.create_organisation("acme")
    tenants.create("acme", organisation_id="acme")


def say(world: World, found: dict[str, Any], *, count: int = 40, is_true: bool = False, way: str | None = None) -> None:
    """So many verdicts on alarms like the one found."""
    drivers = json.loads(found["drivers"])
    told = tuple({**one, "direction": way or one["direction"]} for one in drivers)
    for number in range(count):
        verdict = Verdict(
            f"{found['anomaly_id']}-{number}-{is_true}",
            found["detector"],
            found["entity"],
            is_true=is_true,
            score=found["score"],
            comment="",
            told_by="k",
            drivers=told,
        )
        world.feedback.record(ACME, verdict)


def worst(world: World, entity: str, minutes: range, detector: str) -> dict[str, Any]:
    """The newest revision of the highest one of an entity that began in these minutes."""
    first, last = (1_767_225_600 + 60 * minute for minute in (minutes.start - 2, minutes.stop))
    mine = [
        row
        for row in world.rows()
        if (row["entity"], row["detector"]) == (entity, detector) and first <= row["started_at"].timestamp() <= last
    ]
    return max(mine, key=lambda row: (row["score"], row["revision"]))


def later(world: World, watching: Detector) -> None:
    """Another outage, and hours after it calls that are slow."""
    world.seal("acme", range(378, AGAIN.stop), outage=AGAIN)
    world.to_minute(AGAIN.stop)
    watching.tick()
    world.seal("acme", range(AGAIN.stop, SLOW.stop), slow=SLOW)
    world.to_minute(SLOW.stop)
    watching.tick()


def test_plain_statistics_count_a_verdict_for_alarms_driven_alike(world: World) -> None:
    watching = world.detector()
    watching.tick()
    first = worst(world, "service=chat", OUTAGE, "recent")
    assert first["threshold"] == 8.0
    say(world, first)
    later(world, watching)
    again, slow = (worst(world, "service=chat", minutes, "recent") for minutes in (AGAIN, SLOW))
    assert again["threshold"] == pytest.approx(10.0)
    assert json.loads(again["baseline"])["threshold_factor"] == pytest.approx(1.25)
    assert json.loads(slow["drivers"])[0]["measure"].startswith("latency_ms")
    assert slow["threshold"] == 8.0
    # Nobody said anything of the model at its provider.
    assert worst(world, "provider=p,model=m", AGAIN, "recent")["threshold"] == 8.0


def test_a_real_one_like_it_takes_it_back_after_a_restart(world: World) -> None:
    world.detector().tick()
    first = worst(world, "service=chat", OUTAGE, "recent")
    say(world, first)
    say(world, first, count=1, is_true=True)
    later(world, world.detector())
    assert worst(world, "service=chat", AGAIN, "recent")["threshold"] == 8.0


def test_a_champion_counts_them_alike(world: World, store: ModelStore) -> None:
    register(store, world, 0.5)
    judges = Judges(world.settings, world.clock, open_store=lambda: store)
    watching = Detector(
        world.settings, clock=world.clock, commits=world.committer, judges=judges, feedback=world.feedback
    )
    watching.tick()
    first = worst(world, ENTITY, OUTAGE, "pca")
    say(world, first)
    later(world, watching)
    again, slow = (worst(world, ENTITY, minutes, "pca") for minutes in (AGAIN, SLOW))
    assert again["threshold"] == pytest.approx(1.25 * first["threshold"])
    assert slow["threshold"] == pytest.approx(first["threshold"])


@pytest.mark.parametrize(("way", "factor"), [(None, 1.25), ("down", 1.0)])
def test_entities_beside_each_other_count_them_by_direction(
    tmp_path: Path, store: ModelStore, way: str | None, factor: float
) -> None:
    test_beside.promote(store)
    levels: list[float] = []
    found: dict[str, Any] = {}
    for name in ("before", "after"):
        world = test_beside.filled(tmp_path / name)
        _tenant(world)
        if levels:
            say(world, found, way=way)
        test_beside.detector(world, store).tick()
        [found] = [row for row in test_beside.beside(world) if row["entity"] == test_beside.CULPRIT]
        levels.append(found["threshold"])
        world.committer.drain()
        world.database.close()
    assert levels[1] == pytest.approx(factor * levels[0])
