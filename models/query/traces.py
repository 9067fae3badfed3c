"""Search for traces: which there were in a range, with their size, cost and outcome."""
# ruff: noqa: S608 (the text is ours, every value is bound: models/query/sql.py)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from cluster.contract.event import COUNTED_COST, COUNTED_REQUEST, COUNTED_TOKENS, ERROR_STATUSES
from models.query.answer import number
from models.query.filters import Filter, conditions, parse_filters
from models.query.parameters import Parameters, collect, one, parse_limit
from models.query.search import inside
from models.query.sql import Fragment, Run, placed
from models.query.times import Range, format_instant, parse_range

LIMIT_MAX: Final = 1_000
_DEFAULT_LIMIT: Final = 50
_ERRORS: Final = ", ".join(f"'{status}'" for status in ERROR_STATUSES)
# When the last call was over. A duration past a year is a fault of the sender's, and none leaves the start.
ENDED_US: Final = "max(epoch_us(occurred_at) + least(coalesce(latency_ms, 0), 3.2e10) * 1000)::BIGINT"
# Columns that tell of one trace, over events grouped by trace_id.
SUMMARY: Final = (
    f"trace_id, min(epoch_us(occurred_at)) AS started_us, {ENDED_US} AS ended_us, "
    "count(*) AS event_count, count(DISTINCT span_id) AS span_count, "
    "list_sort(list(DISTINCT module)) AS modules, list_sort(list(DISTINCT model)) AS models, "
    "arg_min(coalesce(service, ''), occurred_at) AS service, arg_min(kind, occurred_at) AS first_kind, "
    f"count(*) FILTER (WHERE (counted & {COUNTED_REQUEST}) <> 0) AS request_count, "
    f"count(*) FILTER (WHERE status IN ({_ERRORS})) AS error_event_count, "
    f"coalesce(sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0)) "
    f"FILTER (WHERE (counted & {COUNTED_TOKENS}) <> 0), 0)::BIGINT AS total_tokens, "
    f"coalesce(sum(cost_usd) FILTER (WHERE (counted & {COUNTED_COST}) <> 0), 0)::DECIMAL(38,9) AS cost_usd"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TracesRequest:
    """A checked search for traces: those with at least one event that passes all filters."""

    span: Range
    filters: tuple[Filter, ...]
    limit: int


def parse_traces(parameters: Parameters, *, now_us: int) -> TracesRequest:
    """The search that (name, text) pairs ask: `filter`, `from`, `to`, `limit`.

    Raises:
        RequestInvalid: a parameter is unknown or does not fit.
    """
    given = collect(parameters, known=("filter", "from", "to", "limit"), repeated=frozenset({"filter"}))
    return TracesRequest(
        span=parse_range(one(given, "from", "-1h"), one(given, "to", "now"), now_us=now_us),
        filters=parse_filters(given["filter"]),
        limit=parse_limit(one(given, "limit", str(_DEFAULT_LIMIT)), most=LIMIT_MAX),
    )


def traces_answer(request: TracesRequest, rows: Fragment, run: Run) -> dict[str, Any]:
    """`{"traces": [...]}`, the last started first; what of a trace lies outside the range is not told.

    Args:
        rows: SELECT of events that may be seen and can lie in the range.
    """
    told = run(_question(request, rows)).dicts()
    return {
        "from": format_instant(request.span.from_us),
        "to": format_instant(request.span.to_us),
        "traces": [trace_json(row) for row in told],
    }


def _question(request: TracesRequest, rows: Fragment) -> Fragment:
    matched = conditions(request.filters)
    return placed(
        f"SELECT {SUMMARY} FROM ({{}}) AS r WHERE trace_id IS NOT NULL AND {{}} GROUP BY trace_id "
        f"HAVING bool_or(coalesce({{}}, false)) ORDER BY started_us DESC, trace_id LIMIT {request.limit}",
        rows,
        inside(request.span),
        matched,
    )


def trace_json(row: dict[str, Any]) -> dict[str, Any]:
    """A row of SUMMARY, ready for a JSON encoder."""
    started_us, ended_us = row.pop("started_us"), row.pop("ended_us")
    return {
        **row,
        "models": [model for model in row["models"] or [] if model is not None],
        "service": row["service"] or None,
        "started_at": format_instant(started_us),
        "ended_at": format_instant(ended_us),
        "duration_ms": (ended_us - started_us) / 1_000,
        "cost_usd": number(row["cost_usd"]),
    }
