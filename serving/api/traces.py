"""GET /api/v1/traces and /api/v1/traces/{trace_id}."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from cluster.errors import RequestInvalid
from serving.api.reading import asked, parameters, port, told
from serving.auth.roles import Permission

router = APIRouter(prefix="/api/v1/traces", tags=["reading"])


@router.get(
    "",
    response_model=None,
    openapi_extra=asked(
        ("filter", "field:op:value or field:value; traces with an event that passes all", True),
        ("from", "RFC 3339 or relative, default -1h", False),
        ("to", "RFC 3339 or relative, default now", False),
        ("limit", "traces, 1 to 1000", False),
    ),
)
async def traces(request: Request) -> Response:
    """Traces, the last started first, with size, cost and outcome."""
    principal = await request.app.state.authorise(request, Permission.READ)
    query = port(request)
    return told(request, await query.traces(principal.scope, parameters(request)))


@router.get("/{trace_id}", response_model=None)
async def trace(request: Request, trace_id: str) -> Response:
    """One trace over all modules: spans depth first, totals, critical path."""
    principal = await request.app.state.authorise(request, Permission.READ)
    if parameters(request):
        raise RequestInvalid("a trace takes no query parameters")
    query = port(request)
    return told(request, await query.trace(principal.scope, trace_id))
