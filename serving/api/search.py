"""GET /api/v1/events/search: events, newest first."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from serving.api.reading import asked, parameters, port, told
from serving.auth.roles import Permission

router = APIRouter(prefix="/api/v1/events", tags=["reading"])


@router.get(
    "/search",
    response_model=None,
    openapi_extra=asked(
        ("filter", "field:op:value or field:value", True),
        ("q", "free text in payload and attributes, or an id", False),
        ("from", "RFC 3339 or relative, default -7d", False),
        ("to", "RFC 3339 or relative, default now", False),
        ("limit", "events of a page, 1 to 1000", False),
        ("cursor", "next_cursor of the page before", False),
    ),
)
async def search(request: Request) -> Response:
    """Events that pass all filters and hold the text, newest first; `next_cursor` is null on the last page."""
    principal = await request.app.state.authorise(request, Permission.READ)
    query = port(request)
    return told(request, await query.search(principal.scope, parameters(request)))
