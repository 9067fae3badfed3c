"""POST /api/v1/sql: read-only SQL over the tenant's own rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Final

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from cluster.errors import HubError, RequestInvalid
from serving.api.reading import parameters, port
from serving.auth.roles import Permission
from serving.limits import Bodies
from serving.problem import problem
from serving.sql_job import SqlForm, SqlPart, SqlRows
from serving.sql_request import NotAcceptable, SqlRequest, parse_request

router = APIRouter(prefix="/api/v1", tags=["reading"])

_log = structlog.get_logger(__name__)

_NOT_ACCEPTABLE: Final = 406
# Nobody reads it: the asker closed the connection. The number is nginx's.
_CLIENT_GONE: Final = 499
_STATEMENT: Final = {
    "type": "object",
    "required": ["sql"],
    "additionalProperties": False,
    "properties": {
        "sql": {
            "type": "string",
            "description": "one SELECT over events, rollup_1m, rollup_1h, rollup_1d, dead_letters",
        },
        "parameters": {"description": "values of ? in their order, or of $name", "type": ["array", "object", "null"]},
        "view": {"description": "what a board is looked at through: from, to, where", "type": ["object", "null"]},
        "limit": {"type": ["integer", "null"], "minimum": 1, "description": "most rows"},
        "as_of": {"description": "a time, or versions of tables", "type": ["string", "integer", "object", "null"]},
    },
}


@router.post(
    "/sql",
    response_model=None,
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _STATEMENT}}}},
)
async def sql(request: Request) -> Response:
    """The rows of one SELECT as JSON, CSV or an Arrow stream, as the Accept header says; a long answer in parts."""
    state = request.app.state
    principal = await state.authorise(request, Permission.READ)
    bodies: Bodies = state.bodies
    query = port(request)
    if parameters(request):
        raise RequestInvalid("SQL is sent as a body and takes no query parameters", hint="Put them into the body.")
    async with bodies.body(request) as body:
        try:
            asked = parse_request(
                body,
                request.headers.get("accept", ""),
                rows_max=state.settings.sql_rows_max,
                now_us=state.clock.now_us(),
            )
        except NotAcceptable as error:
            return problem(_NOT_ACCEPTABLE, error.code, error.message, hint=error.hint)
    parts = query.sql(principal.scope, asked)
    leaving = asyncio.create_task(_left(request))
    first: SqlPart | SqlRows | None = None
    try:
        first = await _next(parts, leaving)
    finally:
        if not isinstance(first, SqlPart):
            leaving.cancel()
            await parts.aclose()
    if isinstance(first, SqlPart):
        return _InParts(first, parts, leaving, asked)
    return Response(status_code=_CLIENT_GONE) if first is None else _whole(first, asked.form)


class _InParts(Response):
    """An answer too long to be held whole: its rows while the statement still runs.

    What goes wrong after the first part can no longer be told by a status: the answer is cut, and no HTTP client takes
    it for a whole one.
    """

    def __init__(
        self,
        first: SqlPart,
        parts: AsyncGenerator[SqlPart | SqlRows],
        leaving: asyncio.Task[None],
        asked: SqlRequest,
    ) -> None:
        self._first, self._parts, self._leaving = first, parts, leaving
        # How many rows there are is not known yet; as many as this may be those of a longer answer.
        told = {"x-row-limit": str(asked.limit), **_headers(first.versions)}
        super().__init__(media_type=asked.form.value, headers=told)
        # Of no body, which this one is not.
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        part: SqlPart | SqlRows | None = self._first
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while isinstance(part, SqlPart):
                await send({"type": "http.response.body", "body": part.body, "more_body": True})
                part = await _next(self._parts, self._leaving)
            if part is not None:
                await send({"type": "http.response.body", "body": part.body, "more_body": False})
        except HubError as error:
            # Without its end, which is what tells the client.
            _log.warning("answer_cut", code=error.code)
        finally:
            self._leaving.cancel()
            await self._parts.aclose()


async def _next(parts: AsyncGenerator[SqlPart | SqlRows], leaving: asyncio.Task[None]) -> SqlPart | SqlRows | None:
    """The next of the parts; None, and the statement ended, where the client has gone away."""
    asking = asyncio.ensure_future(anext(parts))
    try:
        await asyncio.wait((asking, leaving), return_when=asyncio.FIRST_COMPLETED)
        return asking.result() if asking.done() else None
    finally:
        # A statement that nobody waits for ends.
        if not asking.done():
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)


async def _left(request: Request) -> None:
    """Returns when the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _whole(rows: SqlRows, form: SqlForm) -> Response:
    told = {"x-row-count": str(rows.row_count), "x-truncated": str(rows.truncated).lower()}
    return Response(rows.body, media_type=form.value, headers={**told, **_headers(rows.versions)})


def _headers(versions: Mapping[str, int]) -> dict[str, str]:
    return {
        "x-versions": ",".join(f"{name}={version}" for name, version in versions.items()),
        # `now()` and `random()` differ each time, so there is no ETag to compare.
        "cache-control": "private, no-store",
        "vary": "Accept",
    }
