"""The limits of the SQL door: rows, bytes, time, memory, the queue, and clients that go away."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator

import pytest
from starlette.types import Message

from cluster.errors import Busy
from cluster.tenancy import TenantId, TenantScope
from serving.sql_answers import whole
from serving.sql_job import SqlForm, SqlRows
from serving.sql_request import SqlRequest
from tests.serving.sql_hub import ARROW, CSV, SqlHub, serving, two_tenants

# Longer than any of these tests would wait.
ENDLESS = "SELECT count(*) FROM range(100000000000) a WHERE a.range % 7 = 9"
COUNT = "SELECT count(*) AS n FROM events"
ALPHA, BETA = (TenantScope.of(TenantId(name)) for name in ("alpha", "beta"))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlHub]:
    lake = two_tenants(tmp_path_factory.mktemp("lake"))
    with serving(lake, sql_queue=2, sql_workers=2, sql_answer_bytes_max=100_000) as hub:
        yield hub


def request(sql: str) -> SqlRequest:
    return SqlRequest(sql, [], 100, SqlForm.JSON)


async def running(hub: SqlHub, sql: str) -> asyncio.Task[SqlRows]:
    """A statement that has been given to a process, which may have had to start first."""
    asked = asyncio.create_task(whole(hub.engine.sql(ALPHA, request(sql))))
    while running_in(hub) is None:
        assert not asked.done()
        await asyncio.sleep(0)
    return asked


def running_in(hub: SqlHub) -> int | None:
    """The process that runs the first statement of those that have a process."""
    for turn in list(hub.engine._sql.desk._running):
        if (process := turn.process) is not None and process.process_id is not None:
            return process.process_id
    return None


def test_rows_beyond_the_limit_are_told(hub: SqlHub) -> None:
    answer = hub.ask("SELECT event_id FROM events", limit=7)
    assert answer.json()["row_count"] == len(answer.json()["rows"]) == 7
    assert answer.json()["truncated"] is True
    assert answer.headers["x-truncated"] == "true"
    assert hub.ask("SELECT event_id FROM events", limit=300).json()["truncated"] is False


@pytest.mark.parametrize("accept", ["application/json", CSV, ARROW])
def test_an_answer_over_the_bytes_is_refused(hub: SqlHub, accept: str) -> None:
    answer = hub.ask("SELECT repeat('x', 1000) || range FROM range(10000)", accept=accept)
    assert answer.status_code == 422
    assert "100000 bytes" in answer.json()["detail"]


def test_a_statement_over_its_time_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    with serving(two_tenants(tmp_path_factory.mktemp("slow")), sql_timeout_s=1.0, sql_workers=1) as hub:
        answer = hub.ask(ENDLESS)
        assert answer.status_code == 422
        assert "was cancelled" in answer.json()["detail"]
        assert hub.rows(COUNT) == [{"n": 300}]


def test_a_process_that_was_killed_is_replaced(hub: SqlHub) -> None:
    for _ in range(3):
        assert hub.rows(COUNT) == [{"n": 300}]
        for process_id in hub.engine._sql.desk.process_ids():
            os.kill(process_id, signal.SIGKILL)
    # One that was killed between two statements costs nobody an answer.
    assert hub.rows(COUNT) == [{"n": 300}]


def test_a_full_queue_is_told_and_other_tenants_are_served(hub: SqlHub) -> None:
    async def crowd() -> None:
        first = await running(hub, ENDLESS)
        second = asyncio.create_task(whole(hub.engine.sql(ALPHA, request(ENDLESS))))
        while not hub.engine._sql.desk._waiting:  # noqa: ASYNC110
            await asyncio.sleep(0)
        with pytest.raises(Busy) as refused:
            await whole(hub.engine.sql(ALPHA, request(COUNT)))
        assert refused.value.retry_after_s > 0
        rows = await whole(hub.engine.sql(BETA, request(COUNT)))
        assert rows.row_count == 1
        for task in (second, first):
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)

    asyncio.run(crowd())
    assert hub.rows(COUNT) == [{"n": 300}]


def test_a_client_that_goes_away_ends_its_statement(hub: SqlHub) -> None:
    async def gone() -> None:
        asked = await running(hub, ENDLESS)
        process_id = running_in(hub)
        assert process_id is not None
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        # The loop ends with the process that ran the statement.
        while process_id in hub.engine._sql.desk.process_ids():  # noqa: ASYNC110
            await asyncio.sleep(0)

    asyncio.run(gone())
    assert hub.rows(COUNT) == [{"n": 300}]


def test_nothing_of_ours_is_told_to_the_process(hub: SqlHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_CANARY", "canary")
    assert hub.rows(COUNT) == [{"n": 300}]
    for process_id in hub.engine._sql.desk.process_ids():
        with open(f"/proc/{process_id}/environ") as environment:
            names = {line.partition("=")[0] for line in environment.read().split("\0") if line}
        assert not any(name.startswith(("HUB_", "RAY_")) for name in names)


def test_a_connection_that_is_closed_ends_its_statement(hub: SqlHub) -> None:
    key = hub.hub.key("read", tenant="alpha")
    body = json.dumps({"sql": ENDLESS}).encode()
    headers = [(b"authorization", f"Bearer {key}".encode()), (b"content-type", b"application/json")]
    sent: list[Message] = []
    desk = hub.engine._sql.desk

    async def closed() -> None:
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Message:
            for message in messages:
                return message
            while not desk._running:  # noqa: ASYNC110
                await asyncio.sleep(0)
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/api/v1/sql", "query_string": b"", "headers": headers}
        await hub.hub.app({**scope, "raw_path": b"/api/v1/sql", "http_version": "1.1", "scheme": "http"}, receive, send)
        while desk._running:  # noqa: ASYNC110
            await asyncio.sleep(0)

    asyncio.run(closed())
    # Nobody reads it; it is told to the log.
    assert sent[0]["status"] == 499
    assert hub.rows(COUNT) == [{"n": 300}]
