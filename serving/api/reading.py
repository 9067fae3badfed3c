"""What every reading route does alike: the texts it was asked, and the answer with its version as ETag."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Request
from fastapi.responses import Response

from cluster.errors import Unavailable
from serving.query_answers import Answer
from serving.query_port import QueryPort
from serving.quotas import Quotas

# Read by the door itself before any question is looked at.
_OF_THE_DOOR: Final = frozenset({"tenant"})
_NO_ENGINE_RETRY_S: Final = 5.0


def parameters(request: Request) -> tuple[tuple[str, str], ...]:
    """The query string as (name, text) pairs, without what the door itself reads."""
    return tuple((name, text) for name, text in request.query_params.multi_items() if name not in _OF_THE_DOOR)


def port(request: Request) -> QueryPort:
    """The query engine of this hub, for one question of the principal that was authorised.

    Raises:
        Unavailable: the hub runs doors only.
        RateLimited: its tenant has asked too often.
    """
    query: QueryPort | None = request.app.state.query
    if query is None:
        raise Unavailable("this hub answers no questions", retry_after_s=_NO_ENGINE_RETRY_S)
    quotas: Quotas = request.app.state.quotas
    quotas.take_question(request.state.principal)
    return query


def told(request: Request, answer: Answer) -> Response:
    """The answer, or 304 when the caller already has it."""
    headers = {"etag": answer.etag, "cache-control": "private, no-cache"}
    held = {text.strip().removeprefix("W/") for text in request.headers.get("if-none-match", "").split(",")}
    if answer.etag in held or "*" in held:
        return Response(status_code=304, headers=headers)
    return Response(answer.body, media_type="application/json", headers=headers)


def passing(body: bytes) -> Response:
    """An answer that a moment later may be another: nothing to compare it by."""
    return Response(body, media_type="application/json", headers={"cache-control": "private, no-store"})


def asked(*names: tuple[str, str, bool]) -> dict[str, Any]:
    """OpenAPI entry of query parameters (name, meaning, repeatable); routes read them raw, to refuse unknown ones."""
    text: dict[str, Any] = {"type": "string"}
    return {
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": False,
                "description": meaning,
                "schema": {"type": "array", "items": text} if repeatable else text,
            }
            for name, meaning, repeatable in names
        ]
    }
