"""Distributions of durations: how many values lie between which bounds, over the range or over time.

The stored histograms have buckets 2 % wide. Neighbours are joined until few enough are left, so every count is exact
between the bounds that are told, and equal whichever table it came from.
"""
# ruff: noqa: S608 (the text is ours, every value is bound: models/query/sql.py)

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from cluster.errors import RequestInvalid
from models.aggregate.quantiles import RELATIVE_ERROR, TINY, ZERO_BUCKET
from models.measures import MEASURES, Need
from models.query.answer import Key, group_of, range_of, sortable, step_of
from models.query.compose import OTHER, Composition, compose, fold, largest
from models.query.execute import head, remembered
from models.query.parameters import Parameters, chosen, collect, one, parse_limit
from models.query.percentile import VALUE_FIELDS
from models.query.plan import Plan, choose
from models.query.request import REPEATED, Asked, MetricsRequest, parse_buckets, subject
from models.query.source import Context, PlannedSource
from models.query.sql import Run, placed
from models.query.tally import occupied
from models.query.times import format_instant

BUCKETS_MAX: Final = 500
GROUPS_MAX: Final = 100
# Cells of one heatmap: what a screen shows.
CELLS_MAX: Final = 200_000
_DEFAULT_BUCKETS: Final = "40"
_DEFAULT_GROUPS: Final = "20"
_SHARED: Final = ("field", "from", "to", "filter", "buckets")
_GAMMA: Final = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)


@dataclass(frozen=True, slots=True)
class DistributionRequest:
    """A checked question for a histogram or, with buckets of time, a heatmap.

    Attributes:
        buckets: most buckets of values.
        groups: most groups told one by one; the others are one group.
    """

    metrics: MetricsRequest
    field: str
    buckets: int
    groups: int = 0


@dataclass(frozen=True, slots=True)
class Joint:
    """Buckets of values: `width` stored ones each, from `first` to `last`, before them one for 0 where there is any."""

    width: int
    first: int
    last: int
    zero: bool

    @property
    def bounds(self) -> list[list[float]]:
        """(above, up to and including) of each bucket, in the field's unit."""
        told = [
            [_GAMMA ** (self.width * (index - 1)), _GAMMA ** (self.width * index)]
            for index in range(self.first, self.last + 1)
        ]
        return [[0.0, TINY], *told] if self.zero else told

    def place(self, joined: int | None) -> int:
        """Place in `bounds` of a joined bucket, None for the one that holds 0."""
        return 0 if joined is None else joined - self.first + int(self.zero)


def parse_histogram(parameters: Parameters, context: Context) -> DistributionRequest:
    """`field`, `buckets`, range, filters, `group_by` and `limit` of groups.

    Raises:
        RequestInvalid: a parameter is unknown or does not fit.
    """
    given = collect(parameters, known=(*_SHARED, "group_by", "limit"), repeated=REPEATED)
    field, buckets, asked = _asked(given)
    groups = parse_limit(one(given, "limit", _DEFAULT_GROUPS), most=GROUPS_MAX)
    return DistributionRequest(subject("histogram", given, asked, now_us=context.now_us), field, buckets, groups)


def parse_heatmap(parameters: Parameters, context: Context) -> DistributionRequest:
    """`field`, `buckets`, range, filters, `granularity`, `time_zone`.

    Raises:
        RequestInvalid: a parameter is unknown or does not fit, or there would be too many cells.
    """
    given = collect(parameters, known=(*_SHARED, "granularity", "time_zone"), repeated=REPEATED)
    field, buckets, asked = _asked(given)
    metrics = subject("heatmap", {**given, "group_by": []}, asked, now_us=context.now_us)
    step_us, zone = parse_buckets(given, metrics.span)
    metrics = replace(metrics, step_us=step_us, zone=zone)
    cells = len(metrics.buckets.starts) * buckets
    if cells > CELLS_MAX:
        raise RequestInvalid(
            f"the heatmap would hold {cells} cells, over {CELLS_MAX}", hint="Ask for a coarser granularity."
        )
    return DistributionRequest(metrics, field, buckets)


def plan_distribution(request: DistributionRequest, groups_max: int) -> tuple[Plan, ...]:
    """One plan; see `choose`."""
    return (choose(request.metrics, groups_max=groups_max),)


def histogram(request: DistributionRequest, plans: tuple[Plan, ...], source: PlannedSource) -> dict[str, Any]:
    """`bounds` of the buckets, and `rows` of `{"group", "count", "counts"}`, one count for each bucket."""
    (plan,) = plans
    joint, cells = _cells(request, _part(plan, source), source.run)
    counts: dict[Key, list[int]] = {} if request.metrics.group_by else {(): [0] * len(joint.bounds)}
    for key, joined, count in cells:
        row = counts.setdefault(key, [0] * len(joint.bounds))
        row[joint.place(joined)] += count
    rows = [
        {"group": group_of(plan, key), "count": sum(counts[key]), "counts": counts[key]}
        for key in sorted(counts, key=lambda key: (-sum(counts[key]), sortable(key)))
    ]
    folded = any(OTHER in key for key in counts)
    return {**_head(request, plan, folded=folded), **range_of(plan), "bounds": joint.bounds, "rows": rows}


