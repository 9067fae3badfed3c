"""/api/v1/embed: what a signed link opens: one board, and the answers to that board's own questions."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import Response

from cluster.clock import format_rfc3339
from cluster.errors import BodyUnreadable, HubError, NotFound, RequestInvalid
from models.boards.questions import SQL, Question
from models.boards.spec import Board, questions_of
from models.query.parameters import parse_body
from serving.answers import json_answer
from serving.api.reading import passing, port, told
from serving.auth.links import LinkGate, OpenedBoard
from serving.limits import Bodies
from serving.query_answers import Answer
from serving.query_batch import QUESTIONS_MAX, Batch, Outcome, parse_etags, written
from serving.sql_answers import whole
from serving.sql_job import SqlRows
from serving.sql_request import parse_request

router = APIRouter(prefix="/api/v1/embed", tags=["boards"])

_SQL_ROWS: Final = 1_000
_JSON: Final = "application/json"
_NAMES_BYTES_MAX: Final = 64 * 1024
_NAMED: Final = {
    "requestBody": {
        "required": True,
        "content": {_JSON: {"schema": {"type": "object", "required": ["questions"]}}},
    }
}


@router.get("/{dashboard_id}", response_model=None)
async def opened_board(request: Request, dashboard_id: str) -> Response:
    """The board that the token in `Authorization: Bearer TOKEN` opens."""
    opened = await _opened(request, dashboard_id)
    claims = opened.claims
    return json_answer(
        {
            "dashboard_id": dashboard_id,
            "version": claims.version,
            "filters": list(claims.filters),
            "expires_at": format_rfc3339(claims.expires_at_us),
            "board": msgspec.json.decode(opened.board),
        }
    )


@router.get("/{dashboard_id}/answers/{question}", response_model=None)
async def opened_answer(request: Request, dashboard_id: str, question: str) -> Response:
    """The answer to one question of that board: `PANEL`, `PANEL.before`, `kpis.now` or `kpis.course`."""
    opened = await _opened(request, dashboard_id)
    asked = _asked(_questions(opened), question)
    query = port(request)
    if asked["kind"] == SQL:
        return passing((await _rows(request, opened, asked)).body)
    kind, pairs = parse_body(asked)
    return told(request, await query.query(opened.principal.scope, kind, pairs))


@router.post("/{dashboard_id}/answers", response_model=None, openapi_extra=_NAMED)
async def opened_answers(request: Request, dashboard_id: str) -> Response:
    """The answers to several questions of that board by their names, told as those of a batch are."""
    opened = await _opened(request, dashboard_id)
    bodies: Bodies = request.app.state.bodies
    async with bodies.body(request, sent_max=_NAMES_BYTES_MAX) as body:
        names, etags = _named(body)
    query = port(request)
    state = request.app.state
    batch = Batch(query, state.quotas, opened.principal)
    asks = _questions(opened)
    found: dict[int, Outcome] = {}
    plain: dict[int, Question] = {}
    statements: dict[int, Question] = {}
    for place, name in enumerate(names):
        try:
            asked = _asked(asks, name)
        except NotFound as error:
            found[place] = error
            continue
        (statements if asked["kind"] == SQL else plain)[place] = asked
    answers = await batch.outcomes(list(plain.values()), state.clock.now_us(), taken=1)
    found.update(zip(plain, answers, strict=True))
    for place, asked in statements.items():
        # One after the other: a board has one place in its tenant's queue.
        found[place] = await _rows_or_refusal(request, opened, asked)
    text, etag = written([found[place] for place in range(len(names))], etags)
    return told(request, Answer(text, 0, etag)) if etag else passing(text)


def _named(body: bytes) -> tuple[list[str], list[str | None]]:
    """The names of the questions, and the ETag of the answer that is held to each."""
    try:
        given = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BodyUnreadable("the body is not JSON", hint='Send {"questions": ["kpis.now"]}.') from error
    names = given.get("questions") if isinstance(given, dict) else None
    if not isinstance(names, list) or not 1 <= len(names) <= QUESTIONS_MAX or {type(one) for one in names} != {str}:
        raise RequestInvalid(
            f"questions is not a list of 1 to {QUESTIONS_MAX} names", hint="Names are ids of the board's panels."
        )
    return names, parse_etags(given.get("etags"), len(names))


def _questions(opened: OpenedBoard) -> dict[str, Question]:
    board = msgspec.json.decode(opened.board, type=Board)
    return questions_of(board, list(opened.claims.filters))


def _asked(asks: dict[str, Question], name: str) -> Question:
    asked = asks.get(name)
    if asked is None:
        raise NotFound("the board asks no such question", hint="Names are ids of its panels.")
    return asked


async def _rows_or_refusal(request: Request, opened: OpenedBoard, asked: dict[str, Any]) -> Outcome:
    try:
        request.app.state.quotas.take_question(opened.principal)
        return await _rows(request, opened, asked)
    except HubError as error:
        return error


async def _rows(request: Request, opened: OpenedBoard, asked: dict[str, Any]) -> SqlRows:
    state = request.app.state
    body = msgspec.json.encode({"sql": asked["sql"], "limit": asked.get("limit", _SQL_ROWS), "view": asked.get("view")})
    rows_max = state.settings.sql_rows_max
    statement = parse_request(body, _JSON, rows_max=rows_max, now_us=state.clock.now_us())
    return await whole(state.query.sql(opened.principal.scope, statement))


async def _opened(request: Request, dashboard_id: str) -> OpenedBoard:
    gate: LinkGate = request.app.state.links
    return await gate.open(request, dashboard_id)
