"""The engine follows the tables: nothing counted twice, nothing forgotten, whatever the files do underneath."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from cluster.clock import SystemClock
from cluster.errors import Busy, NotFound, QueryTimeout
from cluster.lake.scan import TableReader, files, row_counts
from cluster.tenancy import TenantId, TenantScope
from models.query.sql import Fragment, Run
from serving.database import Database
from serving.query_engine import Answer, AnswerCache, QueryEngine
from tests.serving.small_lake import DAY_US, NOW_US, Lake, event, tenants_apart

ALPHA = TenantScope.of(TenantId("alpha"))
COUNTS = (("measure", "event_count"), ("from", "-4d"))
EVERYTHING = (
    ("measure", "event_count"),
    ("measure", "cost_usd"),
    ("measure", "latency_ms_p95"),
    ("measure", "unique_users"),
    ("from", "-4d"),
    ("group_by", "model"),
    ("order", "model"),
)


def ask(engine: QueryEngine, *parameters: tuple[str, str]) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(asyncio.run(engine.query(ALPHA, "aggregate", parameters)).body)
    return told


def count(engine: QueryEngine) -> int:
    return int(ask(engine, *COUNTS)["rows"][0]["values"]["event_count"])


def test_before_the_first_commit_there_is_nothing_and_no_error(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    engine = lake.engine()
    assert count(engine) == 0
    assert json.loads(asyncio.run(engine.search(ALPHA, ())).body)["events"] == []
    with pytest.raises(NotFound):
        asyncio.run(engine.trace(ALPHA, "nowhere"))
    ledger = asyncio.run(engine.ledger_committed(ALPHA))
    assert ledger["versions"]["events"] == -1 and ledger["tenants"]["alpha"]["events"] == 0
    # The first table appears while the engine runs.
    lake.seal("alpha", [event(1), event(2)])
    engine.refresh()
    assert count(engine) == 2
    engine.close()


def test_late_rows_and_compaction_leave_every_answer_right(tmp_path: Path) -> None:
    lake = tenants_apart(tmp_path, {"alpha": 400})
    engine = lake.engine()
    before = ask(engine, *EVERYTHING)
    lake.compact("alpha")
    engine.refresh()
    after = ask(engine, *EVERYTHING)
    # Compaction moves rows and changes none: the answer that was given stays.
    assert after == before
    elsewhere = lake.engine()
    assert ask(elsewhere, *EVERYTHING)["rows"] == before["rows"]
    elsewhere.close()
    # A late event is one more partial, days back.
    lake.seal("alpha", [event(900_001, occurred_at=NOW_US - 2 * DAY_US)])
    engine.refresh()
    assert count(engine) == 401
    # A compaction took in a file that was committed after we last looked, and was itself compacted again.
    lake.seal("alpha", [event(900_002)])
    lake.compact("alpha")
    lake.seal("alpha", [event(900_003)])
    lake.compact("alpha")
    engine.refresh()
    assert count(engine) == 403
    # One of files we all hold, twice over, with a new file in between.
    lake.compact("alpha")
    lake.compact("alpha")
    lake.seal("alpha", [event(900_004)])
    engine.refresh()
    assert count(engine) == 404
    fresh = lake.engine()
    assert ask(fresh, *EVERYTHING) == ask(engine, *EVERYTHING)
    fresh.close()
    engine.close()


def test_an_answer_is_kept_until_its_own_rows_change(tmp_path: Path) -> None:
    lake = tenants_apart(tmp_path, {"alpha": 60, "beta": 20})
    engine = lake.engine()

    def told(*parameters: tuple[str, str]) -> Answer:
        return asyncio.run(engine.query(ALPHA, "aggregate", (("measure", "event_count"), *parameters)))

    until_yesterday = (("from", "2025-12-28T00:00:00Z"), ("to", "2025-12-31T00:00:00Z"))
    first, raw = told(*until_yesterday), told(("filter", "event_id:ne:x"), *until_yesterday)
    lake.seal("beta", [event(900_010, occurred_at=NOW_US - 2 * DAY_US)])
    lake.seal("alpha", [event(900_011, occurred_at=NOW_US - 1)])
    engine.refresh()
    assert told(*until_yesterday) is first and told(("filter", "event_id:ne:x"), *until_yesterday) is raw
    lake.seal("alpha", [event(900_012, occurred_at=NOW_US - 2 * DAY_US)])
    engine.refresh()
    assert told(*until_yesterday).etag != first.etag
    assert json.loads(told(*until_yesterday).body)["rows"] != json.loads(first.body)["rows"]
    assert json.loads(told(("filter", "event_id:ne:x"), *until_yesterday).body)["rows"] != json.loads(raw.body)["rows"]
    engine.close()


def test_files_of_other_days_and_tenants_are_not_opened(tmp_path: Path) -> None:
    lake = tenants_apart(tmp_path, {"alpha": 100, "beta": 100})
    snapshot = TableReader(lake.settings.lake, "events").refresh()
    found = files(ALPHA, snapshot, NOW_US - DAY_US, NOW_US)
    assert found and {(one.tenant_id, one.event_date) for one in found} == {("alpha", "2025-12-31")}
    assert files(ALPHA, snapshot, NOW_US + DAY_US, NOW_US + 2 * DAY_US) == []
    assert row_counts(ALPHA, snapshot) == {"alpha": 100}


def test_the_same_question_at_once_is_answered_once(tmp_path: Path) -> None:
    lake = tenants_apart(tmp_path, {"alpha": 50})
    engine = lake.engine()

    async def both() -> list[Answer]:
        return list(await asyncio.gather(*(engine.query(ALPHA, "aggregate", COUNTS) for _ in range(20))))

    answers = asyncio.run(both())
    assert all(answer is answers[0] for answer in answers)
    engine.close()


def test_the_ledger_tells_rows_versions_and_journals(tmp_path: Path) -> None:
    lake = tenants_apart(tmp_path, {"alpha": 50})
    engine = lake.engine()
    ledger = asyncio.run(engine.ledger_committed(ALPHA, ("journal-alpha", "unknown")))
    assert ledger["tenants"] == {"alpha": {"events": 50, "dead_letters": 0}}
    assert ledger["journals"] == {"journal-alpha": 5}
    engine.close()


@pytest.fixture
def database(tmp_path: Path) -> Any:
    database = Database(tmp_path, threads=1, memory_bytes=256 * 1024 * 1024, queue=2, clock=SystemClock())
    yield database
    database.close()


def test_a_question_past_its_deadline_is_cancelled_and_the_engine_lives(database: Database) -> None:
    def endless(run: Run) -> Any:
        return run(
            Fragment("SELECT count(*) FROM range(1000000000) AS a, range(1000000) AS b WHERE a.range + b.range < 0")
        )

    with pytest.raises(QueryTimeout):
        asyncio.run(database.ask(endless, owner="alpha", timeout_s=0.05))
    assert asyncio.run(database.ask(lambda run: run(Fragment("SELECT 1")).rows, owner="alpha", timeout_s=10)) == [(1,)]


def test_a_full_queue_refuses_before_it_starts_anything(database: Database) -> None:
    release = threading.Event()

    async def crowd() -> None:
        waiting = [
            asyncio.create_task(database.ask(lambda run: release.wait(10), owner=owner, timeout_s=10))
            for owner in ("alpha", "beta")
        ]
        await asyncio.sleep(0)
        with pytest.raises(Busy) as refused:
            await database.ask(lambda run: None, owner="alpha", timeout_s=10)
        assert refused.value.retry_after_s > 0
        release.set()
        await asyncio.gather(*waiting)

    asyncio.run(crowd())


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM glob('/*')",
        "COPY (SELECT 1) TO '/tmp/out.parquet'",
        "ATTACH '/tmp/x.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
        "SET memory_limit = '64GB'",
    ],
)
def test_the_database_reaches_nothing_but_the_lake(database: Database, sql: str) -> None:
    with pytest.raises(Exception, match=r"Permission|disabled|locked|Cannot|allowed|configuration"):
        asyncio.run(database.ask(lambda run: run(Fragment(sql)), owner="alpha", timeout_s=10))


def test_the_cache_forgets_what_was_not_used_for_longest() -> None:
    cache = AnswerCache(100)
    for name in range(15):
        cache.put((name,), Answer(b"x" * 10, 1, ""))
        cache.get((0,))
    assert cache.get((0,)) is not None and cache.get((1,)) is None and cache.get((14,)) is not None
    cache.put(("large",), Answer(b"x" * 11, 1, ""))
    assert cache.get(("large",)) is None
