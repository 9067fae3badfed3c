"""What no honest client sends, over the real edge: told what is wrong, nobody dies, every accepted row is kept."""

from __future__ import annotations

import gzip
import http.client
import json
import secrets
import socket
import threading
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from infra.runtime import processes
from tests.journeys.local_hub import LocalHub

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

EVENTS: Final = "/api/v1/events"
NDJSON: Final = "application/x-ndjson"
# Overload, told with the time to come again; everything else of the 500s is a fault.
AGAIN: Final = (429, 503)
PARTS: Final = ("shard", "committer", "replica", "query")
SETTLED_WITHIN_S: Final = 30.0
# Ids of this run, so that a hub that saw an earlier one takes them for new.
RUN: Final = secrets.token_hex(4)


@dataclass(frozen=True)
class Answer:
    """One answer of a door."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def told(self) -> tuple[int, str]:
        """Status and code of a problem, which it has to be."""
        assert self.headers["content-type"] == "application/problem+json", self
        problem = self.json
        assert {"type", "title", "status", "detail", "code"} <= problem.keys()
        assert problem["status"] == self.status
        assert "Traceback" not in problem["detail"]
        return self.status, problem["code"]


@dataclass(frozen=True)
class Door:
    """The HTTP door as a raw client sees it."""

    hub: LocalHub
    port: int
    key: str
    # Sent to the door and taken; compared with the ledger at the end.
    taken: dict[str, int] = field(default_factory=lambda: {"accepted": 0, "refused": 0})
    counting: threading.Lock = field(default_factory=threading.Lock)

    def post(self, body: bytes, *, path: str = EVENTS, **headers: str) -> Answer:
        """One request; header names with _ for -."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {"authorization": f"Bearer {self.key}", "content-type": NDJSON} | given
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", path, body, sent)
            reply = connection.getresponse()
            answer = Answer(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
        finally:
            connection.close()
        assert answer.status < 500 or answer.status in AGAIN, answer
        if answer.status in AGAIN:
            assert int(answer.headers["retry-after"]) >= 1
        if answer.status == 202:
            with self.counting:
                for name in self.taken:
                    self.taken[name] += answer.json[name]
        return answer

    def exchange(self, *parts: bytes) -> bytes:
        """Raw bytes to the edge; all it sends until it closes or is silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            received = b""
            try:
                for part in parts:
                    connection.sendall(part)
                while part := connection.recv(65_536):
                    received += part
            except (ConnectionResetError, BrokenPipeError):
                pass
            return received

    def head(self, *lines: bytes, method: bytes = b"POST") -> bytes:
        """A request up to its body."""
        fixed = (b"host: hub", b"authorization: Bearer " + self.key.encode(), b"content-type: " + NDJSON.encode())
        return b"\r\n".join((method + b" " + EVENTS.encode() + b" HTTP/1.1", *fixed, *lines, b"", b""))

    def ledger(self) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", "/api/v1/ledger", headers={"authorization": f"Bearer {self.key}"})
        reply = connection.getresponse()
        told: dict[str, Any] = json.loads(reply.read())
        connection.close()
        assert reply.status == 200, told
        return told


@pytest.fixture(scope="module")
def door(hub: LocalHub) -> Iterator[Door]:
    """The door; at the end no part was replaced and the ledger is sound."""
    door = Door(hub, int(hub.url.rpartition(":")[2]), hub.key)
    before = {part: hub.pids(part) for part in PARTS}
    start = door.ledger()["total"]
    assert all(before.values()), before
    yield door

    def settled() -> bool:
        return bool(door.ledger()["total"]["in_flight"] == 0)

    assert processes.wait_until(settled, deadline_s=SETTLED_WITHIN_S)
    ledger = door.ledger()
    assert {part: hub.pids(part) for part in PARTS} == before, "a part of the hub died"
    assert [one["difference"] for one in ledger["tenants"]] == [0] * len(ledger["tenants"])
    counted = {"accepted": "accepted", "refused": "dead_letters"}
    assert {told: ledger["total"][name] - start[name] for told, name in counted.items()} == door.taken
    assert ledger["total"]["committed"] == ledger["total"]["accepted"]


def row(name: str, **more: Any) -> dict[str, Any]:
    """A valid row of the present."""
    at = datetime.now(UTC).isoformat()
    return {"event_id": f"{RUN}-{name}", "occurred_at": at, "module": "gateway", "kind": "gateway.request", **more}


def lines(*rows: Any) -> bytes:
    return b"\n".join(json.dumps(one).encode() for one in rows)


def test_one_broken_line_of_a_thousand_is_named_and_kept(door: Door) -> None:
    sent = [json.dumps(row(f"line-{number}")).encode() for number in range(1000)]
    sent[6] = sent[6][:-5]
    answer = door.post(b"\n".join(sent))
    told = answer.json
    assert (answer.status, told["accepted"], told["refused"]) == (202, 999, 1)
    assert [(one["index"], one["code"]) for one in told["errors"]] == [(6, "json_invalid")]
    assert "line 7" in told["errors"][0]["message"]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"input_tokens": float("nan")}, None),
        ({"input_tokens": "NaN"}, None),
        ({"cost_usd": -1}, "cost_out_of_range"),
        ({"occurred_at": "1970-01-01T00:00:00Z"}, "occurred_at_out_of_range"),
        ({"occurred_at": "2100-01-01T00:00:00Z"}, "occurred_at_out_of_range"),
        ({"module": "nonsense"}, "unknown_module"),
        ({"tenant_id": "somebody-else"}, "tenant_mismatch"),
    ],
)
def test_a_bad_row_is_refused_beside_a_good_one(door: Door, more: dict[str, Any], code: str | None) -> None:
    name = f"bad-{json.dumps(more)}"
    told = door.post(lines(row(f"{name}-1"), row(name, **more), row(f"{name}-2"))).json
    assert (told["accepted"], told["refused"]) == (2, 1), told
    assert told["errors"][0]["index"] == 1
    assert code in (None, told["errors"][0]["code"])


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        # Deeper than a parser goes at all; from 65 on, where it does, json_too_deep.
        (b'{"event_id":"%s","attributes":' % RUN.encode() + b"[" * 10_000 + b"]" * 10_000 + b"}", "json_invalid"),
        (lines(row("utf")).replace(b"gateway.request", b"gateway.\xff\xfe"), "json_invalid"),
    ],
    ids=["nested 10,000 deep", "not UTF-8"],
)
def test_a_line_that_cannot_be_read_is_refused(door: Door, bad: bytes, code: str) -> None:
    told = door.post(b"\n".join((bad, lines(row(f"after-{len(bad)}"))))).json
    assert (told["accepted"], told["refused"]) == (1, 1), told
    assert told["errors"][0]["code"] == code


def test_a_body_cut_short_in_its_gzip_is_unreadable(door: Door) -> None:
    packed = gzip.compress(lines(*(row(f"cut-{number}") for number in range(100))))
    assert door.post(packed[: len(packed) // 2], content_encoding="gzip").told == (400, "body_unreadable")


def test_a_hundred_megabytes_of_one_line(door: Door) -> None:
    size = 100 * 1024 * 1024
    # Announced: refused before it is read. A client that goes on sending is cut off.
    received = door.exchange(door.head(b"content-length: %d" % size))
    assert b" 413 " in received.split(b"\r\n", 1)[0]
    packed = zlib.compressobj(wbits=31)
    body = packed.compress(b'{"a":"') + b"".join(packed.compress(b"x" * 1024 * 1024) for _ in range(100))
    body += packed.compress(b'"}') + packed.flush()
    answer = door.post(body, content_encoding="gzip")
    assert answer.status in (202, 413)
    if answer.status == 202:
        assert (answer.json["refused"], answer.json["errors"][0]["code"]) == (1, "row_too_large")


def test_a_gzip_bomb(door: Door) -> None:
    packed = zlib.compressobj(9, wbits=31)
    body = b"".join(packed.compress(bytes(16 * 1024 * 1024)) for _ in range(24)) + packed.flush()
    assert door.post(body, content_encoding="gzip").told == (413, "body_too_large")


@pytest.mark.parametrize("content_type", ["application/x-protobuf", "application/json"])
def test_garbage_as_traces(door: Door, content_type: str) -> None:
    answer = door.post(b"\xff\x00garbage\x80" * 100, path="/v1/traces", content_type=content_type)
    assert answer.status == 400
    assert answer.headers["content-type"] == content_type


def test_wrong_keys_and_types(door: Door) -> None:
    good = lines(row("refused"))
    assert door.post(good, authorization="Bearer hub_aaaaaaaaaaaa_" + "A" * 43).told == (401, "unauthenticated")
    assert door.post(good, authorization="Bearer \xff\xfe").told == (401, "unauthenticated")
    assert door.post(good, content_type="text/html").told == (415, "media_type_unsupported")
    assert door.post(good, content_encoding="br").told == (415, "media_type_unsupported")
    assert door.post(good, path=f"{EVENTS}?module=nonsense").told == (422, "request_invalid")
    assert door.post(good, path=f"{EVENTS}?tenant=nobody").status in (403, 404)


@pytest.mark.parametrize(
    "name",
    [
        "x-request-timeout-seconds",
        "x-request-disconnect-disabled",
        "x-session-id",
        "serve_multiplexed_model_id",
        "x-request-id",
        "x_request_id",
    ],
)
@pytest.mark.parametrize("value", [b"\xff\xfe\x80", b"0"], ids=["not UTF-8", "0"])
def test_headers_that_serve_would_obey(door: Door, name: str, value: bytes) -> None:
    body = lines(row(f"{name}-{value!r}"))
    size = b"content-length: %d" % len(body)
    received = door.exchange(door.head(name.encode() + b": " + value, size, b"connection: close"), body)
    assert received.startswith(b"HTTP/1.1 202 "), received
    door.taken["accepted"] += 1


def test_requests_that_do_not_wait_for_their_answers(door: Door) -> None:
    sent = b""
    for number in range(20):
        body = lines(row(f"piped-{number}"))
        last = b"connection: close" if number == 19 else b"connection: keep-alive"
        sent += door.head(b"content-length: %d" % len(body), last) + body
    received = door.exchange(sent)
    assert received.count(b"HTTP/1.1 202 ") == 20
    door.taken["accepted"] += 20


def test_slow_senders_do_not_hold_the_door(door: Door) -> None:
    slow = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(50)]
    try:
        for number, one in enumerate(slow):
            head = door.head(b"content-length: 1000")
            # Half stop within their headers, half within their body.
            one.sendall(head[:60] if number % 2 else head + b"{")
        assert all(door.post(lines(row(f"meanwhile-{number}"))).status == 202 for number in range(10))
    finally:
        for one in slow:
            one.close()


def test_two_hundred_at_once_and_a_thousand_in_a_row(door: Door) -> None:
    def post(name: str) -> int:
        return door.post(lines(row(name))).status

    with ThreadPoolExecutor(200) as crowd:
        statuses = list(crowd.map(post, (f"crowd-{number}" for number in range(200))))
    assert set(statuses) <= {202, *AGAIN}
    assert statuses.count(202) > 0
    with ThreadPoolExecutor(8) as senders:
        statuses = list(senders.map(post, (f"single-{number}" for number in range(1000))))
    assert set(statuses) <= {202, *AGAIN}
