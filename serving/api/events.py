"""POST /api/v1/events: rows of NDJSON, JSON, Arrow or Parquet."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from serving.answers import json_answer
from serving.auth.roles import Permission
from serving.limits import Bodies
from serving.reception import Receipt, Reception

router = APIRouter(tags=["events"])

_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-ndjson": {"schema": {"type": "string"}},
            "application/json": {
                "schema": {"anyOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]}
            },
            "application/vnd.apache.arrow.stream": _BINARY,
            "application/vnd.apache.parquet": _BINARY,
        },
    }
}


@router.post("/api/v1/events", status_code=202, openapi_extra=_BODY, response_model=None)
async def post_events(request: Request, module: str | None = None) -> Response:
    """Take rows in; 202 once every one of them is journaled or kept as a dead letter.

    `accepted + repeated + refused` equals the rows sent. A row may be sent again at any time: it is recognised by
    `event_id`, and counts as repeated. The ids of rows without one follow from the header `Idempotency-Key` and their
    place in the body; without that header, from what they say.
    """
    principal = await request.app.state.authorise(request, Permission.INGEST)
    bodies: Bodies = request.app.state.bodies
    reception: Reception = request.app.state.reception
    async with bodies.events(request, principal) as body:
        receipt = await reception.events(
            principal,
            body,
            content_type=request.headers.get("content-type", ""),
            encoding=request.headers.get("content-encoding", ""),
            module=module,
            idempotency_key=request.headers.get("idempotency-key"),
        )
    return json_answer(receipt_json(receipt), 202)


def receipt_json(receipt: Receipt) -> dict[str, Any]:
    """The answer of the event doors."""
    return {
        "accepted": receipt.accepted,
        "repeated": receipt.repeated,
        "refused": receipt.refused,
        "errors": [{"index": r.index, "code": r.code, "message": r.message} for r in receipt.refusals[:100]],
    }
