"""GET /api/v1/catalog: what may be asked."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from serving.api.reading import port, told
from serving.auth.roles import Permission

router = APIRouter(prefix="/api/v1", tags=["reading"])


@router.get("/catalog", response_model=None)
async def catalog(request: Request) -> Response:
    """Measures with unit and meaning, dimensions, filter fields and operators, modules, kinds."""
    await request.app.state.authorise(request, Permission.READ)
    query = port(request)
    return told(request, await query.catalog())
