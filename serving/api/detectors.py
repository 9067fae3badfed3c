"""POST /api/v1/score and GET /api/v1/detectors: what the trained models say, and which there are."""

from __future__ import annotations

from typing import Final

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response

from cluster.errors import Forbidden, RequestInvalid
from serving.api.reading import asked, parameters, passing
from serving.auth.principal import Principal
from serving.auth.roles import Permission
from serving.limits import Bodies
from serving.quotas import Quotas
from serving.score_request import parse_score
from serving.scorer import port

router = APIRouter(prefix="/api/v1", tags=["learning"])

BODY_BYTES_MAX: Final = 16 * 1024 * 1024
_BODY: Final = {
    "type": "object",
    "required": ["detector"],
    "properties": {
        "detector": {"type": "string"},
        "windows": {
            "description": "rows of values in the order of the detector's features, null where missing",
            "type": "array",
            "items": {"type": "array", "items": {"type": "array", "items": {"type": ["number", "null"]}}},
        },
        "traces": {"type": "array", "items": {"type": "object"}},
        "features": {"type": "array", "items": {"type": "string"}},
        "entity": {"description": "one for all windows, or a list with one for each", "type": ["string", "array"]},
        "start": {"description": "instant of the first row, RFC 3339; likewise", "type": ["string", "array"]},
    },
}


@router.post(
    "/score",
    response_model=None,
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _BODY}}}},
)
async def post_score(request: Request) -> Response:
    """Score the last row of each window with the champion of the tenant; the answer names its version."""
    state = request.app.state
    principal = await state.authorise(request, Permission.ANOMALIES)
    whole_tenant(principal)
    quotas: Quotas = state.quotas
    quotas.take_question(principal)
    bodies: Bodies = state.bodies
    async with bodies.body(request, sent_max=BODY_BYTES_MAX) as body:
        told = parse_score(body)
    return passing(orjson.dumps(await port(state.scorer).score(principal.scope, told)))


@router.get("/detectors", response_model=None, openapi_extra=asked())
async def get_detectors(request: Request) -> Response:
    """Every kind of detector with its versions, its champion, the training runs and their figures."""
    state = request.app.state
    principal = await state.authorise(request, Permission.ANOMALIES)
    whole_tenant(principal)
    if parameters(request):
        raise RequestInvalid("this route takes no parameters")
    return passing(orjson.dumps(await port(state.scorer).detectors(principal.scope)))


def whole_tenant(principal: Principal) -> None:
    """Raises Forbidden: the key is of one project; models and anomalies are of all rows of a tenant."""
    if principal.project_id is not None:
        raise Forbidden("a key of one project cannot read models or anomalies", hint="Use a key of the whole tenant.")
