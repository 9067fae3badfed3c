"""Where two sets of partials that should tell the same do not: by tenant, day and column."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.aggregate import distinct
from models.aggregate.groups import Groups, Ints, Mask, group, nano_usd
from models.aggregate.rollup import ROLLUP_KEYS, STATE_COLUMNS, merge

PARTITION_KEYS: Final = ("tenant_id", "event_date")
PARTITIONED_KEYS: Final = (*PARTITION_KEYS, *ROLLUP_KEYS)

# Sums of milliseconds depend on their order in the last digits; all else must be equal.
_FLOAT_TOLERANCE: Final = 1e-9
_FLOATS: Final = ("latency_ms_sum", "ttft_ms_sum")
_SKETCHES: Final = ("users_sketch", "sessions_sketch")
_HISTOGRAMS: Final = {"latency_buckets": "latency_bucket_counts", "ttft_buckets": "ttft_bucket_counts"}


# What the two tables tell for the same entries.
Sides = tuple[npt.NDArray[Any], npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One column of one tenant's day that differs.

    Attributes:
        windows: how many partials (window and dimension set) differ.
        events, stored: total over those partials, from the events and as stored: exact decimal text; counts for a
            histogram, estimated distinct values for a sketch, the extreme itself for a minimum or maximum.
    """

    tenant_id: str
    event_date: str
    column: str
    windows: int
    events: str
    stored: str


def difference(events_rollup: pa.Table, stored_rollup: pa.Table) -> list[Difference]:
    """Every column whose partials differ, by tenant and day, in that order; empty when the two tell the same.

    Args:
        events_rollup: partials made again from the events: ROLLUP_SCHEMA with `tenant_id` and `event_date`.
        stored_rollup: the stored ones, as many to a key as there are.
    """
    sides = [merge([table], keys=PARTITIONED_KEYS) for table in (events_rollup, stored_rollup)]
    both = pa.concat_tables([side.cast(sides[0].schema) for side in sides])
    if both.num_rows == 0:
        return []
    columns = {name: both.column(name).combine_chunks() for name in both.column_names}
    groups = group([columns[name] for name in PARTITIONED_KEYS])
    first = np.arange(both.num_rows) < sides[0].num_rows
    owners = pa.table({name: columns[name].take(groups.firsts) for name in PARTITION_KEYS})
    found: list[Difference] = []
    for name in STATE_COLUMNS:
        if name in _HISTOGRAMS:
            cells, rows, counts = _cells(groups, columns[name], columns[_HISTOGRAMS[name]])
            if cells is not None:
                mine = first[rows]
                pair = cells.total(np.where(mine, counts, 0)), cells.total(np.where(mine, 0, counts))
                found += _told(name, owners, pair, groups.ids[rows[cells.order[cells.starts]]])
        elif name not in _HISTOGRAMS.values():
            pair = _sides(name, columns[name], groups, first)
            found += _told(name, owners, pair, np.arange(groups.count))
    return sorted(found, key=lambda one: (one.tenant_id, one.event_date))


def _sides(name: str, column: pa.Array, groups: Groups, first: Mask) -> Sides:
    """(count,) what the first and the second table tell for each group; a row that is missing tells nothing."""
    second = ~first
    if name in ("latency_ms_min", "latency_ms_max"):
        absent, extreme = (np.inf, groups.smallest) if name == "latency_ms_min" else (-np.inf, groups.largest)
        values = column.fill_null(absent).to_numpy()
        return extreme(np.where(first, values, absent)), extreme(np.where(second, values, absent))
    if name in _SKETCHES:
        told = [0 if sketch is None else distinct.estimate(sketch) for sketch in column.to_pylist()]
        counts = np.array(told, dtype=np.float64)
        return groups.largest(np.where(first, counts, 0)), groups.largest(np.where(second, counts, 0))
    # Python integers for money: a group that took several rows may be past 64 bits.
    values = nano_usd(column).astype(object) if name == "cost_usd" else column.to_numpy()
    return groups.total(np.where(first, values, 0)), groups.total(np.where(second, values, 0))


def _cells(groups: Groups, buckets: pa.Array, counts: pa.Array) -> tuple[Groups | None, Ints, Ints]:
    """The (group, bucket) cells of histograms, the row each entry lies in, and its count."""
    rows = pc.list_parent_indices(buckets).to_numpy()
    if rows.size == 0:
        return None, rows, rows
    return group([pa.array(groups.ids[rows]), buckets.flatten()]), rows, counts.flatten().to_numpy()


def _differ(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> Mask:
    unequal: Mask = np.asarray(left != right, dtype=np.bool_)
    if left.dtype != np.float64:
        return unequal
    with np.errstate(invalid="ignore"):
        # Infinities stand for "told nothing": close to no number.
        finite = np.isfinite(left) & np.isfinite(right)
        close = np.abs(left - right) <= _FLOAT_TOLERANCE * np.maximum(np.abs(left), np.abs(right))
    differing: Mask = unequal & ~(close & finite)
    return differing


def _told(name: str, owners: pa.Table, sides: Sides, groups: Ints) -> list[Difference]:
    """The differing entries of one column, added up for each tenant and day.

    Args:
        owners: tenant and day of each group.
        groups: the group of each entry of `sides`.
    """
    left, right = sides
    tenants, days = (owners.column(key) for key in PARTITION_KEYS)
    sums: dict[tuple[str, str], tuple[set[int], list[Any], list[Any]]] = {}
    for entry in np.flatnonzero(_differ(left, right)).tolist():
        owner = int(groups[entry])
        key = (str(tenants[owner].as_py()), str(days[owner].as_py()))
        windows, ours, theirs = sums.setdefault(key, (set(), [], []))
        windows.add(owner)
        ours.append(left[entry])
        theirs.append(right[entry])
    return [
        Difference(
            tenant_id=tenant,
            event_date=day,
            column=name,
            windows=len(windows),
            events=_text(name, ours),
            stored=_text(name, theirs),
        )
        for (tenant, day), (windows, ours, theirs) in sums.items()
    ]


def _text(name: str, values: list[Any]) -> str:
    if name == "cost_usd":
        return str(Decimal(sum(values)).scaleb(-9))
    if name in ("latency_ms_min", "latency_ms_max"):
        extreme = min(values) if name == "latency_ms_min" else max(values)
        return str(float(extreme)) if np.isfinite(extreme) else ""
    total = sum(values)
    return str(int(total)) if name not in _FLOATS else str(float(total))
