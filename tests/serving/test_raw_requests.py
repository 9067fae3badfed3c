"""The application behind a real HTTP server, sent what no client library would send."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
import uvicorn

from tests.serving.conftest import SMALL, Hub, event, ndjson, start


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, int]]:
    for hub in start(replace(SMALL, data=tmp_path_factory.mktemp("hub"))):
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        # Before the server runs, so that no test is too early.
        listener.listen()
        server = uvicorn.Server(uvicorn.Config(hub.app, log_level="critical", http="h11", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield hub, listener.getsockname()[1]
        server.should_exit = True
        thread.join()
        listener.close()


def exchange(port: int, sent: bytes) -> bytes:
    """What the server answers before it closes or is silent."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(sent)
        received = b""
        try:
            while b"\r\n\r\n" not in received:
                part = connection.recv(65_536)
                if not part:
                    break
                received += part
        except ConnectionResetError:
            pass
        return received


def status(received: bytes) -> int:
    """Status code of an answer."""
    return int(received.split(b" ", 2)[1])


def head(key: str, *lines: bytes, path: bytes = b"/api/v1/events", method: bytes = b"POST") -> bytes:
    """A request up to its body."""
    fixed = (b"host: hub", b"authorization: Bearer " + key.encode(), b"content-type: application/x-ndjson")
    return b"\r\n".join((method + b" " + path + b" HTTP/1.1", *fixed, *lines, b"", b""))


def chunk(content: bytes) -> bytes:
    """One chunk of a chunked body."""
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


def test_a_chunked_body_without_a_length_is_taken(served: tuple[Hub, int]) -> None:
    hub, port = served
    body = ndjson([event(number, event_id=f"chunk-{number}") for number in range(3)])
    parts = chunk(body[:100]) + chunk(body[100:]) + b"0\r\n\r\n"
    assert status(exchange(port, head(hub.key("ingest"), b"transfer-encoding: chunked") + parts)) == 202


def test_a_chunked_body_over_the_limit_is_cut_off(served: tuple[Hub, int]) -> None:
    hub, port = served
    sent = head(hub.key("ingest"), b"transfer-encoding: chunked") + chunk(b"x" * 1024 * 1024) * 3
    received = exchange(port, sent)
    assert status(received) == 413
    assert b"connection: close" in received.lower()


def test_a_body_announced_too_large_is_refused_before_it_comes(served: tuple[Hub, int]) -> None:
    hub, port = served
    assert status(exchange(port, head(hub.key("ingest"), b"content-length: 999999999999"))) == 413


def test_a_sender_that_goes_away_leaves_nothing_behind(served: tuple[Hub, int]) -> None:
    hub, port = served
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(head(hub.key("ingest"), b"content-length: 1000") + b"{")
    # The next answer comes from the same loop, after the first request was given up.
    assert status(exchange(port, head("", path=b"/api/v1/health", method=b"GET"))) == 200
    assert hub.app.state.body_budget.held_bytes in (0, 1_000)


@pytest.mark.parametrize(
    "line",
    [
        b"x-request-id: \xff\xfe",
        b"x-request-id: " + b"a" * 5_000,
        b"x-request-id: <script>",
        b"x-session-id: \xff",
        b"x-request-timeout-seconds: \xff",
        b"content-encoding: \xff",
        b"accept: \x80\x81",
        b"cookie: \xf0\x28\x8c\x28",
        b"content-type: \xff",
    ],
)
def test_header_junk_is_no_crash(served: tuple[Hub, int], line: bytes) -> None:
    hub, port = served
    received = exchange(port, head(hub.key("ingest"), line, b"content-length: 2") + b"{}")
    assert status(received) < 500
    if b"HTTP/1.1 4" not in received:
        assert b"x-hub: 1" in received
        assert b"<script>" not in received and b"aaaaaaaaaa" not in received


@pytest.mark.parametrize(
    "path",
    [b"/api/v1/events?module=%ff", b"/%00", b"/api/v1/keys/%2e%2e%2f", b"/v1/traces?tenant=%ff", b"/?" + b"a=" * 4_000],
)
def test_path_junk_is_no_crash(served: tuple[Hub, int], path: bytes) -> None:
    hub, port = served
    for method in (b"GET", b"POST", b"DELETE", b"BREW"):
        sent = head(hub.admin, b"content-length: 2", path=path, method=method) + b"{}"
        assert status(exchange(port, sent)) < 500
