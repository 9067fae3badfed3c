"""Long answers of SQL go in parts: the same rows, never held whole, ended with their reader, cut where they fail."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import pyarrow as pa
import pytest
from starlette.types import Message

from cluster.errors import RequestInvalid
from cluster.tenancy import TenantId, TenantScope
from serving.sql_answers import WHOLE_BYTES_MAX, whole
from serving.sql_job import PART_BYTES, SqlForm, SqlPart, SqlRows
from serving.sql_request import SqlRequest
from tests.serving.sql_hub import ARROW, CSV, JSON, SqlHub, serving, two_tenants

ALPHA = TenantScope.of(TenantId("alpha"))
ROWS = 200_000
LONG = f"SELECT range AS n, 'text ' || range AS told FROM range({ROWS})"
# Far more of it is written than DuckDB works ahead before one row cannot be.
FAILS_LATE = """
    SELECT CAST(CASE WHEN range = 50000 THEN 'none' ELSE '1' END AS INT) AS n, repeat('x', 1000) AS told
    FROM range(60000)
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlHub]:
    with serving(two_tenants(tmp_path_factory.mktemp("lake")), sql_workers=2) as hub:
        yield hub


def request(sql: str, form: SqlForm = SqlForm.CSV) -> SqlRequest:
    return SqlRequest(sql, [], 10_000_000, form)


async def asked(hub: SqlHub, body: dict[str, Any], read: Any = None) -> list[Message]:
    """Messages of the application for one statement; `read` is awaited after each, and closes where it says so."""
    key = hub.hub.key("read", tenant="alpha")
    headers = [(b"authorization", f"Bearer {key}".encode()), (b"content-type", b"application/json")]
    messages = iter([{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}])
    closed, sent = asyncio.Event(), []

    async def receive() -> Message:
        for message in messages:
            return message
        await closed.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)
        if read is not None and await read(len(sent)):
            closed.set()

    scope = {"type": "http", "method": "POST", "path": "/api/v1/sql", "query_string": b"", "headers": headers}
    await hub.hub.app({**scope, "raw_path": b"/api/v1/sql", "http_version": "1.1", "scheme": "http"}, receive, send)
    return sent


@pytest.mark.parametrize("accept", [JSON, CSV, ARROW])
def test_every_row_is_there_once_and_in_order(hub: SqlHub, accept: str) -> None:
    answer = hub.ask(LONG, limit=ROWS, accept=accept)
    assert answer.status_code == 200
    assert answer.headers["x-row-limit"] == str(ROWS)
    assert {"x-row-count", "content-length"}.isdisjoint(answer.headers)
    if accept == JSON:
        told = answer.json()
        assert (told["row_count"], told["truncated"]) == (ROWS, False)
        rows = [(row["n"], row["told"]) for row in told["rows"]]
    elif accept == CSV:
        rows = [(int(n), told) for n, told in list(csv.reader(io.StringIO(answer.text)))[1:]]
    else:
        table = pa.ipc.open_stream(answer.content).read_all()
        rows = list(zip(table["n"].to_pylist(), table["told"].to_pylist(), strict=True))
    assert rows == [(n, f"text {n}") for n in range(ROWS)]


def test_long_answers_are_encoded_where_the_client_takes_it(hub: SqlHub) -> None:
    for rows, encoding in ((ROWS, "gzip"), (1_000, "gzip"), (3, None)):
        answer = hub.ask(LONG, limit=rows, accept=CSV)
        assert answer.headers.get("content-encoding") == encoding
        assert answer.text.count("\r\n") == rows + 1
        assert {name.strip().lower() for name in answer.headers["vary"].split(",")} >= {"accept"}
    key = hub.hub.key("read", tenant="alpha")
    headers = {"accept": CSV, "accept-encoding": "identity"}
    plain = hub.hub.call("POST", "/api/v1/sql", key=key, json={"sql": LONG, "limit": ROWS}, headers=headers)
    assert "content-encoding" not in plain.headers
    assert plain.text.count("\r\n") == ROWS + 1


