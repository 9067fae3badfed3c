"""Adds up partials that are in memory: the values of a plan by group and bucket, without SQL and without its price.

The same numbers as `compose` and `execute` get from DuckDB over the same rows: counts, tokens and money to the last
digit, quantiles from the same bucket of the histogram.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Any, Final

import numpy as np

from models.aggregate import distinct, quantiles
from models.measures import MEASURES, SECONDS, STATES, Measure, Need, Value
from models.query.answer import Key, Values
from models.query.compose import OTHER
from models.query.partials import Ints, Partials
from models.query.plan import Plan
from models.query.ranks import Ranks, nearest_ranks
from models.query.selection import Selection
from models.query.sums import exact_sums
from models.query.times import SECOND_US, Range

_FLOATS: Final = frozenset({"latency_ms_sum", "ttft_ms_sum"})
# Groups times buckets that are numbered by one array; more are numbered by sorting.
_DENSE_MAX: Final = 2_000_000
# Numbers of groups stay below it; a product of dictionaries that would not is numbered anew first.
_CODE_MAX: Final = 2**62


def tally(
    plan: Plan, span: Range, partials: Partials, *, kept: Collection[Key] | None = None
) -> dict[Key, Values] | None:
    """Values of each group, and bucket where the plan has them, that has any row; None when there are too many groups.

    Args:
        span: the range that the partials are of, for rates.
        kept: groups told one by one, for a plan without buckets; the others are one group, OTHER.
    """
    request = plan.request
    rows = Selection(partials, request.filters)
    keyed = bool(request.group_by or request.step_us)
    if rows.count == 0 and keyed:
        return {}
    ids, keys = _groups(plan, rows) if keyed else (np.zeros(rows.count, dtype=np.int64), [()])
    if kept is not None:
        ids, keys = _folded(ids, keys, kept)
    first = 1 if request.step_us else 0
    if request.group_by and len({key[first:] for key in keys}) > plan.groups_max:
        return None
    totals = _Totals(plan, rows, ids, len(keys))
    seconds = _seconds(plan, span, keys)
    columns = {name: totals.values(MEASURES[name], seconds) for name in request.measures}
    return {key: {name: column[place] for name, column in columns.items()} for place, key in enumerate(keys)}


def occupied(plan: Plan, partials: Partials, need: Need) -> list[tuple[Key, int, int]]:
    """Key, histogram bucket and how many values it holds, of each bucket that holds any."""
    rows = Selection(partials, plan.request.filters)
    keyed = bool(plan.request.group_by or plan.request.step_us)
    if rows.count == 0:
        return []
    ids, keys = _groups(plan, rows) if keyed else (np.zeros(rows.count, dtype=np.int64), [()])
    owners, (buckets, counts) = rows.histogram(need, ids)
    if not owners.size:
        return []
    low = int(buckets.min())
    width = int(buckets.max()) - low + 1
    cells, places = _numbered(owners * width + (buckets - low), len(keys) * width)
    held = np.bincount(places, weights=counts).astype(np.int64)
    told = zip((cells // width).tolist(), (cells % width + low).tolist(), held.tolist(), strict=True)
    return [(keys[owner], bucket, count) for owner, bucket, count in told if count]


def _folded(ids: Ints, keys: list[Key], kept: Collection[Key]) -> tuple[Ints, list[Key]]:
    """The groups that are kept, and one for all others where there are any."""
    told = [key for key in keys if key in kept]
    if len(told) == len(keys):
        return ids, keys
    places = {key: place for place, key in enumerate(told)}
    moved = np.array([places.get(key, len(told)) for key in keys], dtype=np.int64)
    return moved[ids], [*told, (OTHER,) * len(keys[0])]


def _groups(plan: Plan, rows: Selection) -> tuple[Ints, list[Key]]:
    """The group of each row, numbered from 0, and the key of each group."""
    request = plan.request
    axes: list[tuple[Any, Sequence[Any]]] = []
    if request.step_us:
        buckets, windows_us = request.buckets, rows.windows_us()
        starts = buckets.starts
        if len(buckets.stretches) == 1:
            places = (windows_us - starts[0]) // request.step_us
        else:
            places = np.searchsorted(starts, windows_us, side="right") - 1
        axes.append((places, starts))
    axes += [rows.codes(field.name) for field in request.group_by]
    ids = np.zeros(rows.count, dtype=np.int64)
    size = 1
    for codes, values in axes:
        if size * len(values) > _CODE_MAX:
            used, ids = _numbered(ids, size)
            size = used.size
        ids = ids * len(values) + codes
        size *= len(values)
    used, ids = _numbered(ids, size)
    # Any row of a group tells the values that all of them have.
    examples = np.zeros(used.size, dtype=np.int64)
    examples[ids] = np.arange(ids.size)
    told = [[values[code] for code in codes[examples].tolist()] for codes, values in axes]
    return ids, list(zip(*told, strict=True))


def _numbered(ids: Ints, size: int) -> tuple[Ints, Ints]:
    """The distinct ids in rising order, and the place of each id among them."""
    if size > _DENSE_MAX:
        used, places = np.unique(ids, return_inverse=True)
        return used, places
    used = np.flatnonzero(np.bincount(ids, minlength=size))
    places = np.zeros(size, dtype=np.int64)
    places[used] = np.arange(used.size)
    return used, places[ids]


def _seconds(plan: Plan, span: Range, keys: Sequence[Key]) -> list[float]:
    """Length of each key's bucket inside the range, or of the range."""
    if not plan.request.step_us:
        return [span.length_us / SECOND_US] * len(keys)
    buckets = plan.request.buckets
    lengths = {
        start: (min(end, span.to_us) - max(start, span.from_us)) / SECOND_US
        for start, end in zip(buckets.starts, buckets.ends, strict=True)
    }
    return [lengths[key[0]] for key in keys]