def heatmap(request: DistributionRequest, plans: tuple[Plan, ...], source: PlannedSource) -> dict[str, Any]:
    """`times`, `bounds`, and `cells` of [place in times, place in bounds, count], those above 0 only."""
    (plan,) = plans
    joint, found = _cells(request, _part(plan, source), source.run)
    times = request.metrics.buckets.starts
    places = {at: place for place, at in enumerate(times)}
    cells = sorted([places[key[0]], joint.place(joined), count] for key, joined, count in found)
    return {
        **_head(request, plan, folded=False),
        **step_of(request.metrics),
        **range_of(plan),
        "times": [format_instant(at) for at in times],
        "bounds": joint.bounds,
        "cells": cells,
    }


def _asked(given: dict[str, list[str]]) -> tuple[str, int, Asked]:
    field = chosen(given, "field", VALUE_FIELDS)
    buckets = parse_limit(one(given, "buckets", _DEFAULT_BUCKETS), most=BUCKETS_MAX, name="buckets")
    # The count decides which groups are largest, the quantile brings the histograms along.
    return field, buckets, Asked((f"{field}_count", f"{field}_p50"))


def _part(plan: Plan, source: PlannedSource) -> Composition:
    span = plan.request.span
    return compose(plan, source.rows(plan)(span), span)


def _head(request: DistributionRequest, plan: Plan, *, folded: bool) -> dict[str, Any]:
    unit = MEASURES[f"{request.field}_p50"].unit
    return {**head(plan, folded=folded), "field": request.field, "unit": unit}


def _cells(
    request: DistributionRequest, part: Composition, run: Run
) -> tuple[Joint, list[tuple[Key, int | None, int]]]:
    """The buckets of values, and (keys, joined bucket or None for 0, count) of those that hold any."""
    need: Need = "latency_histogram" if request.field == "latency_ms" else "ttft_histogram"
    partials = remembered(part, run)
    if partials is not None:
        return _tallied(request, occupied(part.plan, partials, need))
    if request.metrics.group_by:
        part = fold(part, largest(part, groups=request.groups))
    filled = part.occupied(need)
    reach = placed(
        f"SELECT min(b_) FILTER (WHERE b_ <> {ZERO_BUCKET}), max(b_) FILTER (WHERE b_ <> {ZERO_BUCKET}), "
        f"coalesce(bool_or(b_ = {ZERO_BUCKET}), false) FROM ({{}}) WHERE c_ > 0",
        filled,
    )
    ((low, high, zero),) = run(reach).rows
    joint = _joint(low, high, zero=bool(zero), most=request.buckets)
    keys = "".join(f"{key}, " for key in part.keys)
    joined = f"CASE WHEN b_ <> {ZERO_BUCKET} THEN ceil(b_ / {joint.width}.0)::INTEGER END"
    table = run(
        placed(f"SELECT {keys}{joined} AS j_, sum(c_)::BIGINT AS n_ FROM ({{}}) WHERE c_ > 0 GROUP BY ALL", filled)
    )
    return joint, list(zip(table.keys(part.keys), table.column("j_"), table.column("n_"), strict=True))


def _tallied(
    request: DistributionRequest, found: Sequence[tuple[Key, int, int]]
) -> tuple[Joint, list[tuple[Key, int | None, int]]]:
    """What `_cells` gives, from stored buckets by key."""
    used = [bucket for _, bucket, _ in found if bucket != ZERO_BUCKET]
    zero = len(used) < len(found)
    joint = _joint(min(used, default=None), max(used, default=None), zero=zero, most=request.buckets)
    sizes: Counter[Key] = Counter()
    for key, _, count in found:
        sizes[key] += count
    kept = set(sizes)
    if request.metrics.group_by and len(sizes) > request.groups:
        # As SQL orders them: equal ones by their names, those without one last.
        ordered = sorted(sizes, key=lambda key: (-sizes[key], [(one is None, one or "") for one in key]))
        kept = set(ordered[: request.groups])
    cells: Counter[tuple[Key, int | None]] = Counter()
    for key, bucket, count in found:
        told = key if key in kept else (OTHER,) * len(key)
        cells[told, None if bucket == ZERO_BUCKET else -(-bucket // joint.width)] += count
    return joint, [(key, joined, count) for (key, joined), count in cells.items()]


def _joint(low: int | None, high: int | None, *, zero: bool, most: int) -> Joint:
    """The narrowest buckets of which `most` are enough."""
    if low is None or high is None:
        return Joint(1, 1, 0, zero)
    width = 1
    while -(-high // width) - -(-low // width) + 1 + zero > max(most, 1 + zero):
        width += 1
    return Joint(width, -(-low // width), -(-high // width), zero)
