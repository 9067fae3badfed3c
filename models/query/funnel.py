"""Funnels: how many of those who did the first step also did the next ones, in their order and within a time."""
# ruff: noqa: S608 (the text is ours, every value is bound: models/query/sql.py)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from cluster.errors import RequestInvalid
from models.query.filters import Filter, conditions, parse_filters
from models.query.parameters import AND, Parameters, chosen, collect, one
from models.query.plan import Plan
from models.query.request import DEFAULT_FROM
from models.query.search import inside
from models.query.source import Context, Source
from models.query.sql import Fragment, joined, placed
from models.query.times import DAY_US, SECOND_US, Range, format_instant, parse_range, parse_span

ENTITIES: Final = ("user_id", "session_id", "trace_id", "request_id", "correlation_id")
STEPS_MAX: Final = 12
WINDOW_US_MAX: Final = 366 * DAY_US
_KNOWN: Final = ("step", "entity", "window", "from", "to", "filter")


@dataclass(frozen=True, slots=True, kw_only=True)
class FunnelRequest:
    """A checked funnel.

    Attributes:
        texts: the steps as they were asked.
        window_us: longest time from the first step to the last.
        filters: what every event of any step must pass.
    """

    entity: str
    texts: tuple[str, ...]
    steps: tuple[tuple[Filter, ...], ...]
    window_us: int
    span: Range
    filters: tuple[Filter, ...]


def parse_funnel(parameters: Parameters, context: Context) -> FunnelRequest:
    """`step` (repeat, in order; several filters of one step with ` && ` between them), `entity`, `window`, range,
    filters.

    Raises:
        RequestInvalid: a parameter is unknown or does not fit, or there are fewer than two steps.
    """
    given = collect(parameters, known=_KNOWN, repeated=frozenset({"step", "filter"}))
    texts = tuple(given["step"])
    if not 2 <= len(texts) <= STEPS_MAX:
        raise RequestInvalid(
            f"a funnel has 2 to {STEPS_MAX} steps, this one {len(texts)}",
            hint="Add step=kind:gateway.request and step=status:ok, in their order.",
        )
    window = one(given, "window", "1d")
    window_us = parse_span(f"-{window}")
    if window_us is None or not 0 < window_us <= WINDOW_US_MAX:
        raise RequestInvalid(f"window={window[:40]!r} is not a time", hint="Write 30m, 24h or 7d; at most 366d.")
    return FunnelRequest(
        entity=chosen(given, "entity", ENTITIES),
        texts=texts,
        steps=tuple(parse_filters(text.split(AND)) for text in texts),
        window_us=window_us,
        span=parse_range(one(given, "from", DEFAULT_FROM), one(given, "to", "now"), now_us=context.now_us),
        filters=parse_filters(given["filter"]),
    )


def funnel(request: FunnelRequest, plans: tuple[Plan, ...], source: Source) -> dict[str, Any]:
    """`steps` of `{"step", "count", "ratio_of_first", "ratio_of_previous"}`.

    Somebody has done a step when one event passes its filters, another event, no later, was the step before, and the
    first step lies no further back than the window. All ways to choose the events count, not the first one only.
    """
    (counts,) = source.run(_question(request, source.events(request.span))).rows
    steps = []
    for place, (text, count) in enumerate(zip(request.texts, counts, strict=True)):
        before = counts[max(place - 1, 0)]
        steps.append(
            {
                "step": text,
                "count": count,
                "ratio_of_first": count / counts[0] if counts[0] else None,
                "ratio_of_previous": count / before if before else None,
            }
        )
    return {
        "tier": "events",
        "reason": f"only raw events have {request.entity} and an order",
        "entity": request.entity,
        "window_s": request.window_us / SECOND_US,
        "from": format_instant(request.span.from_us),
        "to": format_instant(request.span.to_us),
        "steps": steps,
    }


def _question(request: FunnelRequest, events: Fragment) -> Fragment:
    """SELECT of the number of entities that reached each step.

    `s3_` of an event that passes step 3 is the latest first step from which it can be reached: the latest is the one
    that leaves most of the window, so no other needs to be remembered.
    """
    last = len(request.steps)
    marks = joined(
        (placed(f"coalesce({{}}, false) AS m{step}_", conditions(one)) for step, one in enumerate(request.steps, 1)),
        ", ",
    )
    reached = placed(
        f"SELECT *, CASE WHEN m1_ THEN t_ END AS s1_ FROM (SELECT {request.entity} AS e_, epoch_us(occurred_at) AS t_, "
        f"{{}} FROM ({{}}) AS r WHERE {request.entity} IS NOT NULL AND {{}} AND {{}}) AS m "
        f"WHERE {' OR '.join(f'm{step}_' for step in range(1, last + 1))}",
        marks,
        events,
        inside(request.span),
        conditions(request.filters),
    )
    earlier = "OVER (PARTITION BY e_ ORDER BY t_ RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE CURRENT ROW)"
    for step in range(2, last + 1):
        reached = placed(
            f"SELECT *, CASE WHEN m{step}_ AND t_ - p{step}_ <= {request.window_us} THEN p{step}_ END AS s{step}_ "
            f"FROM (SELECT *, max(s{step - 1}_) {earlier} AS p{step}_ FROM ({{}}) AS r) AS r",
            reached,
        )
    counts = ", ".join(f"count(DISTINCT e_) FILTER (WHERE s{step}_ IS NOT NULL)" for step in range(1, last + 1))
    return placed(f"SELECT {counts} FROM ({{}}) AS r", reached)
