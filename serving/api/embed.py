"""/api/v1/embed: what a signed link opens: one board, and the answers to that board's own questions."""

from __future__ import annotations

from typing import Final

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import Response

from cluster.clock import format_rfc3339
from cluster.errors import NotFound
from models.boards.questions import SQL
from models.boards.spec import Board, questions_of
from models.query.parameters import parse_body
from serving.answers import json_answer
from serving.api.reading import passing, port, told
from serving.auth.links import LinkGate, OpenedBoard
from serving.sql_request import parse_request

router = APIRouter(prefix="/api/v1/embed", tags=["boards"])

_SQL_ROWS: Final = 1_000
_JSON: Final = "application/json"


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
    board = msgspec.json.decode(opened.board, type=Board)
    asked = questions_of(board, list(opened.claims.filters)).get(question)
    if asked is None:
        raise NotFound("the board asks no such question", hint="Names are ids of its panels.")
    query = port(request)
    scope = opened.principal.scope
    if asked["kind"] != SQL:
        kind, pairs = parse_body(asked)
        return told(request, await query.query(scope, kind, pairs))
    state = request.app.state
    body = msgspec.json.encode({"sql": asked["sql"], "limit": asked.get("limit", _SQL_ROWS)})
    rows_max = state.settings.sql_rows_max
    statement = parse_request(body, _JSON, rows_max=rows_max, now_us=state.clock.now_us())
    return passing((await query.sql(scope, statement)).body)


async def _opened(request: Request, dashboard_id: str) -> OpenedBoard:
    gate: LinkGate = request.app.state.links
    return await gate.open(request, dashboard_id)
