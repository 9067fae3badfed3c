"""A hub's event door on a real port: real decoding, real receipts, real problems, and the ways in which it can fail."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cluster.clock import SystemClock
from cluster.contract.decode import DecodeContext, decode
from cluster.contract.inflate import inflate
from cluster.errors import HubError, ShardFull, Unauthenticated, Unavailable
from serving import problem
from tests.cluster.sdk.events import KEY

_MIB = 1024 * 1024

Answer = tuple[int, dict[str, str], bytes]
# What comes before the usual answer; it may give its own, or None to go on.
Turn = Callable[["Door", bytes], Answer | None]


def refused_with(error: HubError) -> Turn:
    """The hub's own answer to an error."""
    return lambda door, body: _problem(error)


def busy(seconds: float = 1.0) -> Turn:
    """429 with Retry-After."""
    return refused_with(ShardFull("shard 0 is full", retry_after_s=seconds))


def unavailable() -> Turn:
    """503 with Retry-After."""
    return refused_with(Unavailable("shard 0 restarts", retry_after_s=1.0))


def plain(status: int, content: bytes = b"<html>proxy</html>") -> Turn:
    """What something between would answer."""
    return lambda door, body: (status, {"content-type": "text/html"}, content)


def cut(door: Door, body: bytes) -> Answer | None:
    """The rows are taken, and the connection ends in the middle of the receipt."""
    status, headers, content = door.take(body)
    return status, {**headers, "x-cut": str(len(content) // 2)}, content


class Door:
    """One hub; `turns` are used up one by each request, then `always` decides, then it answers as a hub does."""

    def __init__(self, *turns: Turn, port: int = 0) -> None:
        self.turns = deque(turns)
        self.always: Turn | None = None
        self.key = KEY
        self.rows_max = 200_000
        self.ids: Counter[str] = Counter()
        self.rows: list[dict[str, Any]] = []
        self.bodies: list[list[str]] = []
        self.requests: list[tuple[float, str, dict[str, str], bytes]] = []
        self.turn = threading.Condition()
        self.port = port
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Door:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.shut()

    def open(self) -> None:
        """Listen; on the same port as before."""
        door = self

        class Handler(_Handler):
            hub = door

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def shut(self) -> None:
        """Refuse connections."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def wait_for_requests(self, count: int) -> None:
        """Until that many have come."""
        with self.turn:
            assert self.turn.wait_for(lambda: len(self.requests) >= count, 60)

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        with self.turn:
            self.requests.append((time.monotonic(), path, headers, body))
            self.turn.notify_all()
            turn = self.turns.popleft() if self.turns else self.always
            if turn is not None and (given := turn(self, self._plain(headers, body))) is not None:
                return given
            if headers.get("authorization") != f"Bearer {self.key}":
                return _problem(Unauthenticated("no such key"))
            if path.startswith("/api/v1/query"):
                return 200, {"content-type": "application/json"}, json.dumps({"asked": json.loads(body)}).encode()
            return self.take(self._plain(headers, body))

    def take(self, body: bytes) -> Answer:
        """Rows in, as the door of a hub does it."""
        context = DecodeContext(tenant_id="default", region="local", received_at_us=SystemClock().now_us())
        try:
            decoded = decode(body, content_type="application/x-ndjson", context=context)
        except HubError as error:
            return _problem(error)
        ids = decoded.events.column("event_id").to_pylist()
        fresh = [one for one in ids if not self.ids[one]]
        self.ids.update(ids)
        self.bodies.append(ids)
        self.rows += [row for row in decoded.events.to_pylist() if row["event_id"] in set(fresh)]
        answer = {
            "accepted": len(fresh),
            "repeated": len(ids) - len(fresh),
            "refused": decoded.dead_letters.num_rows,
            "errors": [
                {"index": one.index, "code": one.code, "message": one.message} for one in decoded.refusals[:100]
            ],
        }
        return 202, {"content-type": "application/json"}, json.dumps(answer).encode()

    @staticmethod
    def _plain(headers: dict[str, str], body: bytes) -> bytes:
        encoding = headers.get("content-encoding")
        return inflate(body, encoding, sent_max=32 * _MIB, inflated_max=128 * _MIB, ratio_max=200)


def _problem(error: HubError) -> Answer:
    answer = problem.answer(error)
    return answer.status_code, dict(answer.headers), bytes(answer.body)


class _Handler(BaseHTTPRequestHandler):
    hub: Door
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, extra, content = self.hub.answer(self.path, headers, body)
        kept = extra.pop("x-cut", None)
        self.send_response(status)
        for name, value in extra.items():
            if name.lower() != "content-length":
                self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        if kept is None:
            self.wfile.write(content)
            return
        self.wfile.write(content[: int(kept)])
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""
