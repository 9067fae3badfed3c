"""What a question about old days is answered from, once their finer rows have gone, and how the answer says so.

Events and minutes leave first, hours later, days last (cluster/lake/expired.py). A range that reaches below one of
those floors is moved out to whole windows of the coarser table, and buckets become no shorter than its windows; then
its old part is read from there. Each floor is a midnight, so the parts meet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from models.query.parameters import Parameters
from models.query.plan import Floors, Plan
from models.query.times import (
    DAY_US,
    GRANULARITIES,
    HOUR_US,
    MINUTE_US,
    Range,
    format_instant,
    parse_granularity,
    parse_range,
)

DEFAULT_RANGE: Final = ("-24h", "now")
# Kinds whose buckets and ranges are of roll-ups; the others read events alone.
_OF_MEASURES: Final = frozenset(
    (
        *("timeseries", "aggregate", "percentile", "histogram", "heatmap", "top", "ratio", "compare"),
        *("cost_allocation", "distinct"),
    )
)
# Have buckets where nobody asked for a length.
_OVER_TIME: Final = frozenset(("timeseries", "heatmap"))


def floors_of(told: Mapping[str, Mapping[str, int]], tenants: tuple[str, ...]) -> Floors:
    """The floors that hold for all of some tenants.

    Args:
        told: by table and tenant, the first instant from which on no row has gone, in microseconds.
    """

    def of(table: str) -> int:
        return max((told.get(table, {}).get(tenant, 0) for tenant in tenants), default=0)

    minutes = max(of("rollup_1m"), of("events"))
    return Floors(minutes, min(of("rollup_1h"), minutes), of("rollup_1d"))


def moved_out(kind: str, parameters: Parameters, floors: Floors, *, now_us: int) -> Parameters:
    """The parameters with a range, and a granularity, that what is left of the asked days can answer.

    Raises:
        RequestInvalid: the range cannot be read.
    """
    told = dict(parameters)
    names = [name for name, _ in parameters]
    if kind not in _OF_MEASURES or any(names.count(name) > 1 for name in ("from", "to", "granularity")):
        # Whoever reads the parameters refuses what is said twice.
        return parameters
    span = parse_range(told.get("from", DEFAULT_RANGE[0]), told.get("to", DEFAULT_RANGE[1]), now_us=now_us)
    window_us = floors.window_us(span.from_us)
    if window_us == MINUTE_US:
        return parameters
    to_window_us = floors.window_us(span.to_us - 1)
    start = span.from_us // window_us * window_us
    # The end has windows of its own age.
    end = -(-span.to_us // to_window_us) * to_window_us
    changed = {"from": format_instant(start), "to": format_instant(end)}
    if _step_us(kind, told, Range(start, end)) < window_us:
        changed["granularity"] = "1h" if window_us == HOUR_US else "1d"
    rest = tuple((name, text) for name, text in parameters if name not in changed)
    return (*rest, *changed.items())


def _step_us(kind: str, told: Mapping[str, str], span: Range) -> int:
    """Length of the asked buckets; DAY_US where there are none, or where they are days of a time zone."""
    if told.get("time_zone", "UTC") != "UTC" or ("granularity" not in told and kind not in _OVER_TIME):
        return DAY_US
    text = told.get("granularity", "auto")
    # Another text is refused by whoever reads it.
    return parse_granularity(text, span) if text == "auto" else GRANULARITIES.get(text, DAY_US)


def aged(plan: Plan, floors: Floors) -> Plan:
    """The plan with its old part read from what is left of it; as it was where it asks for no old days."""
    below = [span for span in plan.ranges if floors.window_us(span.from_us) > MINUTE_US]
    if not below or not plan.from_rollups:
        return plan
    plan = replace(plan, floors=floors)
    coarsest = next(iter(plan.tiers), plan.tier)
    before = format_instant(floors.minutes_us if floors.window_us(below[0].from_us) == HOUR_US else floors.hours_us)
    finer = "minutes" if floors.window_us(below[0].from_us) == HOUR_US else "hours"
    return replace(plan, tier=coarsest, reason=f"{plan.reason}; {finer} before {before} have expired")


def gone(span: Range | None, floors: Floors, *, from_rollups: bool) -> dict[str, Any]:
    """`{"expired_before"}` where rows that the question reads may be missing; empty where all are there."""
    floor_us = floors.days_us if from_rollups else floors.minutes_us
    if span is None or span.from_us >= floor_us:
        return {}
    return {"expired_before": format_instant(floor_us)}
