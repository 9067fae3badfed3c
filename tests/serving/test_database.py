"""Who waits for whom: one tenant's questions, however many and slow, leave a thread and half the queue to others."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.clock import SystemClock
from cluster.errors import Busy, QueryTimeout, RequestInvalid
from models.query.sql import Fragment, Result, Run
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


def test_scans_step_back_in_a_process_of_their_own_and_end_at_their_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({"number": range(1_000)}), tmp_path / "rows.parquet")
    monkeypatch.setattr("serving.database._SCAN_BYTES", 0)
    database = Database(tmp_path, threads=2, memory_bytes=256 * 1024 * 1024, queue=QUEUE, clock=SystemClock())
    files = [str(tmp_path / "rows.parquet")]
    told: list[int] = []

    def scan(run: Run) -> int:
        ((count,),) = run(Fragment("SELECT count(*) FROM read_parquet(?)", (files,))).rows
        told.append(os.sched_getscheduler(database.scan_process_id or 0))
        return int(count)

    def endless(run: Run) -> int:
        ((count,),) = run(
            Fragment("SELECT count(*) FROM read_parquet(?) AS a, range(10_000_000_000) AS b", (files,))
        ).rows
        return int(count)

    async def whole() -> None:
        assert await database.ask(scan, owner="alpha", timeout_s=60.0) == 1_000
        crowd = [database.ask(endless, owner=owner, timeout_s=0.5) for owner in ("alpha", "beta", "gamma")]
        ended = await asyncio.gather(*crowd, return_exceptions=True)
        assert [type(one) for one in ended] == [QueryTimeout] * 3
        # Nothing of them is left.
        assert await database.ask(scan, owner="alpha", timeout_s=60.0) == 1_000

    asyncio.run(whole())
    assert told == [os.SCHED_IDLE] * 2
    ended = database.scan_process_id
    database.close()
    assert ended and not Path(f"/proc/{ended}").exists()


def test_a_scan_answers_as_the_engine_itself_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pa.table({"number": [1, 2], "money": [Decimal("0.5"), None], "parts": [[b"a"], None]})
    pq.write_table(rows, tmp_path / "rows.parquet")
    files = [str(tmp_path / "rows.parquet")]
    answers = []
    for scan_bytes in (0, 1 << 40):
        monkeypatch.setattr("serving.database._SCAN_BYTES", scan_bytes)
        database = Database(tmp_path, threads=1, memory_bytes=256 * 1024 * 1024, queue=QUEUE, clock=SystemClock())

        def asked(text: str, database: Database = database) -> Result:
            fragment = Fragment(text, (files,))
            return asyncio.run(database.ask(lambda run: run(fragment), owner="alpha", timeout_s=60.0))

        answers.append(asked("SELECT *, make_timestamp(number) AS at FROM read_parquet(?) ORDER BY number"))
        # A file that is gone is read again, and then told.
        files.append(str(tmp_path / "gone.parquet"))
        with pytest.raises(duckdb.IOException, match="gone"):
            asked("SELECT * FROM read_parquet(?)")
        files.pop()
        with pytest.raises(RequestInvalid, match="memory"):
            asked("SELECT list(range) FROM range(100_000_000), read_parquet(?)")
        database.close()
    assert answers[0] == answers[1]


def test_a_scan_is_answered_after_its_process_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"number": range(1_000)}), tmp_path / "rows.parquet")
    monkeypatch.setattr("serving.database._SCAN_BYTES", 0)
    database = Database(tmp_path, threads=1, memory_bytes=64 * 1024 * 1024, queue=QUEUE, clock=SystemClock())
    scan = Fragment("SELECT count(*) FROM read_parquet(?)", ([str(tmp_path / "rows.parquet")],))

    for _ in range(3):
        answer = asyncio.run(database.ask(lambda run: run(scan), owner="alpha", timeout_s=60.0))
        assert answer.rows == [(1_000,)]
        killed = database.scan_process_id
        assert killed
        os.kill(killed, signal.SIGKILL)
        os.waitid(os.P_PID, killed, os.WEXITED | os.WNOWAIT)
    database.close()


def test_scans_of_a_tenant_do_not_stand_before_its_other_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({"number": range(1_000)}), tmp_path / "rows.parquet")
    monkeypatch.setattr("serving.database._SCAN_BYTES", 0)
    database = Database(tmp_path, threads=1, memory_bytes=64 * 1024 * 1024, queue=QUEUE, clock=SystemClock())
    endless = Fragment(
        "SELECT count(*) FROM read_parquet(?) AS a, range(10_000_000_000) AS b", ([str(tmp_path / "rows.parquet")],)
    )

    async def whole() -> None:
        scans = [
            asyncio.create_task(database.ask(lambda run: run(endless), owner="alpha", timeout_s=3.0)) for _ in range(5)
        ]
        while database.scan_process_id is None:  # noqa: ASYNC110 - nobody tells when
            await asyncio.sleep(0)
        assert await database.ask(counted, owner="alpha", timeout_s=60.0) == 1_000
        assert not any(one.done() for one in scans)
        ended = await asyncio.gather(*scans, return_exceptions=True)
        assert [type(one) for one in ended] == [QueryTimeout] * 5

    asyncio.run(whole())
    database.close()
