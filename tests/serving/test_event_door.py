"""POST /api/v1/events: every row is accounted for, and every bad body gets words instead of a crash."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tests.serving.conftest import Hub, event, ndjson


@pytest.fixture(scope="module")
def key(shared_hub: Hub) -> str:
    return shared_hub.key("ingest")


def rows(first: int, count: int) -> list[dict[str, Any]]:
    return [event(number, event_id=f"door-{number}") for number in range(first, first + count)]


def test_a_second_sending_is_recognised(hub: Hub) -> None:
    key = hub.key("ingest")
    assert hub.post(rows(0, 50), key=key).json() == {"accepted": 50, "repeated": 0, "refused": 0, "errors": []}
    assert hub.post(rows(0, 60), key=key).json() == {"accepted": 10, "repeated": 50, "refused": 0, "errors": []}


def test_one_broken_line_of_a_thousand_is_named_and_kept(hub: Hub) -> None:
    key = hub.key("ingest")
    lines = ndjson(rows(0, 1_000)).split(b"\n")
    lines[6] = b'{"occurred_at": broken'
    answer = hub.post(b"\n".join(lines), key=key)
    body = answer.json()
    assert answer.status_code == 202
    assert (body["accepted"], body["repeated"], body["refused"]) == (999, 0, 1)
    assert body["errors"][0]["index"] == 6 and "7" in body["errors"][0]["message"]
    ledger = hub.call("GET", "/api/v1/ledger", key=hub.admin).json()
    assert ledger["total"]["dead_letters"] == 1


def test_at_most_a_hundred_errors_are_listed(shared_hub: Hub, key: str) -> None:
    body = shared_hub.post([{"nothing": number} for number in range(150)], key=key).json()
    assert (body["accepted"], body["refused"], len(body["errors"])) == (0, 150, 100)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_encoded_bodies(shared_hub: Hub, key: str, encoding: str) -> None:
    plain = ndjson(rows(10_000, 20) if encoding == "gzip" else rows(11_000, 20))
    sent = gzip.compress(plain) if encoding == "gzip" else zstandard.compress(plain)
    answer = shared_hub.post(sent, key=key, headers={"content-encoding": encoding})
    assert answer.json()["accepted"] == 20


def test_columnar_bodies(shared_hub: Hub, key: str) -> None:
    table = pa.Table.from_pylist(rows(20_000, 30))
    arrow, parquet = io.BytesIO(), io.BytesIO()
    with pa.ipc.new_stream(arrow, table.schema) as writer:
        writer.write_table(table)
    pq.write_table(table, parquet)
    kinds = (("vnd.apache.arrow.stream", arrow), ("vnd.apache.parquet", parquet))
    counts = []
    for kind, made in kinds:
        headers = {"content-type": f"application/{kind}"}
        counts.append(shared_hub.post(made.getvalue(), key=key, headers=headers).json())
    assert [(one["accepted"], one["repeated"]) for one in counts] == [(30, 0), (0, 30)]


def test_a_json_object_and_an_array(shared_hub: Hub, key: str) -> None:
    headers = {"content-type": "application/json; charset=utf-8"}
    one = json.dumps(rows(30_000, 1)[0]).encode()
    many = json.dumps(rows(30_001, 3)).encode()
    assert shared_hub.post(one, key=key, headers=headers).json()["accepted"] == 1
    assert shared_hub.post(many, key=key, headers=headers).json()["accepted"] == 3


def test_module_of_rows_that_name_none(shared_hub: Hub, key: str) -> None:
    row = event(1, event_id="no-module", kind="observatory.span")
    del row["module"]
    assert shared_hub.post([row], key=key, params={"module": "observatory"}).json()["accepted"] == 1
    answer = shared_hub.post([row], key=key, params={"module": "nonsense"})
    assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")


def test_a_body_over_the_inline_size_is_decoded_beside_the_loop(shared_hub: Hub, key: str) -> None:
    assert shared_hub.post(rows(40_000, 2_000), key=key).json()["accepted"] == 2_000


DEEP = b'{"a":' * 10_000 + b"1" + b"}" * 10_000
BOMB = gzip.compress(b"0" * 64 * 1024 * 1024)
NDJSON = "application/x-ndjson"
ARROW = "application/vnd.apache.arrow.stream"
BAD: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "truncated gzip": (gzip.compress(b"x" * 9_000)[:-9], {"content-encoding": "gzip"}, 400, "body_unreadable"),
    "not gzip at all": (b"hello", {"content-encoding": "gzip"}, 400, "body_unreadable"),
    "gzip bomb": (BOMB, {"content-encoding": "gzip"}, 413, "body_too_large"),
    "zstd bomb": (zstandard.compress(b"0" * 64 * 1024 * 1024), {"content-encoding": "zstd"}, 413, "body_too_large"),
    "unknown encoding": (b"{}", {"content-encoding": "br"}, 415, "media_type_unsupported"),
    "two encodings": (b"{}", {"content-encoding": "gzip, gzip"}, 415, "media_type_unsupported"),
    "wrong content type": (b"{}", {"content-type": "text/html"}, 415, "media_type_unsupported"),
    "junk content type": (b"{}", {"content-type": ";;;="}, 415, "media_type_unsupported"),
    "announced too large": (b"x" * (2 * 1024 * 1024 + 1), {}, 413, "body_too_large"),
    "length is no number": (b"{}", {"content-length": "5e3"}, 400, "body_unreadable"),
    "length of many digits": (b"{}", {"content-length": "9" * 5_000}, 413, "body_too_large"),
    "broken array": (b'[{"a":1},', {"content-type": "application/json"}, 400, "body_unreadable"),
    "deep array": (b"[" * 10_000, {"content-type": "application/json"}, 400, "body_unreadable"),
    "garbage arrow": (b"\x00\xff" * 999, {"content-type": ARROW}, 400, "body_unreadable"),
    "garbage parquet": (b"PAR1junkPAR1", {"content-type": "application/vnd.apache.parquet"}, 400, "body_unreadable"),
    "too many rows": (b"{}\n" * 5_001, {}, 413, "body_too_large"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_body_is_a_problem(shared_hub: Hub, key: str, name: str) -> None:
    body, headers, status, code = BAD[name]
    answer = shared_hub.post(body, key=key, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json()) >= {"type", "title", "status", "detail", "code", "hint"}
    assert "Traceback" not in answer.text


ROWS: dict[str, bytes] = {
    "deep nesting": DEEP,
    "one line beyond the limit": b'{"a":"' + b"x" * 300_000 + b'"}',
    "invalid UTF-8": b'{"module":"gateway","kind":"\xff\xfe"}',
    "lone surrogate": b'{"module":"\\ud800"}',
    "NaN tokens": json.dumps(event(1, input_tokens=float("nan"))).encode(),
    "negative cost": json.dumps(event(1, cost_usd=-1)).encode(),
    "time in 1970": json.dumps(event(1, occurred_at="1970-01-01T00:00:00Z")).encode(),
    "time in 2100": json.dumps(event(1, occurred_at="2100-01-01T00:00:00Z")).encode(),
    "unknown module": json.dumps(event(1, module="nonsense", kind="nonsense.thing")).encode(),
    "not an object": b"17",
    "binary": bytes(range(1, 10)) + bytes(range(11, 256)),
    "another tenant in the body": json.dumps(event(1, tenant_id="someone-else")).encode(),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_bad_row_is_a_dead_letter_and_its_neighbours_are_taken(shared_hub: Hub, key: str, name: str) -> None:
    good = [event(number, event_id=f"{name}-{number}") for number in range(2)]
    first, second = ndjson(good).split(b"\n")
    body = shared_hub.post(b"\n".join([first, ROWS[name], second]), key=key).json()
    assert (body["accepted"], body["refused"], body["errors"][0]["index"]) == (2, 1, 1), body


def test_a_hundred_megabytes_are_refused_while_they_stream(shared_hub: Hub, key: str) -> None:
    told = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal told
        for _ in range(1_600):
            told += 65_536
            yield b"x" * 65_536

    async def send() -> int:
        headers = {"content-type": NDJSON}
        answer = await shared_hub.send("POST", "/api/v1/events", key=key, content=endless(), headers=headers)
        assert answer.headers["connection"] == "close"
        return answer.status_code

    assert shared_hub.run(send()) == 413
    assert told <= 3 * 1024 * 1024
    assert shared_hub.app.state.body_budget.held_bytes == 0


def test_an_empty_body_is_no_rows(shared_hub: Hub, key: str) -> None:
    answer = shared_hub.post(b"", key=key)
    assert answer.status_code in (202, 400)
    assert answer.status_code == 400 or answer.json()["accepted"] == 0


def test_an_idempotency_key_names_the_rows_of_its_body(hub: Hub) -> None:
    key = hub.key("ingest")
    bare = {name: value for name, value in event(0, model="idempotent").items() if name != "event_id"}
    own = event(77, model="idempotent")

    def counts(name: str) -> tuple[int, int, int]:
        told = hub.post(
            [bare, {**bare, "occurred_at": "never"}, bare, own], key=key, headers={"idempotency-key": name}
        ).json()
        return told["accepted"], told["repeated"], told["refused"]

    assert counts("batch-1") == (3, 0, 1)
    assert counts("batch-1") == (0, 3, 1)
    # Equal rows under another key are new; a row's own id stays its own.
    assert counts("batch-2") == (2, 1, 1)
    assert hub.post([bare], key=key, headers={"idempotency-key": "two words"}).status_code == 422
