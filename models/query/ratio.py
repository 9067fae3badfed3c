"""One measure over another, each with filters of its own: conversions, failure and hit ratios, cost of a part."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from models.measures import MEASURES, Value
from models.query.answer import Key, Values, group_of, nothing, number, range_of, sortable, step_of
from models.query.comparison import choose_alike
from models.query.compose import compose
from models.query.execute import head, values_together
from models.query.filters import parse_filters
from models.query.pages import parse_page
from models.query.parameters import Parameters, collect, one
from models.query.plan import Plan
from models.query.request import REPEATED, Asked, MetricsRequest, check_measure, parse_buckets, subject
from models.query.source import Context, PlannedSource
from models.query.times import format_instant

_KNOWN: Final = (
    *("numerator", "denominator", "numerator_filter", "denominator_filter", "from", "to", "group_by", "filter"),
    *("granularity", "time_zone", "limit", "cursor"),
)
_DEFAULT: Final = "request_count"


@dataclass(frozen=True, slots=True)
class RatioRequest:
    """A checked ratio; each side has one measure, both the same range, groups and buckets."""

    numerator: MetricsRequest
    denominator: MetricsRequest


def parse_ratio(parameters: Parameters, context: Context) -> RatioRequest:
    """`numerator` and `denominator` are measures, `numerator_filter` and `denominator_filter` hold for one of them,
    `filter` for both; over time with `granularity` or `time_zone`.

    Raises:
        RequestInvalid: a parameter is unknown or does not fit.
    """
    given = collect(parameters, known=_KNOWN, repeated=REPEATED | {"numerator_filter", "denominator_filter"})
    above = check_measure(one(given, "numerator", _DEFAULT), role="numerator")
    below = check_measure(one(given, "denominator", above), role="denominator")
    shared = replace(subject("ratio", given, Asked((above,)), now_us=context.now_us), page=parse_page(given))
    if given["granularity"] or given["time_zone"]:
        step_us, zone = parse_buckets(given, shared.span)
        shared = replace(shared, step_us=step_us, zone=zone)
    own = [parse_filters([*given["filter"], *given[f"{side}_filter"]]) for side in ("numerator", "denominator")]
    return RatioRequest(replace(shared, filters=own[0]), replace(shared, filters=own[1], measures=(below,)))


def plan_ratio(request: RatioRequest, groups_max: int) -> tuple[Plan, ...]:
    """Plans of the denominator, whose groups decide, and of the numerator."""
    return choose_alike((request.denominator, request.numerator), groups_max)


def ratio(request: RatioRequest, plans: tuple[Plan, ...], source: PlannedSource) -> dict[str, Any]:
    """`rows` of `{"group", "ratio", "numerator", "denominator"}`, the largest denominator first; over time `series` of
    `{"group", "points": [[time, ratio, numerator, denominator]]}`. A ratio is null where the denominator is 0."""
    parts = [compose(plan, source.rows(plan)(plan.request.span), plan.request.span) for plan in plans]
    (below, above), folded = values_together(parts, source.run)
    names = request.numerator.measures[0], request.denominator.measures[0]
    empty = nothing(request.numerator) | nothing(request.denominator)
    found: dict[Key, tuple[Value, Value]] = {
        key: (_told(above, key, names[0], empty), _told(below, key, names[1], empty))
        for key in sorted({*above, *below}, key=sortable)
    }
    units = [MEASURES[name].unit for name in names]
    told = {
        **head(plans[0], folded=folded),
        **range_of(plans[0]),
        "numerator": names[0],
        "denominator": names[1],
        "unit": "ratio" if units[0] == units[1] else f"{units[0]}/{units[1]}",
    }
    if request.numerator.step_us:
        return told | step_of(request.numerator) | {"series": _series(plans[0], found)}
    keys = sorted(found, key=lambda key: found[key][1] or 0, reverse=True)
    page, cursor = request.numerator.page.cut(keys)
    rows = [{"group": group_of(plans[0], key), **_row(found[key])} for key in page]
    return told | {"group_count": len(keys), "rows": rows, "next_cursor": cursor}


def _series(plan: Plan, found: dict[Key, tuple[Value, Value]]) -> list[dict[str, Any]]:
    points: dict[Key, list[list[Any]]] = {} if plan.request.group_by else {(): []}
    for key, pair in found.items():
        points.setdefault(key[1:], []).append([format_instant(key[0]), *_row(pair).values()])
    return [{"group": group_of(plan, group), "points": points[group]} for group in sorted(points, key=sortable)]


def _told(found: dict[Key, Values], key: Key, name: str, empty: Values) -> Value:
    return found[key][name] if key in found else empty[name]


def _row(pair: tuple[Value, Value]) -> dict[str, Any]:
    above, below = pair
    value = None if above is None or not below else float(above) / float(below)
    return {"ratio": number(value), "numerator": number(above), "denominator": number(below)}
