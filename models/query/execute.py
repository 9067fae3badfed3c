"""Answers a metrics plan: runs what `compose` wrote, merges what SQL cannot, and shapes the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from models.aggregate import distinct, quantiles
from models.measures import MEASURES, Need
from models.query.answer import Key, Values, aggregate, timeseries
from models.query.compose import Composition, compose, fold, largest
from models.query.plan import Plan
from models.query.sql import Fragment, Run
from models.query.times import Range, points

# SELECT of the plan's table rows that may be seen and can lie in the range.
Rows = Callable[[Range], Fragment]


def execute(plan: Plan, rows: Rows, run: Run) -> dict[str, Any]:
    """The answer to a plan, without `version`, ready for a JSON encoder.

    Args:
        rows: relation for a range; called for the asked range, then for the compared one.
        run: answers one SQL text; what it raises comes through.
    """
    parts = [compose(plan, rows(span), span) for span in plan.ranges]
    folded = False
    found, complete = _values(parts[0], run)
    if not complete:
        kept = largest(parts[0], groups=plan.groups_max - 1)
        parts = [fold(part, kept) for part in parts]
        folded = True
        found, _ = _values(parts[0], run)
    elif len(parts) > 1 and plan.request.group_by:
        # The compared range may hold groups by the million that the asked one does not: only the told ones matter.
        parts[1] = fold(parts[1], largest(parts[0], groups=plan.groups_max))
    head: dict[str, Any] = {"tier": plan.tier, "reason": plan.reason}
    if len(plan.tiers) > 1:
        head["tiers"] = list(plan.tiers)
    if folded:
        head["folded"] = True
    if plan.request.step_us:
        return head | timeseries(plan, found)
    previous = _values(parts[1], run)[0] if len(parts) > 1 else None
    return head | aggregate(plan, found, previous)


def _values(part: Composition, run: Run) -> tuple[dict[Key, Values], bool]:
    """Values of each key, and whether all groups fitted the limit; when they did not the values are worthless."""
    plan = part.plan
    buckets = points(part.span, plan.request.step_us) if plan.request.step_us else 1
    limit = plan.groups_max * buckets
    table = run(part.scalars(limit=limit + 1))
    keys = table.keys(part.keys)
    if plan.request.group_by and (len(keys) > limit or _group_count(plan, keys) > plan.groups_max):
        return {}, False
    told = [(name, f"v_{name}") for name in plan.request.measures if f"v_{name}" in table.names]
    columns = {name: table.column(column) for name, column in told}
    found = {key: {name: column[index] for name, column in columns.items()} for index, key in enumerate(keys)}
    if plan.from_rollups:
        _add_quantiles(part, run, found)
        _add_distincts(part, run, found)
    return found, True


def _group_count(plan: Plan, keys: list[Key]) -> int:
    return len({key[1:] for key in keys}) if plan.request.step_us else len(keys)


def _add_quantiles(part: Composition, run: Run, found: dict[Key, Values]) -> None:
    asked: dict[Need, list[str]] = {}
    for name in part.plan.request.measures:
        measure = MEASURES[name]
        if measure.quantile and measure.needs is not None:
            asked.setdefault(measure.needs, []).append(name)
    for need, names in asked.items():
        table = run(part.histograms(need, [MEASURES[name].quantile for name in names]))
        keys = table.keys(part.keys)
        for index, name in enumerate(names):
            buckets = table.column(f"q{index}")
            filled = np.array([0 if bucket is None else bucket for bucket in buckets], dtype=np.int32)
            values = quantiles.value_of(filled).tolist()
            for key, bucket, value in zip(keys, buckets, values, strict=True):
                found[key][name] = None if bucket is None else value


def _add_distincts(part: Composition, run: Run, found: dict[Key, Values]) -> None:
    for name in part.plan.request.measures:
        measure = MEASURES[name]
        if measure.needs is None or measure.quantile:
            continue
        for values in found.values():
            values[name] = 0
        table = run(part.sketches(measure.needs))
        for key, sketches in zip(table.keys(part.keys), table.column("s_"), strict=True):
            found[key][name] = distinct.estimate(distinct.merge(sketches)) if sketches else 0
