"""HubError -> problem+json (RFC 9457), and the only table of status codes."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any, Final

import grpc
import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from cluster.errors import Busy, HubError

MEDIA_TYPE: Final = "application/problem+json"
_DETAIL_LENGTH_MAX: Final = 1_000
# An error that will pass but does not say when: a restarted shard is back within this time.
_RETRY_AFTER_S: Final = 2.0

# code -> HTTP status, gRPC status. Only 429 and 503 invite to send the same again, and OTLP exporters act on that.
STATUS: Final[dict[str, tuple[int, grpc.StatusCode]]] = {
    "body_unreadable": (400, grpc.StatusCode.INVALID_ARGUMENT),
    "body_too_large": (413, grpc.StatusCode.INVALID_ARGUMENT),
    "media_type_unsupported": (415, grpc.StatusCode.INVALID_ARGUMENT),
    "unauthenticated": (401, grpc.StatusCode.UNAUTHENTICATED),
    "forbidden": (403, grpc.StatusCode.PERMISSION_DENIED),
    "not_found": (404, grpc.StatusCode.NOT_FOUND),
    "request_invalid": (422, grpc.StatusCode.INVALID_ARGUMENT),
    "scan_too_large": (422, grpc.StatusCode.INVALID_ARGUMENT),
    "conflict": (409, grpc.StatusCode.ALREADY_EXISTS),
    "version_changed": (412, grpc.StatusCode.ABORTED),
    "series_invalid": (422, grpc.StatusCode.INVALID_ARGUMENT),
    "spans_invalid": (422, grpc.StatusCode.INVALID_ARGUMENT),
    "not_enough_data": (422, grpc.StatusCode.FAILED_PRECONDITION),
    "detector_unknown": (422, grpc.StatusCode.INVALID_ARGUMENT),
    "not_trained": (409, grpc.StatusCode.FAILED_PRECONDITION),
    # Nobody's request is at fault, and nothing that is sent again helps: somebody has to look at the model.
    "model_refused": (409, grpc.StatusCode.FAILED_PRECONDITION),
    "model_unreadable": (409, grpc.StatusCode.FAILED_PRECONDITION),
    "busy": (429, grpc.StatusCode.RESOURCE_EXHAUSTED),
    "shard_full": (429, grpc.StatusCode.RESOURCE_EXHAUSTED),
    "rate_limited": (429, grpc.StatusCode.RESOURCE_EXHAUSTED),
    "unavailable": (503, grpc.StatusCode.UNAVAILABLE),
    # Nothing was acknowledged, so the sender keeps the batch until an operator has mended the disk or the journal.
    "journal_failed": (503, grpc.StatusCode.UNAVAILABLE),
    "journal_corrupt": (503, grpc.StatusCode.UNAVAILABLE),
    "query_timeout": (504, grpc.StatusCode.DEADLINE_EXCEEDED),
    "internal": (500, grpc.StatusCode.INTERNAL),
}

# What the framework itself answers, in the same words.
_OF_FRAMEWORK: Final[dict[int, tuple[str, str]]] = {
    404: ("not_found", "GET /openapi.json lists every path."),
    405: ("method_not_allowed", "The Allow header lists the methods of this path."),
    413: ("body_too_large", ""),
}


def status_of(error: HubError) -> int:
    """HTTP status of an error; 500 for a code without a row in the table."""
    return STATUS.get(error.code, STATUS["internal"])[0]


def grpc_status_of(error: HubError) -> grpc.StatusCode:
    """gRPC status of an error."""
    return STATUS.get(error.code, STATUS["internal"])[1]


def unwrapped(error: HubError) -> HubError:
    """The error itself: one that crossed an actor border comes inside Ray's own exception."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, HubError) else error


def retry_after_s(error: HubError) -> float | None:
    """Seconds after which the same request may succeed; None where it never will."""
    if isinstance(error, Busy):
        return max(0.0, error.retry_after_s)
    return _RETRY_AFTER_S if status_of(error) in (429, 503) else None


def message_of(error: HubError) -> str:
    """What the sender is told; a failure of our own tells nothing of its inside."""
    if status_of(error) == HTTPStatus.INTERNAL_SERVER_ERROR:
        return "The hub failed at this request. The log of the hub names the cause under the request id."
    return error.message[:_DETAIL_LENGTH_MAX]


def headers_of(error: HubError) -> dict[str, str]:
    """Headers that belong to an error whatever the form of its body."""
    headers: dict[str, str] = {}
    wait_s = retry_after_s(error)
    if wait_s is not None:
        # Whole seconds, at least one: some clients read 0 as "at once".
        headers["Retry-After"] = str(max(1, math.ceil(wait_s)))
    status = status_of(error)
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="llmhub"'
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        # The rest of the body is not read, so the connection cannot carry another request.
        headers["Connection"] = "close"
    return headers


def problem(
    status: int, code: str, detail: str, *, hint: str = "", headers: dict[str, str] | None = None, **more: Any
) -> Response:
    """One problem+json answer."""
    body = {
        "type": f"urn:llmhub:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "hint": hint,
        **more,
    }
    return Response(orjson.dumps(body), status_code=status, media_type=MEDIA_TYPE, headers=headers)


def answer(error: HubError) -> Response:
    """The problem+json answer to an error."""
    error = unwrapped(error)
    return problem(status_of(error), error.code, message_of(error), hint=error.hint, headers=headers_of(error))


def unexpected() -> Response:
    """The answer to a failure nobody foresaw."""
    return answer(HubError(""))


def install(app: FastAPI) -> None:
    """Answer every error of the application in this form."""
    app.add_exception_handler(HubError, _on_hub_error)
    app.add_exception_handler(HTTPException, _on_framework_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)


async def _on_hub_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HubError)
    return answer(error)


async def _on_framework_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code, hint = _OF_FRAMEWORK.get(error.status_code, ("request_invalid", ""))
    if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        code = "internal"
    headers = dict(error.headers) if error.headers else None
    return problem(error.status_code, code, str(error.detail)[:_DETAIL_LENGTH_MAX], hint=hint, headers=headers)


async def _on_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # Where and why, never `input`: it may be a secret, and it may be 32 MiB.
    faults = [
        {"at": ".".join(str(part) for part in fault["loc"])[:200], "message": str(fault["msg"])[:200]}
        for fault in error.errors()[:20]
    ]
    first = f"{faults[0]['at']}: {faults[0]['message']}" if faults else "the request is not valid"
    return problem(422, "request_invalid", first, hint="GET /openapi.json describes each parameter.", errors=faults)
