"""Events to partial rows by window and dimension set, and the merge of partials: a commutative monoid.

`merge` has the empty list as identity and gives the same result in any order and grouping: counts, tokens and money to
the last digit, extremes and histograms exactly, distinct counts exactly as estimated, sums of milliseconds up to float
rounding. A partial of one event is a row like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.contract import event
from cluster.contract.columns import INSTANT, ROLLUP_DIMENSIONS, ROLLUP_SCHEMA, TOKEN_FIELDS
from cluster.contract.words import codes_of, is_encoded, plain
from models.aggregate import quantiles
from models.aggregate.groups import (
    Groups,
    Ints,
    Mask,
    group,
    histograms,
    money_of,
    nano_usd,
    sketches_merged,
    sketches_of,
    split_overflowing,
)
from models.aggregate.quantiles import Floats

MINUTE_US: Final = 60_000_000
HOUR_US: Final = 3_600_000_000
DAY_US: Final = 86_400_000_000

ROLLUP_KEYS: Final = ("window_start", *ROLLUP_DIMENSIONS)
# Columns of events that `roll` reads.
ROLLED_COLUMNS: Final = (
    *("occurred_at", *ROLLUP_DIMENSIONS, "user_id", "session_id", "cache_status", "guardrail_action"),
    *("latency_ms", "ttft_ms", *TOKEN_FIELDS, "cost_usd", "counted"),
)
STATE_COLUMNS: Final = tuple(name for name in ROLLUP_SCHEMA.names if name not in ROLLUP_KEYS)

# What states of another name are made from.
_INPUTS: Final[dict[str, set[str]]] = {
    "cache_hit_count": {"cache_status"},
    "users_sketch": {"user_id"},
    "sessions_sketch": {"session_id"},
}
# What a partial row can hold: decimal(18,9) and int64.
_NANO_USD_MAX: Final = 10**18 - 1
_TOKENS_MAX: Final = 2**63 - 1

Columns = dict[str, pa.Array]


def roll(batch: pa.RecordBatch | pa.Table, window_us: int) -> pa.Table:
    """Partial rows of a batch, one for each window and dimension set, in ROLLUP_SCHEMA.

    Two rows share a key only where one could not hold the money of the batch; `merge` takes them like any others.

    Args:
        batch: EVENT_SCHEMA with `counted` set, columns of words encoded or not; what no measure reads may be absent.
        window_us: window length in microseconds, > 0; windows start at multiples of it since 1970 UTC.
    """
    if batch.num_rows == 0:
        return ROLLUP_SCHEMA.empty_table()
    occurred_us = _column(batch, "occurred_at").cast(pa.int64()).to_numpy()
    windows = pa.array(occurred_us // window_us * window_us)
    dimensions = {name: _column(batch, name) for name in ROLLUP_DIMENSIONS}
    groups, columns = _reduced(batch, (windows, *dimensions.values()), STATE_COLUMNS)
    firsts = groups.firsts
    columns["window_start"] = windows.take(firsts).cast(INSTANT)
    columns |= {name: plain(column.take(firsts)) for name, column in dimensions.items()}
    return pa.table([columns[name] for name in ROLLUP_SCHEMA.names], schema=ROLLUP_SCHEMA)


def roll_by(rows: pa.Table, *, keys: Sequence[str], states: Sequence[str]) -> pa.Table:
    """Partial rows of events by any columns: those columns, then the states, ready for `merge`.

    Args:
        rows: at least one, with `keys` and what `inputs_of` names, as EVENT_SCHEMA types it.
        states: some of STATE_COLUMNS.
    """
    whole = rows.combine_chunks()
    groups, columns = _reduced(whole, [_column(whole, name) for name in keys], states)
    columns |= {name: _column(whole, name).take(groups.firsts) for name in keys}
    names = (*keys, *states)
    return pa.table([columns[name] for name in names], schema=_schema(whole, names))


def inputs_of(states: Sequence[str]) -> tuple[str, ...]:
    """Columns of events that some states are made from, sorted."""
    found = {"counted"}
    for state in states:
        prefix, _, rest = state.partition("_")
        if prefix in ("latency", "ttft") and rest:
            found.add(f"{prefix}_ms")
        elif prefix == "guardrail":
            found |= {"kind", "guardrail_action"}
        else:
            found |= _INPUTS.get(state, {state} if state in (*TOKEN_FIELDS, "cost_usd") else set())
    return tuple(sorted(found))


def merge(
    tables: Sequence[pa.Table], *, keys: Sequence[str] = ROLLUP_KEYS, states: Sequence[str] = STATE_COLUMNS
) -> pa.Table:
    """Partials merged by `keys`: a table of the key columns and the state columns.

    Args:
        tables: partials with at least `keys` and `states`, as ROLLUP_SCHEMA types them or castable to it.
        keys: any of their columns, ROLLUP_SCHEMA's or others such as `tenant_id`; fewer keys, coarser groups.
        states: those of ROLLUP_SCHEMA that are kept.
    """
    names = (*keys, *states)
    filled = [table.select(names).cast(_schema(table, names)) for table in tables if table.num_rows]
    if not filled:
        return (_schema(tables[0], names) if tables else _schema(ROLLUP_SCHEMA.empty_table(), names)).empty_table()
    whole = pa.concat_tables(filled)
    partials = {name: _column(whole, name) for name in names}
    groups = group([partials[name] for name in keys]) if keys else group([pa.nulls(whole.num_rows)])
    if "cost_usd" in states:
        groups = split_overflowing(groups, nano_usd(partials["cost_usd"]), _NANO_USD_MAX)
    for name in (one for one in TOKEN_FIELDS if one in states):
        groups = split_overflowing(groups, partials[name].to_numpy(), _TOKENS_MAX)
    columns: Columns = {name: partials[name].take(groups.firsts) for name in keys}
    for name in states:
        if name not in columns:
            columns |= _state_merged(groups, partials, name)
    return pa.table([columns[name] for name in names], schema=whole.schema)


def _state_merged(groups: Groups, partials: Columns, name: str) -> Columns:
    """One state of each group; both columns of a histogram."""
    if name == "cost_usd":
        return {name: money_of(groups.total(nano_usd(partials[name])))}
    if name == "latency_ms_min":
        lowest = groups.smallest(partials[name].fill_null(np.inf).to_numpy())
        return {name: pa.array(lowest, mask=np.isinf(lowest))}
    if name == "latency_ms_max":
        highest = groups.largest(partials[name].fill_null(-np.inf).to_numpy())
        return {name: pa.array(highest, mask=np.isinf(highest))}
    if name.endswith(("_buckets", "_bucket_counts")):
        return _histograms_merged(groups, partials, name.partition("_")[0])
    if name.endswith("_sketch"):
        return {name: sketches_merged(groups, partials[name])}
    return {name: pa.array(groups.total(partials[name].to_numpy()))}


def _reduced(
    batch: pa.RecordBatch | pa.Table, keys: Sequence[pa.Array], states: Sequence[str]
) -> tuple[Groups, Columns]:
    """Groups of rows with equal keys that hold the money of the batch, and their states; others may come along."""
    counted = _column(batch, "counted").to_numpy()
    groups = group(keys)
    columns: Columns = {}
    if "cost_usd" in states:
        money = nano_usd(_column(batch, "cost_usd")) * _has(counted, event.COUNTED_COST)
        groups = split_overflowing(groups, money, _NANO_USD_MAX)
        columns["cost_usd"] = money_of(groups.total(money))
    columns |= _counts(batch, counted, groups, states)
    told = _has(counted, event.COUNTED_TOKENS)
    for name in (one for one in TOKEN_FIELDS if one in states):
        columns[name] = pa.array(groups.total(_column(batch, name).fill_null(0).to_numpy() * told))
    for prefix, bit in (("latency", event.COUNTED_LATENCY), ("ttft", event.COUNTED_TTFT)):
        if any(name.startswith(f"{prefix}_") for name in states):
            values = _column(batch, f"{prefix}_ms").fill_null(np.nan).to_numpy()
            columns |= _durations(groups, prefix, values, _has(counted, bit))
    for name, members in (("users_sketch", "user_id"), ("sessions_sketch", "session_id")):
        if name in states:
            columns[name] = sketches_of(groups, _column(batch, members))
    return groups, columns


def coarsen(table: pa.Table, window_us: int, *, keys: Sequence[str] = ROLLUP_KEYS) -> pa.Table:
    """Partials of longer windows, merged.

    Args:
        table: as for `merge`, with `window_start`.
        window_us: new window length in microseconds, a multiple of the old one.
    """
    place = table.schema.get_field_index("window_start")
    starts_us = table.column(place).cast(INSTANT).cast(pa.int64()).to_numpy()
    windows = pa.array(starts_us // window_us * window_us).cast(INSTANT)
    return merge([table.set_column(place, ROLLUP_SCHEMA.field("window_start"), windows)], keys=keys)


def _counts(batch: pa.RecordBatch | pa.Table, counted: Ints, groups: Groups, states: Sequence[str]) -> Columns:
    def tally(rows: Mask) -> pa.Array:
        return pa.array(groups.total(rows))

    rows_of: dict[str, Callable[[], Mask]] = {
        "event_count": lambda: np.ones(batch.num_rows, dtype=np.bool_),
        "request_count": lambda: _has(counted, event.COUNTED_REQUEST),
        "error_count": lambda: _has(counted, event.COUNTED_ERROR),
        "guardrail_count": lambda: _is_in(_column(batch, "kind"), (event.GUARDRAIL_KIND,)),
        "guardrail_block_count": lambda: (
            _is_in(_column(batch, "kind"), (event.GUARDRAIL_KIND,))
            & _is_in(_column(batch, "guardrail_action"), event.BLOCKING_ACTIONS)
        ),
        "cache_lookup_count": lambda: _has(counted, event.COUNTED_CACHE),
        "cache_hit_count": lambda: (
            _has(counted, event.COUNTED_CACHE) & _is_in(_column(batch, "cache_status"), event.CACHE_HITS)
        ),
    }
    return {name: tally(rows()) for name, rows in rows_of.items() if name in states}


def _durations(groups: Groups, prefix: str, values: Floats, counted: Mask) -> Columns:
    rows = counted & np.isfinite(values)
    some = groups.total(rows)
    columns: Columns = {
        f"{prefix}_count": pa.array(some),
        f"{prefix}_ms_sum": pa.array(groups.total(np.where(rows, values, 0.0))),
    }
    if prefix == "latency":
        none = some == 0
        columns["latency_ms_min"] = pa.array(groups.smallest(np.where(rows, values, np.inf)), mask=none)
        columns["latency_ms_max"] = pa.array(groups.largest(np.where(rows, values, -np.inf)), mask=none)
    buckets, counts = histograms(groups.ids[rows], groups.count, quantiles.bucket_of(values[rows]))
    return columns | {f"{prefix}_buckets": buckets, f"{prefix}_bucket_counts": counts}


def _histograms_merged(groups: Groups, partials: Columns, prefix: str) -> Columns:
    buckets, counts = partials[f"{prefix}_buckets"], partials[f"{prefix}_bucket_counts"]
    owners = groups.ids[pc.list_parent_indices(buckets).to_numpy()]
    merged = histograms(owners, groups.count, buckets.flatten().to_numpy(), counts.flatten().to_numpy())
    return dict(zip((f"{prefix}_buckets", f"{prefix}_bucket_counts"), merged, strict=True))


def _column(batch: pa.RecordBatch | pa.Table, name: str) -> pa.Array:
    column = batch.column(name)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _schema(table: pa.Table, names: Sequence[str]) -> pa.Schema:
    # Readers hand out string_view or large_string; a column of ours is what ROLLUP_SCHEMA says.
    known = set(ROLLUP_SCHEMA.names)
    return pa.schema([ROLLUP_SCHEMA.field(name) if name in known else table.schema.field(name) for name in names])


def _has(counted: Ints, bit: int) -> Mask:
    mask: Mask = (counted & bit) != 0
    return mask


def _is_in(column: pa.Array, texts: tuple[str, ...]) -> Mask:
    wanted = pa.array(texts, pa.string())
    if not is_encoded(column):
        mask: Mask = pc.is_in(column, value_set=wanted).to_numpy(zero_copy_only=False)
        return mask
    known = pc.is_in(column.dictionary, value_set=wanted).to_numpy(zero_copy_only=False)
    # One more, behind the words, for null.
    found: Mask = np.append(known, False)[codes_of(column)[0]]
    return found