def test_rows_beyond_the_limit_are_told_at_the_end(hub: SqlHub) -> None:
    told = hub.ask(LONG, limit=ROWS - 1).json()
    assert (told["row_count"], len(told["rows"]), told["truncated"]) == (ROWS - 1, ROWS - 1, True)


def test_short_answers_tell_their_rows_first(hub: SqlHub) -> None:
    answer = hub.ask("SELECT 1 AS n", accept=CSV)
    assert (answer.headers["x-row-count"], answer.headers["content-length"]) == ("1", "6")


def test_wide_rows_make_parts_of_few_rows(hub: SqlHub) -> None:
    async def sizes() -> list[int]:
        wide = "SELECT repeat('x', 60000) AS told FROM range(200)"
        async with aclosing(hub.engine.sql(ALPHA, request(wide))) as parts:
            return [len(part.body) async for part in parts]

    told = asyncio.run(sizes())
    assert sum(told) > 200 * 60_000
    assert max(told) < 2 * PART_BYTES


def test_a_statement_waits_for_a_reader_who_does_not_read(hub: SqlHub) -> None:
    endless = "SELECT repeat('x', 1000) AS told FROM range(1000000000)"
    read: list[int] = []

    async def slow() -> None:
        async with aclosing(hub.engine.sql(ALPHA, request(endless))) as parts:
            async for part in parts:
                read.append(len(part.body))
                if len(read) == 20:
                    break
            # What was made beyond what was read waits in few places of a known size.
            (turn,) = hub.engine._sql.desk._running
            assert turn._told.qsize() <= 4
        desk = hub.engine._sql.desk
        while desk._running:  # noqa: ASYNC110
            await asyncio.sleep(0)

    asyncio.run(slow())
    assert hub.rows("SELECT 1 AS n") == [{"n": 1}]


def test_a_client_that_goes_away_in_the_middle_ends_the_statement(hub: SqlHub) -> None:
    desk = hub.engine._sql.desk

    async def closed() -> list[Message]:
        async def after(messages: int) -> bool:
            return messages == 5

        endless = {"sql": "SELECT repeat('x', 1000) AS told FROM range(1000000000)", "limit": 10_000_000}
        sent = await asked(hub, endless, after)
        while desk._running:  # noqa: ASYNC110
            await asyncio.sleep(0)
        return sent

    sent = asyncio.run(closed())
    assert sent[0]["status"] == 200
    assert all(message["more_body"] for message in sent[1:])
    assert hub.rows("SELECT 1 AS n") == [{"n": 1}]


def test_an_answer_that_fails_late_has_no_end(hub: SqlHub) -> None:
    sent: list[Message] = []

    async def all_of_it() -> None:
        async def kept(_: int) -> bool:
            return False

        sent.extend(await asked(hub, {"sql": FAILS_LATE, "limit": 10_000_000}, kept))

    asyncio.run(all_of_it())
    assert sent[0]["status"] == 200
    assert len(sent) > 1
    assert all(message["more_body"] for message in sent[1:])
    assert hub.rows("SELECT 1 AS n") == [{"n": 1}]


def test_whole_answers_are_bounded(hub: SqlHub) -> None:
    async def collected(rows: int) -> SqlRows:
        return await whole(hub.engine.sql(ALPHA, request(f"SELECT repeat('x', 1000) AS told FROM range({rows})")))

    small = asyncio.run(collected(3_000))
    assert (small.row_count, len(small.body)) == (3_000, len("told\r\n") + 3_000 * 1_002)
    with pytest.raises(RequestInvalid, match=f"over {WHOLE_BYTES_MAX} bytes"):
        asyncio.run(collected(100_000))


def test_a_row_that_is_too_long_is_refused(hub: SqlHub) -> None:
    answer = hub.ask("SELECT repeat('x', 40000000) AS told", accept=CSV)
    assert answer.status_code == 422
    assert "a row" in answer.json()["detail"]


def test_what_comes_before_the_end_is_a_part(hub: SqlHub) -> None:
    async def kinds() -> list[type]:
        async with aclosing(hub.engine.sql(ALPHA, request(LONG))) as parts:
            return [type(part) async for part in parts]

    *before, last = asyncio.run(kinds())
    assert set(before) == {SqlPart}
    assert last is SqlRows
