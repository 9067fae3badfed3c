"""POST /api/v1/hooks/{litellm,mlflow,langfuse}: what those products send on their own account."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from serving.answers import json_answer
from serving.api.events import receipt_json
from serving.auth.roles import Permission
from serving.limits import Bodies
from serving.reception import Reception

router = APIRouter(tags=["hooks"])

_OBJECTS: Final = {"schema": {"anyOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]}}
_BODY: Final[dict[str, Any]] = {"requestBody": {"required": True, "content": {"application/json": _OBJECTS}}}


@router.post("/api/v1/hooks/litellm", status_code=202, openapi_extra=_BODY, response_model=None)
async def post_litellm(request: Request) -> Response:
    """LiteLLM's generic API callback: one StandardLoggingPayload, an array of them, or one a line."""
    return await _take(request, "litellm")


@router.post("/api/v1/hooks/mlflow", status_code=202, openapi_extra=_BODY, response_model=None)
async def post_mlflow(request: Request) -> Response:
    """MLflow's webhooks; signed, where the hub has their secret."""
    return await _take(request, "mlflow")


@router.post("/api/v1/hooks/langfuse", status_code=202, openapi_extra=_BODY, response_model=None)
async def post_langfuse(request: Request) -> Response:
    """A batch of Langfuse's ingestion API."""
    return await _take(request, "langfuse")


async def _take(request: Request, product: str) -> Response:
    request = _with_password_as_key(request)
    principal = await request.app.state.authorise(request, Permission.INGEST)
    bodies: Bodies = request.app.state.bodies
    reception: Reception = request.app.state.reception
    async with bodies.events(request, principal) as body:
        receipt = await reception.hook(principal, body, product=product, headers=dict(request.headers))
    return json_answer(receipt_json(receipt), 202)


def _with_password_as_key(request: Request) -> Request:
    """The request, the password of basic authentication taken for the key.

    Langfuse's SDKs know no other form, and MLflow knows no header at all: its webhook's URL says `user:KEY@host`.
    """
    # What is noted on one of the two, the log reads on the other.
    state = request.scope.setdefault("state", {})
    headers = [(name, _bearer(name, value)) for name, value in request.scope["headers"]]
    return Request({**request.scope, "headers": headers, "state": state}, request.receive)


def _bearer(name: bytes, value: bytes) -> bytes:
    scheme, _, rest = value.strip().partition(b" ")
    if name != b"authorization" or scheme.lower() != b"basic":
        return value
    try:
        _, _, password = base64.b64decode(rest.strip(), validate=True).partition(b":")
    except binascii.Error:
        # Not of the form; it is refused as such.
        return value
    return b"Bearer " + password
