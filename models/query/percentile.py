"""Percentiles: any quantiles of durations, by group, over the range or over time."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

from cluster.errors import RequestInvalid
from models.aggregate.quantiles import RELATIVE_ERROR
from models.measures import MEASURES
from models.query.answer import aggregate, timeseries
from models.query.compose import compose
from models.query.execute import head, values_together
from models.query.pages import parse_page
from models.query.parameters import Parameters, chosen, collect
from models.query.plan import Plan, choose
from models.query.request import REPEATED, Asked, MetricsRequest, Order, parse_buckets, subject
from models.query.source import Context, PlannedSource

# Fields whose distribution is kept.
VALUE_FIELDS: Final = ("latency_ms", "ttft_ms")
QUANTILES_MAX: Final = 20
_DEFAULT: Final = ("0.5", "0.9", "0.95", "0.99")
_QUANTILE: Final = re.compile(r"0?\.[0-9]{1,8}")
_KNOWN: Final = ("field", "quantile", "from", "to", "group_by", "filter", "granularity", "time_zone", "limit", "cursor")


@dataclass(frozen=True, slots=True)
class PercentileRequest:
    """A checked question for percentiles.

    Attributes:
        names: how each quantile is told, `p99.9`, by the name of its measure.
    """

    metrics: MetricsRequest
    field: str
    names: tuple[tuple[str, str], ...]


def parse_percentile(parameters: Parameters, context: Context) -> PercentileRequest:
    """`field`, `quantile` (repeat), range, groups, filters; over time with `granularity` or `time_zone`.

    Raises:
        RequestInvalid: a parameter is unknown or does not fit.
    """
    given = collect(parameters, known=_KNOWN, repeated=REPEATED | {"quantile"})
    field = chosen(given, "field", VALUE_FIELDS)
    texts = given["quantile"] or list(_DEFAULT)
    if len(texts) > QUANTILES_MAX:
        raise RequestInvalid(f"{len(texts)} quantiles are over the limit of {QUANTILES_MAX}", hint="Ask two questions.")
    names = tuple(dict.fromkeys((f"{field}_{_name(text)}", _name(text)) for text in texts))
    measures = tuple(measure for measure, _ in names)
    if given["granularity"] or given["time_zone"]:
        if given["limit"] or given["cursor"]:
            raise RequestInvalid("limit and cursor are for rows", hint="Leave them out, or leave granularity out.")
        metrics = subject("percentile", given, Asked(measures), now_us=context.now_us)
        step_us, zone = parse_buckets(given, metrics.span)
        return PercentileRequest(replace(metrics, step_us=step_us, zone=zone), field, names)
    count = f"{field}_count"
    metrics = subject("percentile", given, Asked((*measures, count)), now_us=context.now_us)
    return PercentileRequest(replace(metrics, order=(Order(count, True),), page=parse_page(given)), field, names)


def plan_percentile(request: PercentileRequest, groups_max: int) -> tuple[Plan, ...]:
    """One plan; see `choose`."""
    return (choose(request.metrics, groups_max=groups_max),)


def percentile(request: PercentileRequest, plans: tuple[Plan, ...], source: PlannedSource) -> dict[str, Any]:
    """`rows` of `{"group", "values": {"p95": ms}, "count"}`, or `series` by group and quantile; `relative_error` is 0
    where raw rows were ranked."""
    (plan,) = plans
    span = request.metrics.span
    (found,), folded = values_together([compose(plan, source.rows(plan)(span), span)], source.run)
    told = {
        **head(plan, folded=folded),
        "field": request.field,
        "unit": MEASURES[f"{request.field}_p50"].unit,
        "relative_error": RELATIVE_ERROR if plan.from_rollups else 0,
    }
    names = dict(request.names)
    if request.metrics.step_us:
        answer = timeseries(plan, found)
        answer["series"] = [
            {"quantile": names[one["measure"]], "group": one["group"], "points": one["points"]}
            for one in answer["series"]
        ]
        return told | answer
    answer = aggregate(plan, found, None)
    answer["rows"] = [
        {
            "group": row["group"],
            "values": {names[name]: value for name, value in row["values"].items() if name in names},
            "count": row["values"][f"{request.field}_count"],
        }
        for row in answer["rows"]
    ]
    return told | answer


def _name(text: str) -> str:
    """`p99.9` for 0.999."""
    quantile = Decimal(text) if _QUANTILE.fullmatch(text) else Decimal(0)
    if not quantile:
        raise RequestInvalid(f"quantile={text[:40]!r} is not a number between 0 and 1", hint="Write 0.95 for p95.")
    return f"p{(quantile * 100).normalize():f}"
