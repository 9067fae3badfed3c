"""POST /v1/traces, /v1/logs, /v1/metrics: OTLP/HTTP in protobuf and JSON."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from cluster.errors import HubError
from serving.auth.roles import Permission
from serving.limits import Bodies
from serving.otlp_answers import JSON, PROTOBUF, SIGNALS, encoded, export_response, status_of_error
from serving.problem import headers_of, status_of, unwrapped
from serving.reception import Reception

router = APIRouter(tags=["opentelemetry"])

_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            PROTOBUF: {"schema": {"type": "string", "format": "binary"}},
            JSON: {"schema": {"type": "object"}},
        },
    }
}


@router.post("/v1/traces", openapi_extra=_BODY, response_model=None)
async def post_traces(request: Request) -> Response:
    """Spans."""
    return await _export(request, "traces")


@router.post("/v1/logs", openapi_extra=_BODY, response_model=None)
async def post_logs(request: Request) -> Response:
    """Log records."""
    return await _export(request, "logs")


@router.post("/v1/metrics", openapi_extra=_BODY, response_model=None)
async def post_metrics(request: Request) -> Response:
    """Metric points."""
    return await _export(request, "metrics")


async def _export(request: Request, name: str) -> Response:
    content_type = request.headers.get("content-type", "")
    bodies: Bodies = request.app.state.bodies
    reception: Reception = request.app.state.reception
    try:
        principal = await request.app.state.authorise(request, Permission.INGEST)
        async with bodies.events(request, principal) as body:
            receipt = await reception.otlp(
                principal,
                body,
                signal=name,
                content_type=content_type,
                encoding=request.headers.get("content-encoding", ""),
            )
    except HubError as raised:
        # Exporters read google.rpc.Status, not problem+json.
        error = unwrapped(raised)
        content, media_type = encoded(status_of_error(error), content_type)
        return Response(content, status_code=status_of(error), media_type=media_type, headers=headers_of(error))
    content, media_type = encoded(export_response(SIGNALS[name], receipt), content_type)
    return Response(content, media_type=media_type)
