"""The shapes of answers about measures: series of points, rows of groups; exact numbers, nulls where undefined."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import msgspec

from models.measures import MEASURES, Value
from models.query.plan import Plan
from models.query.request import Having, MetricsRequest
from models.query.times import format_instant, granularity_name

# (bucket start in microseconds, group values …) of a timeseries, (group values …) of an aggregate.
Key = tuple[Any, ...]
Values = dict[str, Value]

_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}
# Products of counts go past what the encoder writes.
_INTEGERS: Final = 2**63
# Nothing happened is 0 of these; of a mean, a quantile or a ratio nothing is no value.
_ZERO_UNITS: Final = ("count", "tokens", "usd", "tokens/s")


def timeseries(plan: Plan, found: dict[Key, Values]) -> dict[str, Any]:
    """`{"granularity", "from", "to", "series": [...]}`; series by measure as asked, then by group."""
    request = plan.request
    by_group = by_bucket(plan, found)
    series = [
        {
            "measure": name,
            "unit": request.unit(name),
            "group": group_of(plan, group),
            "points": _points(plan, name, by_group[group]),
        }
        for name in request.told
        for group in by_group
    ]
    return {**step_of(request), **range_of(plan), "series": series}


def by_bucket(plan: Plan, found: dict[Key, Values]) -> dict[Key, dict[int, Values]]:
    """Values of each group by the start of the bucket; groups in order, the only one also where it has no rows."""
    by_group: dict[Key, dict[int, Values]] = {} if plan.request.group_by else {(): {}}
    for key, values in found.items():
        by_group.setdefault(key[1:], {})[key[0]] = values
    return {group: by_group[group] for group in sorted(by_group, key=sortable)}


def step_of(request: MetricsRequest) -> dict[str, str]:
    """`{"granularity"}`, and the time zone where the buckets have one."""
    zone = {"time_zone": request.zone} if request.zone else {}
    return {"granularity": granularity_name(request.step_us), **zone}


def _points(plan: Plan, name: str, buckets: dict[int, Values]) -> list[list[Any]]:
    request = plan.request
    if request.fill == "none":
        return [[format_instant(at), number(buckets[at].get(name))] for at in sorted(buckets)]
    told: list[list[Any]] = []
    last: Value = None
    empty = nothing(request)[name] if request.fill == "zero" else None
    for at in request.buckets.starts:
        value = buckets[at].get(name) if at in buckets else empty
        if request.fill == "previous":
            value = last if value is None else value
            last = value
        told.append([format_instant(at), number(value)])
    return told


def aggregate(plan: Plan, found: dict[Key, Values], previous: dict[Key, Values] | None) -> dict[str, Any]:
    """`{"from", "to", "group_count", "rows": [...]}`; `group_count` is how many groups `having` left."""
    request = plan.request
    kept = [(key, values) for key, values in found.items() if all(_holds(one, values) for one in request.having)]
    ordered = _ordered(request, kept)
    page, cursor = request.page.cut(ordered)
    rows = [_row(plan, key, values, previous) for key, values in page]
    return {**range_of(plan), "group_count": len(kept), "rows": rows, "next_cursor": cursor}


def _ordered(request: MetricsRequest, kept: list[tuple[Key, Values]]) -> list[tuple[Key, Values]]:
    names = [field.name for field in request.group_by]
    kept.sort(key=lambda item: sortable(item[0]))
    # Sorts are stable, so the last criterion is applied first; without any, the first measure leads.
    orders = [(order.name, order.descending) for order in request.order] or [(request.told[0], True)]
    for name, descending in reversed(orders):
        place = names.index(name) if name in names and name not in request.told else None

        def rank(item: tuple[Key, Values], name: str = name, place: int | None = place) -> tuple[bool, Any]:
            value = item[1].get(name) if place is None else item[0][place]
            return (value is not None, 0 if value is None else value)

        present = [item for item in kept if rank(item)[0]]
        absent = [item for item in kept if not rank(item)[0]]
        # Undefined values come last, whichever way the rest is ordered.
        kept = [*sorted(present, key=rank, reverse=descending), *absent]
    return kept


def _row(plan: Plan, key: Key, values: Values, previous: dict[Key, Values] | None) -> dict[str, Any]:
    row: dict[str, Any] = {"group": group_of(plan, key), "values": numbers(plan.request, values)}
    if previous is not None:
        row["previous"] = numbers(plan.request, previous[key] if key in previous else nothing(plan.request))
    return row


def numbers(request: MetricsRequest, values: Values) -> dict[str, Any]:
    """The told values, ready for a JSON encoder."""
    return {name: number(values.get(name)) for name in request.told}


def nothing(request: MetricsRequest) -> Values:
    """The values of a group without any rows: 0 for counts, tokens and money, None for means, quantiles and ratios."""
    empty: Values = {name: 0 if MEASURES[name].unit in _ZERO_UNITS else None for name in request.measures}
    return empty | {one.name: one.value(empty) for one in request.calculations}


def _holds(one: Having, values: Values) -> bool:
    value = values.get(one.measure)
    return value is not None and _COMPARE[one.operator](value, one.value)


def range_of(plan: Plan) -> dict[str, str]:
    """`{"from", "to"}` of the range that was answered."""
    span = plan.request.span
    return {"from": format_instant(span.from_us), "to": format_instant(span.to_us)}


def group_of(plan: Plan, values: Key) -> dict[str, Any]:
    """`{"model": "m1"}`; a value that rows do not have is null."""
    return {field.name: value for field, value in zip(plan.request.group_by, values, strict=True)}


def number(value: Value) -> Any:
    """What a JSON encoder writes as the number itself: money with all its digits, null for what is not a number."""
    if isinstance(value, Decimal):
        text = f"{value:f}"
        return msgspec.Raw((text.rstrip("0").rstrip(".") if "." in text else text).encode())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and not -_INTEGERS <= value < _INTEGERS:
        return msgspec.Raw(str(value).encode())
    return value


def sortable(key: Key) -> tuple[tuple[bool, Any], ...]:
    """A key that sorts among others, nulls first."""
    return tuple((value is not None, "" if value is None else value) for value in key)
