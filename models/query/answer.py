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
from models.query.request import Having
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
# Nothing happened is 0 of these; of a mean, a quantile or a ratio nothing is no value.
_ZERO_UNITS: Final = ("count", "tokens", "usd", "tokens/s")


def timeseries(plan: Plan, found: dict[Key, Values]) -> dict[str, Any]:
    """`{"granularity", "from", "to", "series": [...]}`; series by measure as asked, then by group."""
    request = plan.request
    by_group: dict[Key, dict[int, Values]] = {}
    for key, values in found.items():
        by_group.setdefault(key[1:], {})[key[0]] = values
    if not request.group_by:
        by_group.setdefault((), {})
    series = [
        {
            "measure": name,
            "unit": MEASURES[name].unit,
            "group": group_of(plan, group),
            "points": _points(plan, name, by_group[group]),
        }
        for name in request.measures
        for group in sorted(by_group, key=_sortable)
    ]
    return {"granularity": granularity_name(request.step_us), **_range(plan), "series": series}


def _points(plan: Plan, name: str, buckets: dict[int, Values]) -> list[list[Any]]:
    request = plan.request
    if request.fill == "none":
        return [[format_instant(at), number(buckets[at].get(name))] for at in sorted(buckets)]
    told: list[list[Any]] = []
    last: Value = None
    empty: Value = 0 if request.fill == "zero" and MEASURES[name].unit in _ZERO_UNITS else None
    first = request.span.from_us - request.span.from_us % request.step_us
    for at in range(first, request.span.to_us, request.step_us):
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
    names = [field.name for field in request.group_by]
    kept.sort(key=lambda item: _sortable(item[0]))
    # Sorts are stable, so the last criterion is applied first; without any, the first measure leads.
    orders = [(order.name, order.descending) for order in request.order] or [(request.measures[0], True)]
    for name, descending in reversed(orders):
        place = names.index(name) if name in names and name not in request.measures else None

        def rank(item: tuple[Key, Values], name: str = name, place: int | None = place) -> tuple[bool, Any]:
            value = item[1].get(name) if place is None else item[0][place]
            return (value is not None, 0 if value is None else value)

        present = [item for item in kept if rank(item)[0]]
        absent = [item for item in kept if not rank(item)[0]]
        # Undefined values come last, whichever way the rest is ordered.
        kept = [*sorted(present, key=rank, reverse=descending), *absent]
    rows = [_row(plan, key, values, previous) for key, values in kept[: request.limit]]
    return {**_range(plan), "group_count": len(kept), "rows": rows}


def _row(plan: Plan, key: Key, values: Values, previous: dict[Key, Values] | None) -> dict[str, Any]:
    row: dict[str, Any] = {"group": group_of(plan, key), "values": _told(plan, values)}
    if previous is not None:
        row["previous"] = _told(plan, previous[key] if key in previous else _nothing(plan))
    return row


def _told(plan: Plan, values: Values) -> dict[str, Any]:
    return {name: number(values.get(name)) for name in plan.request.measures}


def _nothing(plan: Plan) -> Values:
    return {name: 0 if MEASURES[name].unit in _ZERO_UNITS else None for name in plan.request.measures}


def _holds(one: Having, values: Values) -> bool:
    value = values.get(one.measure)
    return value is not None and _COMPARE[one.operator](value, one.value)


def _range(plan: Plan) -> dict[str, str]:
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
    return value


def _sortable(key: Key) -> tuple[tuple[bool, Any], ...]:
    return tuple((value is not None, "" if value is None else value) for value in key)
