"""Retention: of those first seen in a period, how many were seen again in each later one."""
# ruff: noqa: S608 (the text is ours, every value is bound: models/query/sql.py)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from cluster.errors import RequestInvalid
from models.query.calendar import WEEK_US, Buckets, buckets, parse_zone
from models.query.filters import Filter, conditions, parse_filters
from models.query.parameters import Parameters, chosen, collect, one
from models.query.plan import Plan
from models.query.search import inside
from models.query.source import Context, Source
from models.query.sql import Fragment, bound, placed
from models.query.times import DAY_US, Range, format_instant, parse_range

ENTITIES: Final = ("user_id", "session_id")
PERIODS: Final = {"1d": DAY_US, "1w": WEEK_US}
PERIODS_MAX: Final = 120
_DEFAULT_FROM: Final = "-28d"
_KNOWN: Final = ("entity", "period", "from", "to", "since", "filter", "time_zone")


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortRequest:
    """A checked question for cohorts.

    Attributes:
        known_from_us: events from here on decide when somebody was first seen; not after `span` begins.
    """

    entity: str
    span: Range
    known_from_us: int
    period: str
    zone: str
    filters: tuple[Filter, ...]

    @property
    def periods(self) -> Buckets:
        return buckets(self.span, PERIODS[self.period], self.zone)


def parse_cohort(parameters: Parameters, context: Context) -> CohortRequest:
    """`entity`, `period`, range, `since`, filters, `time_zone`.

    Raises:
        RequestInvalid: a parameter is unknown or does not fit, or there would be too many periods.
    """
    given = collect(parameters, known=_KNOWN, repeated=frozenset({"filter"}))
    period = chosen(given, "period", tuple(PERIODS))
    from_text, to_text = one(given, "from", _DEFAULT_FROM), one(given, "to", "now")
    span = parse_range(from_text, to_text, now_us=context.now_us)
    known = parse_range(one(given, "since", from_text), to_text, now_us=context.now_us)
    if known.from_us > span.from_us:
        raise RequestInvalid("since is after from", hint="since says from when on events tell who is new.")
    if span.length_us > PERIODS_MAX * PERIODS[period]:
        raise RequestInvalid(
            f"the range has over {PERIODS_MAX} periods", hint="Ask for a shorter range, or for period=1w."
        )
    return CohortRequest(
        entity=chosen(given, "entity", ENTITIES),
        span=span,
        known_from_us=known.from_us,
        period=period,
        zone=parse_zone(one(given, "time_zone", ""), PERIODS[period]),
        filters=parse_filters(given["filter"]),
    )


def cohort(request: CohortRequest, plans: tuple[Plan, ...], source: Source) -> dict[str, Any]:
    """`cohorts`, one for each period: `{"start", "size", "retained", "ratios"}`; place k of the lists is the k-th
    period after the first, place 0 the first itself. Ratios of nobody are null."""
    starts = request.periods.starts
    places = {at: place for place, at in enumerate(starts)}
    counts = [[0] * (len(starts) - first) for first in range(len(starts))]
    known = Range(request.known_from_us, request.span.to_us)
    for first_us, at_us, count in source.run(_question(request, source.events(known), known)).rows:
        counts[places[first_us]][places[at_us] - places[first_us]] = count
    zone = {"time_zone": request.zone} if request.zone else {}
    return {
        "tier": "events",
        "reason": f"only raw events have {request.entity}",
        "entity": request.entity,
        "period": request.period,
        **zone,
        "from": format_instant(request.span.from_us),
        "to": format_instant(request.span.to_us),
        "since": format_instant(request.known_from_us),
        "cohorts": [
            {
                "start": format_instant(at),
                "size": told[0],
                "retained": told,
                "ratios": [count / told[0] if told[0] else None for count in told],
            }
            for at, told in zip(starts, counts, strict=True)
        ],
    }


def _question(request: CohortRequest, events: Fragment, known: Range) -> Fragment:
    """SELECT of first period, period, and how many of the first were seen in it."""
    grid = buckets(known, PERIODS[request.period], request.zone)
    seen = placed(
        f"SELECT {request.entity} AS e_, {grid.start_sql('occurred_at')} AS b_, min(epoch_us(occurred_at)) AS t_ "
        f"FROM ({{}}) AS r WHERE {request.entity} IS NOT NULL AND {{}} AND {{}} GROUP BY ALL",
        events,
        inside(known),
        conditions(request.filters),
    )
    return placed(
        "SELECT f_, b_, count(*) FROM (SELECT b_, min(b_) OVER (PARTITION BY e_) AS f_, "
        "min(t_) OVER (PARTITION BY e_) AS first_ FROM ({}) AS s) WHERE first_ >= ?{} GROUP BY ALL",
        seen,
        bound(request.span.from_us),
    )
