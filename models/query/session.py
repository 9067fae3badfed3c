"""One session: who, when, what it cost, and its traces, whose numbers always add up to the session's.

A session has the events that name it, and those of its traces that name no session: a gateway's event of a call knows
the trace, and often not the session.
"""
# ruff: noqa: S608 (the text is ours, every value is bound: models/query/sql.py)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from cluster.errors import NotFound, RequestInvalid
from models.measures import MEASURES
from models.query.answer import number
from models.query.pages import Page, parse_page
from models.query.parameters import Parameters, collect, one
from models.query.plan import Plan
from models.query.search import inside
from models.query.source import Context, Source
from models.query.sql import Fragment, Run, bound, placed
from models.query.times import Range, format_instant, parse_range
from models.query.traces import ENDED_US, SUMMARY, trace_json

LIMIT_MAX: Final = 1_000
REASON: Final = "only raw events have session_id"
_DEFAULT_LIMIT: Final = 100
_DEFAULT_FROM: Final = "-30d"
_ID_LENGTH_MAX: Final = 512
# Users, modules and models that are listed; more are counted.
_LISTED_MAX: Final = 100
_MEASURES: Final = (
    *("event_count", "request_count", "error_count", "error_ratio", "input_tokens", "output_tokens", "total_tokens"),
    *("cost_usd", "latency_ms_avg", "latency_ms_p95", "latency_ms_max", "guardrail_count", "guardrail_block_ratio"),
)


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """A checked question for one session; what of it lies outside the range is not told."""

    session_id: str
    span: Range
    page: Page


def parse_session(parameters: Parameters, context: Context) -> SessionRequest:
    """`session_id`, range, `limit` and `cursor` of its traces.

    Raises:
        RequestInvalid: a parameter is unknown or does not fit.
    """
    given = collect(parameters, known=("session_id", "from", "to", "limit", "cursor"), repeated=frozenset())
    session_id = one(given, "session_id", "")
    if not 1 <= len(session_id) <= _ID_LENGTH_MAX:
        raise RequestInvalid(f"session_id has 1 to {_ID_LENGTH_MAX} characters", hint="Add session_id=ID.")
    return SessionRequest(
        session_id,
        parse_range(one(given, "from", _DEFAULT_FROM), one(given, "to", "now"), now_us=context.now_us),
        parse_page(given, most=LIMIT_MAX, default=_DEFAULT_LIMIT),
    )


def session(request: SessionRequest, plans: tuple[Plan, ...], source: Source) -> dict[str, Any]:
    """Times, users, models, `values` of the session's measures, and a page of `traces`, the last started first.

    Raises:
        NotFound: no event that may be seen names the session.
    """
    rows = _rows(request, source.events(request.span))
    (told,) = source.run(_summary(rows)).dicts()
    if not told["event_count"]:
        raise NotFound(
            f"no session {request.session_id[:80]!r} in the range",
            hint="from is -30d by default. An event is found within seconds of its acknowledgement.",
        )
    traces, cursor = _traces(request, rows, source.run)
    started_us, ended_us = told.pop("started_us"), told.pop("ended_us")
    return {
        "tier": "events",
        "reason": REASON,
        "from": format_instant(request.span.from_us),
        "to": format_instant(request.span.to_us),
        "session_id": request.session_id,
        "started_at": format_instant(started_us),
        "ended_at": format_instant(ended_us),
        "duration_ms": (ended_us - started_us) / 1_000,
        **{name: told[name] or [] for name in ("users", "modules", "models")},
        "trace_count": told["trace_count"],
        "values": {name: number(told[name]) for name in _MEASURES},
        "traces": traces,
        "next_cursor": cursor,
    }


def _rows(request: SessionRequest, events: Fragment) -> Fragment:
    named = placed("SELECT trace_id FROM ({}) WHERE {} AND session_id = ?", events, inside(request.span))
    return placed(
        "SELECT * FROM ({}) AS e WHERE {} AND (session_id = ?{} OR (session_id IS NULL AND trace_id IN ({}{})))",
        events,
        inside(request.span),
        bound(request.session_id),
        named,
        bound(request.session_id),
    )


def _summary(rows: Fragment) -> Fragment:
    listed = ", ".join(
        f"list_sort(list(DISTINCT {name}) FILTER (WHERE {name} IS NOT NULL))[:{_LISTED_MAX}] AS {plural}"
        for name, plural in (("user_id", "users"), ("module", "modules"), ("model", "models"))
    )
    values = ", ".join(f"{MEASURES[name].event_sql} AS {name}" for name in _MEASURES)
    return placed(
        f"SELECT min(epoch_us(occurred_at)) AS started_us, {ENDED_US} AS ended_us, {listed}, "
        f"count(DISTINCT trace_id) AS trace_count, {values} FROM ({{}}) AS r",
        rows,
    )


def _traces(request: SessionRequest, rows: Fragment, run: Run) -> tuple[list[dict[str, Any]], str | None]:
    """The page of traces. Events without a trace are told as one whose id is null."""
    page = request.page
    found = run(
        placed(
            f"SELECT {SUMMARY} FROM ({{}}) AS r GROUP BY trace_id "
            f"ORDER BY started_us DESC, trace_id LIMIT {page.limit + 1} OFFSET {page.first}",
            rows,
        )
    ).dicts()
    return [trace_json(row) for row in found[: page.limit]], page.after(more=len(found) > page.limit)
