"""Answers a metrics plan: runs what `compose` wrote, merges what SQL cannot, and shapes the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.aggregate import distinct, quantiles
from models.measures import MEASURES, Need
from models.query.answer import Key, Values, aggregate, timeseries
from models.query.compose import Composition, compose, fold, largest, listed
from models.query.partials import Partials
from models.query.plan import Plan
from models.query.source import Remembers, Rows
from models.query.sql import Run
from models.query.tally import tally


def execute(plan: Plan, rows: Rows, run: Run) -> dict[str, Any]:
    """The answer to a timeseries or an aggregate, without `version`, ready for a JSON encoder.

    Args:
        rows: relation for a range; called for the asked range, then for the compared one.
        run: answers one SQL text; what it raises comes through.
    """
    parts = [compose(plan, rows(span), span) for span in plan.ranges]
    folded = False
    found, complete = values_of(parts[0], run)
    if not complete:
        kept = largest(parts[0], groups=plan.groups_max - 1)
        parts = [fold(part, kept) for part in parts]
        folded = True
        found, _ = values_of(parts[0], run)
    elif len(parts) > 1 and plan.request.group_by:
        # The compared range may hold groups by the million that the asked one does not: only the told ones matter.
        parts[1] = fold(parts[1], largest(parts[0], groups=plan.groups_max))
    if plan.request.step_us:
        return head(plan, folded=folded) | timeseries(plan, found)
    previous = values_of(parts[1], run)[0] if len(parts) > 1 else None
    return head(plan, folded=folded) | aggregate(plan, found, previous)


def head(plan: Plan, *, folded: bool = False) -> dict[str, Any]:
    """What every answer tells of where it came from: `tier`, `reason`, and `tiers` and `folded` where they apply."""
    told: dict[str, Any] = {"tier": plan.tier, "reason": plan.reason}
    if len(plan.tiers) > 1:
        told["tiers"] = list(plan.tiers)
    return told | ({"folded": True} if folded else {})


def values_together(parts: Sequence[Composition], run: Run) -> tuple[list[dict[Key, Values]], bool]:
    """Values of each key in each part, and whether groups were folded: then the same ones in all, the largest of
    the first part staying."""
    found = [values_of(part, run) for part in parts]
    if all(complete for _, complete in found):
        return [values for values, _ in found], False
    kept = largest(parts[0], groups=parts[0].plan.groups_max - 1)
    return [values_of(fold(part, kept), run)[0] for part in parts], True


def values_of(part: Composition, run: Run, *, kept: Sequence[Key] | None = None) -> tuple[dict[Key, Values], bool]:
    """Values of each key, and whether all groups fitted the limit; when they did not the values are worthless.

    Args:
        kept: groups told one by one, for a plan without buckets; the others are one group, OTHER.
    """
    plan = part.plan
    partials = remembered(part, run)
    if partials is not None:
        tallied = tally(plan, part.span, partials, kept=kept)
        return ({}, False) if tallied is None else (_calculated(plan, tallied), True)
    if kept is not None:
        part = fold(part, listed(plan, kept))
    if not plan.from_rollups and not part.folded and _costly(plan) and not _fits(part, run):
        return {}, False
    buckets = len(plan.request.buckets.starts) if plan.request.step_us else 1
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
    return _calculated(plan, found), True


def remembered(part: Composition, run: Run) -> Partials | None:
    """The partials of a composition's rows, when memory has all of them."""
    memory: object = run
    return memory.partials(part.plan, part.span) if isinstance(memory, Remembers) and not part.folded else None


def _costly(plan: Plan) -> bool:
    """Groups hold all their values until the end: a million of them would take the memory of all other questions."""
    return bool(plan.request.group_by) and any(MEASURES[name].needs for name in plan.request.measures)


def _fits(part: Composition, run: Run) -> bool:
    ((count,),) = run(part.group_count(most=part.plan.groups_max + 1)).rows
    return int(count) <= part.plan.groups_max


def _calculated(plan: Plan, found: dict[Key, Values]) -> dict[Key, Values]:
    for values in found.values() if plan.request.calculations else ():
        values.update({one.name: one.value(values) for one in plan.request.calculations})
    return found


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
