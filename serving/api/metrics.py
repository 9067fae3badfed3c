"""GET /api/v1/metrics/timeseries and /aggregates, POST /api/v1/query: every kind of question."""

from __future__ import annotations

from typing import Final

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import Response

from cluster.errors import BodyUnreadable, RequestInvalid
from models.query.kinds import KIND_NAMES
from serving.api.queries import submitted
from serving.api.reading import asked, parameters, passing, port, told
from serving.auth.principal import Principal
from serving.auth.roles import Permission
from serving.limits import Bodies
from serving.query_answers import Answer, Asked
from serving.query_batch import BATCH, QUESTIONS_MAX, Batch, parse_batch, parse_question
from serving.query_port import QueryPort
from serving.query_scan import Scan, ScanTooLarge

router = APIRouter(prefix="/api/v1", tags=["reading"])

_RANGE: Final = (
    ("from", "RFC 3339 or relative (-24h), first instant inside", False),
    ("to", "RFC 3339 or relative (now), first instant outside", False),
)
_SHARED: Final = (
    ("measure", "name of a measure, see /api/v1/catalog, or NAME=EXPRESSION", True),
    ("calculate", "NAME=EXPRESSION of measures", True),
    *_RANGE,
    ("group_by", "name of a dimension", True),
    ("filter", "field:op:value or field:value", True),
)


@router.get(
    "/metrics/timeseries",
    response_model=None,
    openapi_extra=asked(
        *_SHARED,
        ("granularity", "auto, 1m, 5m, 15m, 1h, 6h or 1d", False),
        ("fill", "none, zero, null or previous", False),
        ("time_zone", "IANA name, for buckets of whole days", False),
    ),
)
async def timeseries(request: Request) -> Response:
    """Measures over time: one series for each measure and group."""
    principal = await request.app.state.authorise(request, Permission.READ)
    query = port(request)
    return told(request, await query.query(principal.scope, "timeseries", parameters(request)))


@router.get(
    "/metrics/aggregates",
    response_model=None,
    openapi_extra=asked(
        *_SHARED,
        ("having", "measure:op:number", True),
        ("order", "NAME, -NAME, NAME:asc or NAME:desc", True),
        ("limit", "rows, 1 to 10000", False),
        ("cursor", "next_cursor of the page before", False),
        ("compare", "previous, or a time back such as -7d", False),
    ),
)
async def aggregates(request: Request) -> Response:
    """Measures over a range: one row for each group."""
    principal = await request.app.state.authorise(request, Permission.READ)
    query = port(request)
    return told(request, await query.query(principal.scope, "aggregate", parameters(request)))


_QUESTION: Final = {
    "type": "object",
    "required": ["kind"],
    "properties": {
        "kind": {"type": "string", "enum": [*KIND_NAMES, BATCH]},
        "queries": {
            "description": "the questions of a batch",
            "type": "array",
            "minItems": 1,
            "maxItems": QUESTIONS_MAX,
            "items": {"type": "object", "required": ["kind"]},
        },
        "etags": {"description": "for each of them, the etag of the answer that is held", "type": "array"},
    },
    "additionalProperties": {
        "description": "a parameter of the kind; a list where it repeats",
        "anyOf": [{"type": "string"}, {"type": "number"}, {"type": "array"}, {"type": "object"}],
    },
}


@router.post(
    "/query",
    response_model=None,
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _QUESTION}}}},
)
async def post_query(request: Request) -> Response:
    """Any question of the catalogue as one JSON object: `{"kind": "top", "measure": ["cost_usd"], ...}`.

    `{"kind": "batch", "queries": [...]}` asks several, each answered or refused by itself. One that reads more events
    than one node scans is answered 202 with the job that will answer it.
    """
    state = request.app.state
    principal = await state.authorise(request, Permission.READ)
    bodies: Bodies = state.bodies
    query = port(request)
    async with bodies.body(request) as body:
        try:
            question = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise BodyUnreadable("the body is not JSON") from error
    if parameters(request):
        raise RequestInvalid("a question sent as a body takes no query parameters", hint="Put them into the body.")
    if isinstance(question, dict) and question.get("kind") == BATCH:
        batch = Batch(query, state.quotas, principal)
        text, etag = await batch.answer(parse_batch(question), state.clock.now_us())
        return told(request, Answer(text, 0, etag)) if etag else passing(text)
    kind, pairs = parse_question(question)
    try:
        wanted = await _wanted_job(request, principal, (kind, pairs))
        if wanted is None:
            return told(request, await query.query(principal.scope, kind, pairs))
    except ScanTooLarge as error:
        wanted = error.scan
    return submitted(await state.query_jobs.submit(principal, kind, pairs, wanted))


async def _wanted_job(request: Request, principal: Principal, question: Asked) -> Scan | None:
    """What the question reads, where the caller prefers a job (RFC 7240) and one would answer it."""
    preferred = {text.strip().lower() for text in request.headers.get("prefer", "").split(",")}
    if "respond-async" not in preferred:
        return None
    query: QueryPort = request.app.state.query
    return await query.scan(principal.scope, *question, now_us=request.app.state.clock.now_us())
