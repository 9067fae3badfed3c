"""Around every request: its id, the headers every answer carries, one log line, and a net for what nobody foresaw."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any, Final

import orjson
import structlog
from fastapi.responses import Response
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.clock import Clock
from cluster.telemetry import Telemetry
from serving.problem import unexpected

# Anything else is replaced: an id goes to logs and to other products.
REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_API_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"
# The documentation page of FastAPI brings its scripts from there and starts them inline.
_DOCS_POLICY: Final = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data: https://fastapi.tiangolo.com; "
    "style-src 'unsafe-inline' https://cdn.jsdelivr.net; script-src 'unsafe-inline' https://cdn.jsdelivr.net; "
    "frame-ancestors 'none'"
)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})

# Set in the scope by a server that writes the request id into every answer itself.
ID_TOLD: Final = "hub.request_id_told"

NewId = Callable[[], str]


def json_answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(body), status_code=status, media_type="application/json", headers=headers)


class Answers:
    """ASGI middleware, outermost; the application under it never lets an exception through to the server."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        clock: Clock,
        telemetry: Telemetry,
        log: Any = None,
        new_id: NewId = lambda: uuid.uuid4().hex,
    ) -> None:
        self._app = app
        self._clock = clock
        self._telemetry = telemetry
        self._log = log or structlog.get_logger("request")
        self._new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _given_id(scope) or self._new_id()
        scope.setdefault("state", {})["request_id"] = request_id
        started_s = self._clock.monotonic_s()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _complete(MutableHeaders(scope=message), scope["path"], None if ID_TOLD in scope else request_id)
            await send(message)

        failure: Exception | None = None
        self._telemetry.requests_open.inc()
        try:
            await self._app(scope, receive, send_with_headers)
        except Exception as error:
            failure = error
            if status == 0:
                # Nothing was sent yet, so the caller can still be told in our own words.
                await unexpected()(scope, receive, send_with_headers)
        finally:
            self._telemetry.requests_open.dec()
            self._tell(scope, status, self._clock.monotonic_s() - started_s, failure)

    def _tell(self, scope: Scope, status: int, took_s: float, failure: Exception | None) -> None:
        # The template, not the path: a path may hold an id or a secret, and makes a series of its own.
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._telemetry.requests.labels(route, method, str(status)).inc()
        self._telemetry.request_seconds.labels(route).observe(took_s)
        state = scope["state"]
        principal = state.get("principal")
        line = {
            "route": route,
            "method": method,
            "status": status,
            "took_ms": round(took_s * 1_000, 3),
            "request_id": state["request_id"],
            "tenant": principal.tenant if principal else None,
            "key_id": principal.key_id if principal else None,
        }
        if failure is not None:
            self._log.error("request_failed", **line, exc_info=failure)
        else:
            self._log.info("request", **line)


def _given_id(scope: Scope) -> str | None:
    given = [value for name, value in scope["headers"] if name == b"x-request-id"]
    if len(given) != 1:
        return None
    text: str = given[0].decode("latin-1")
    return text if REQUEST_ID.fullmatch(text) else None


def _complete(headers: MutableHeaders, path: str, request_id: str | None) -> None:
    # The edge takes an answer without this mark for the proxy's own and turns its 404 and 500 into 503.
    headers["x-hub"] = "1"
    if request_id is not None:
        headers["x-request-id"] = request_id
    headers.setdefault("x-content-type-options", "nosniff")
    headers.setdefault("referrer-policy", "no-referrer")
    headers.setdefault("cache-control", "no-store")
    headers.setdefault("content-security-policy", _DOCS_POLICY if path in ("/docs", "/redoc") else _API_POLICY)
