"""Answers kept at the door are those the engine would give: never another scope's, never of rows that changed."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from cluster.clock import ManualClock
from cluster.errors import HubError, NotFound, RequestInvalid, Unavailable
from cluster.tenancy import TenantId, TenantScope
from serving.last_changes import ChangedDays
from serving.query_answers import Answer
from serving.query_engine import QueryEngine
from serving.query_memory import QueryMemory
from tests.serving.small_lake import DAY_US, NOW_US, Lake, event, tenants_apart

ALPHA, BETA = (TenantScope.of(TenantId(name)) for name in ("alpha", "beta"))
NORTH = TenantScope.of(TenantId("alpha"), "north")
COUNT = ("aggregate", (("measure", "event_count"), ("from", "-3d")))
TODAY = ("aggregate", (("measure", "event_count"), ("from", "-1d")))
YESTERDAY = ("aggregate", (("measure", "event_count"), ("from", "-3d"), ("to", "-1d")))
USERS = ("cohort", (("entity", "user_id"), ("from", "-3d")))


class Counted:
    """The engine, with the calls that reach it."""

    def __init__(self, engine: QueryEngine) -> None:
        self._engine = engine
        self.calls: Counter[str] = Counter()
        self.away = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def query(self, *asked: Any, **more: Any) -> Answer:
        self.calls["query"] += 1
        return await self._engine.query(*asked, **more)

    async def batch(self, scope: TenantScope, asked: Any, *, now_us: int) -> list[Answer | HubError]:
        self.calls["batch"] += 1
        self.calls["batched"] += len(asked)
        return await self._engine.batch(scope, asked, now_us=now_us)

    async def moved(self, known: Mapping[str, int], wait_s: float) -> dict[str, ChangedDays]:
        if self.away:
            raise Unavailable("away", retry_after_s=1.0)
        # Longer waits are for others.
        return await self._engine.moved(known, min(wait_s, 0.01))


class Door:
    """A memory before an engine over a lake."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.raw = lake.engine()
        self.engine = Counted(self.raw)
        self.clock = ManualClock()
        self.memory = QueryMemory(self.engine, lake.settings, self.clock)

    async def follow(self) -> None:
        """Until the memory knows what the engine does."""
        await self.memory.query(ALPHA, *COUNT)
        wanted = {name: told.version for name, told in (await self.raw.moved({}, 0.0)).items()}
        while {name: told.version for name, told in self.memory._changed.items()} != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0)
        self.engine.calls.clear()

    def seal(self, tenant: str, **row: Any) -> None:
        """One more row, which the engine sees."""
        number = sum(len(rows) for rows in self.lake.rows.values())
        self.lake.seal(tenant, [event(10_000 + number, **row)])
        self.raw.refresh()


@pytest.fixture
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    made = Door(tenants_apart(tmp_path_factory.mktemp("lake"), {"alpha": 60, "beta": 40}))
    yield made
    made.raw.close()


def count(answer: Answer) -> int:
    told: int = json.loads(answer.body)["rows"][0]["values"]["event_count"]
    return told


def test_a_question_asked_again_does_not_reach_the_engine(door: Door) -> None:
    async def ask() -> None:
        await door.follow()
        for question in (COUNT, YESTERDAY, USERS):
            first = [await door.memory.query(scope, *question) for scope in (ALPHA, BETA, NORTH)]
            assert len({answer.etag for answer in first}) == 3
            door.engine.calls.clear()
            again = [await door.memory.query(scope, *question) for scope in (ALPHA, BETA, NORTH)]
            assert again == first and not door.engine.calls
            assert again == [await door.raw.query(scope, *question) for scope in (ALPHA, BETA, NORTH)]

    asyncio.run(ask())


def test_what_changed_is_asked_anew_and_nothing_else(door: Door) -> None:
    async def ask() -> None:
        await door.follow()
        before = {scope: await door.memory.query(scope, *COUNT) for scope in (ALPHA, BETA)}
        old = await door.memory.query(ALPHA, *YESTERDAY)
        door.seal("alpha", occurred_at=NOW_US - 1)
        await door.follow()
        assert count(await door.memory.query(ALPHA, *COUNT)) == count(before[ALPHA]) + 1
        door.engine.calls.clear()
        assert await door.memory.query(BETA, *COUNT) == before[BETA]
        assert await door.memory.query(ALPHA, *YESTERDAY) == old
        assert not door.engine.calls
        door.seal("alpha", occurred_at=NOW_US - 2 * DAY_US)
        await door.follow()
        assert count(await door.memory.query(ALPHA, *YESTERDAY)) == count(old) + 1

    asyncio.run(ask())


def test_without_a_word_from_the_engine_nothing_kept_is_used(door: Door) -> None:
    async def ask() -> None:
        await door.follow()
        first = await door.memory.query(ALPHA, *COUNT)
        door.engine.away = True
        while not (door.memory._following and door.memory._following.done()):  # noqa: ASYNC110
            await asyncio.sleep(0)
        door.seal("alpha", occurred_at=NOW_US - 1)
        assert count(await door.memory.query(ALPHA, *COUNT)) == count(first) + 1

    asyncio.run(ask())


def test_many_who_ask_the_same_ask_once(door: Door) -> None:
    async def ask() -> None:
        await door.follow()
        answers = await asyncio.gather(*(door.memory.query(BETA, *COUNT) for _ in range(20)))
        assert len({answer.etag for answer in answers}) == 1 and door.engine.calls["query"] == 1

    asyncio.run(ask())


def test_an_answer_of_an_engine_that_is_behind_is_not_kept(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> None:
        await door.follow()
        behind = await door.raw.query(ALPHA, *TODAY)
        door.seal("alpha", occurred_at=NOW_US - 1)
        await door.follow()
        with monkeypatch.context() as patch:
            patch.setattr(door.raw, "query", lambda *_, **__: asyncio.sleep(0, behind))
            assert await door.memory.query(ALPHA, *TODAY) == behind
        assert count(await door.memory.query(ALPHA, *TODAY)) == count(behind) + 1

    asyncio.run(ask())


def test_a_batch_asks_what_is_lacking_in_one_call(door: Door) -> None:
    async def ask() -> None:
        await door.follow()
        kept = await door.memory.query(ALPHA, *COUNT)
        door.engine.calls.clear()
        asked = [("forecast", ()), COUNT, YESTERDAY, ("trace", (("trace_id", "nobodys"),)), USERS]
        first = await door.memory.batch(ALPHA, asked, now_us=door.clock.now_us())
        assert isinstance(first[0], RequestInvalid) and isinstance(first[3], NotFound) and first[1] == kept
        assert dict(door.engine.calls) == {"batch": 1, "batched": 3}
        again = await door.memory.batch(ALPHA, asked, now_us=door.clock.now_us())
        assert [again[place] for place in (1, 2, 4)] == [first[place] for place in (1, 2, 4)]
        assert door.engine.calls["batched"] == 4

    asyncio.run(ask())
