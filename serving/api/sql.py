"""POST /api/v1/sql: read-only SQL over the tenant's own rows."""

from __future__ import annotations

import asyncio
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from cluster.errors import RequestInvalid
from serving.api.reading import parameters, port
from serving.auth.roles import Permission
from serving.limits import Bodies
from serving.problem import problem
from serving.sql_job import SqlForm, SqlRows
from serving.sql_request import NotAcceptable, parse_request

router = APIRouter(prefix="/api/v1", tags=["reading"])

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
    """The rows of one SELECT as JSON, CSV or an Arrow stream, as the Accept header says."""
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
    asking = asyncio.ensure_future(query.sql(principal.scope, asked))
    leaving = asyncio.create_task(_left(request))
    try:
        await asyncio.wait((asking, leaving), return_when=asyncio.FIRST_COMPLETED)
        return _told(asking.result(), asked.form) if asking.done() else Response(status_code=_CLIENT_GONE)
    finally:
        # A statement that nobody waits for ends.
        asking.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    """Returns when the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _told(rows: SqlRows, form: SqlForm) -> Response:
    headers = {
        "x-row-count": str(rows.row_count),
        "x-truncated": str(rows.truncated).lower(),
        "x-versions": ",".join(f"{name}={version}" for name, version in rows.versions.items()),
        # `now()` and `random()` differ each time, so there is no ETag to compare.
        "cache-control": "private, no-store",
        "vary": "Accept",
    }
    return Response(rows.body, media_type=form.value, headers=headers)
