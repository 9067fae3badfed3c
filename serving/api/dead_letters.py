"""GET /api/v1/dead-letters: rows that were refused, with the reason and what was sent."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from cluster.errors import Forbidden
from serving.api.reading import asked, parameters, port, told
from serving.auth.roles import Permission

router = APIRouter(prefix="/api/v1", tags=["reading"])


@router.get(
    "/dead-letters",
    response_model=None,
    openapi_extra=asked(
        ("reason_code", "only of this reason", False),
        ("source", "only from this door, as events or otlp.traces", False),
        ("from", "when it was received: RFC 3339 or relative, default -7d", False),
        ("to", "RFC 3339 or relative, default now", False),
        ("limit", "dead letters of a page, 1 to 200", False),
        ("cursor", "next_cursor of the page before", False),
    ),
)
async def dead_letters(request: Request) -> Response:
    """Refused rows, newest first, with their counts by reason; `next_cursor` is null on the last page."""
    principal = await request.app.state.authorise(request, Permission.READ)
    if principal.project_id is not None:
        # What could not be read has no project, so it may be another one's.
        raise Forbidden("a key of one project cannot read dead letters", hint="Use a read key of the whole tenant.")
    query = port(request)
    return told(request, await query.dead_letters(principal.scope, parameters(request)))