class _Totals:
    """Sums by group; each column is added up once however many measures read it."""

    def __init__(self, plan: Plan, rows: Selection, ids: Ints, count: int) -> None:
        self._plan = plan
        self._rows = rows
        self._ids = ids
        self._count = count
        self._sums: dict[str, list[Any]] = {}
        self._ranks: dict[Need, tuple[list[float], Ranks]] = {}

    def values(self, measure: Measure, seconds: Sequence[float]) -> list[Value]:
        """The measure of each group."""
        if measure.quantile and measure.needs is not None:
            return self._quantile(measure.needs, measure.quantile)
        if measure.needs is not None:
            return self._distinct(STATES[measure.needs][0][0])
        if measure.largest[0]:
            return self._largest(measure.largest[0])
        parts = [self._sum(term.lstrip("-")) for term in measure.terms]
        signs = [-1 if term.startswith("-") else 1 for term in measure.terms]
        whole = [sum(sign * part for sign, part in zip(signs, row, strict=True)) for row in zip(*parts, strict=True)]
        if -1 in signs:
            whole = [max(total, 0) for total in whole]
        if "cost_usd" in measure.terms:
            whole = [Decimal(total).scaleb(-9) for total in whole]
        if not measure.per:
            return whole
        divisors = seconds if measure.per == SECONDS else self._sum(measure.per)
        return [float(total) / by if by else None for total, by in zip(whole, divisors, strict=True)]

    def _sum(self, name: str) -> list[Any]:
        if name not in self._sums:
            column = self._rows.numbers(name)
            if name in _FLOATS:
                self._sums[name] = np.bincount(self._ids, weights=column, minlength=self._count).tolist()
            else:
                self._sums[name] = exact_sums(self._ids, self._count, column)
        return self._sums[name]

    def _largest(self, name: str) -> list[Value]:
        most = np.full(self._count, -np.inf)
        np.fmax.at(most, self._ids, self._rows.numbers(name))
        return [None if value == -np.inf else value for value in most.tolist()]

    def _quantile(self, need: Need, quantile: float) -> list[Value]:
        if need not in self._ranks:
            measures = [MEASURES[name] for name in self._plan.request.measures]
            asked = [one.quantile for one in measures if one.needs == need and one.quantile]
            owners, histogram = self._rows.histogram(need, self._ids)
            self._ranks[need] = asked, nearest_ranks(owners, self._count, histogram, asked)
        asked, ranks = self._ranks[need]
        found = [row[asked.index(quantile)] for row in ranks]
        values = quantiles.value_of(np.array([0 if one is None else one for one in found], dtype=np.int32)).tolist()
        return [None if bucket is None else value for bucket, value in zip(found, values, strict=True)]

    def _distinct(self, name: str) -> list[Value]:
        kept: list[list[bytes]] = [[] for _ in range(self._count)]
        for owner, sketch in zip(self._ids.tolist(), self._rows.sketches(name), strict=True):
            if sketch is not None:
                kept[owner].append(sketch)
        return [distinct.estimate(distinct.merge(parts)) if parts else 0 for parts in kept]
