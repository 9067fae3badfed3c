"""Who waits for whom: one tenant's questions, however many and slow, leave a thread and half the queue to others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.clock import SystemClock
from cluster.errors import Busy
from models.query.sql import Fragment, Run
from serving.database import Database

QUEUE = 12


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path, threads=1, memory_bytes=64 * 1024 * 1024, queue=QUEUE, clock=SystemClock())
    yield made
    made.close()


def counted(run: Run) -> int:
    ((count,),) = run(Fragment("SELECT count(*) FROM range(1000)")).rows
    return int(count)


def test_a_tenant_is_answered_while_another_holds_all_it_may(database: Database) -> None:
    release = threading.Event()

    def slow(run: Run) -> int:
        release.wait()
        return counted(run)

    async def crowd() -> None:
        heavy = [asyncio.create_task(database.ask(slow, owner="beta", timeout_s=60.0)) for _ in range(QUEUE // 2)]
        await asyncio.sleep(0)
        try:
            # One after the other, all while nothing of beta has ended.
            for _ in range(5):
                assert await database.ask(counted, owner="alpha", timeout_s=60.0) == 1_000
            with pytest.raises(Busy):
                await database.ask(counted, owner="beta", timeout_s=60.0)
            assert not any(task.done() for task in heavy)
        finally:
            release.set()
        assert await asyncio.gather(*heavy) == [1_000] * len(heavy)
        # What was held is given back.
        assert await database.ask(counted, owner="beta", timeout_s=60.0) == 1_000

    asyncio.run(crowd())


def test_one_that_goes_away_while_it_waits_leaves_its_place(database: Database) -> None:
    release = threading.Event()

    def slow(run: Run) -> int:
        release.wait()
        return counted(run)

    async def crowd() -> None:
        asked = [asyncio.create_task(database.ask(slow, owner="beta", timeout_s=60.0)) for _ in range(QUEUE // 2)]
        await asyncio.sleep(0)
        asked[-1].cancel()
        await asyncio.gather(asked[-1], return_exceptions=True)
        again = asyncio.create_task(database.ask(counted, owner="beta", timeout_s=60.0))
        await asyncio.sleep(0)
        release.set()
        assert await asyncio.gather(*asked[:-1], again) == [1_000] * (QUEUE // 2)

    asyncio.run(crowd())
