"""Minute partials to one series an entity: what a detector of calls reads.

Shares are roots of counts that were shrunk towards zero, sizes and times are logarithms, so that a deviation means the
same in a quiet minute and a busy one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.contract.columns import ROLLUP_DIMENSIONS
from models.aggregate.groups import group, nano_usd
from models.aggregate.quantiles import value_of
from models.aggregate.rollup import MINUTE_US, merge
from models.anomaly.refusals import NotEnoughData, SeriesInvalid
from models.anomaly.series import Matrix, Series

Floats = npt.NDArray[np.float64]

STEP_S: Final = MINUTE_US // 1_000_000
ENTITY_DIMENSIONS: Final = ("service", "provider", "model", "operation")
ENTITIES_MAX: Final = 10_000
# Values of all series of one question, 4 bytes each.
VALUES_MAX: Final = 64 * 1024 * 1024
# Calls that a share is shrunk by: one failure of one call is no outage.
_SHRINK: Final = 20

FEATURES: Final = (
    "requests_log",
    "error_share",
    "guardrail_block_share",
    "cache_hit_share",
    "cache_read_share",
    "reasoning_share",
    "input_tokens_log",
    "output_tokens_log",
    "cost_log",
    "cost_per_token_log",
    "latency_ms_p50_log",
    "latency_ms_p95_log",
    "ttft_ms_p50_log",
    "ttft_ms_p95_log",
)


@dataclass(frozen=True, slots=True)
class Entity:
    """What a series is of.

    Attributes:
        dimensions: (name, value) in the order asked; a value is None where events named none.
    """

    dimensions: tuple[tuple[str, str | None], ...]

    def __str__(self) -> str:
        return ",".join(f"{name}={'' if value is None else value}" for name, value in self.dimensions)


def entity_series(
    partials: pa.Table,
    *,
    from_us: int,
    to_us: int,
    dimensions: Sequence[str] = ENTITY_DIMENSIONS,
    step_s: int = STEP_S,
) -> dict[Entity, Series]:
    """A series of FEATURES over [from_us, to_us) for each entity, in the order of their first row.

    A row is a minute, or several together. One without any row of the whole table is missing in every series: nobody
    knows whether nothing was called or nothing was told. One in which only this entity is silent has no requests, and
    nothing else is known of it.

    Args:
        partials: ROLLUP_SCHEMA rows of one tenant, minutes.
        from_us, to_us: whole rows since the Unix epoch, microseconds.
        dimensions: of ROLLUP_DIMENSIONS; none gives one series of the whole tenant.

    Raises:
        SeriesInvalid: an unknown dimension, a range that is empty or not of whole rows, or more than
            ENTITIES_MAX entities or VALUES_MAX values.
        NotEnoughData: no row lies in the range.
    """
    step_us = step_s * 1_000_000
    rows = (to_us - from_us) // step_us
    _check(rows, (from_us, to_us), step_us, dimensions)
    starts = partials.column("window_start").cast(pa.int64()).to_numpy()
    inside = partials.filter(pa.array((starts >= from_us) & (starts < to_us)))
    if inside.num_rows == 0:
        raise NotEnoughData("no calls in this range", hint="Widen the range, or send events first.")
    if step_us != MINUTE_US:
        floored = starts[(starts >= from_us) & (starts < to_us)] // step_us * step_us
        at, kind = inside.schema.get_field_index("window_start"), inside.schema.field("window_start")
        inside = inside.set_column(at, kind, pa.array(floored).cast(kind.type))
    merged = merge([inside], keys=("window_start", *dimensions))
    keys = [merged.column(name).combine_chunks() for name in dimensions] or [pa.nulls(merged.num_rows)]
    groups = group(keys)
    if groups.count > ENTITIES_MAX or groups.count * rows * len(FEATURES) > VALUES_MAX:
        raise SeriesInvalid(
            f"{groups.count} entities of {rows} rows; at most {ENTITIES_MAX} and {VALUES_MAX} values are allowed",
            hint="Choose fewer dimensions or a shorter range.",
        )
    place = (merged.column("window_start").cast(pa.int64()).to_numpy() - from_us) // step_us
    values = np.full((groups.count, rows, len(FEATURES)), np.nan, np.float32)
    values[:, np.unique(place), 0] = 0.0
    values[groups.ids, place] = features_of(merged)
    names = [key.take(groups.firsts).to_pylist() for key in keys]
    return {
        Entity(tuple((name, names[column][number]) for column, name in enumerate(dimensions))): Series(
            values[number], FEATURES, step_s, from_us
        )
        for number in range(groups.count)
    }


def features_of(partials: pa.Table) -> Matrix:
    """(n, f) FEATURES of each partial; NaN where it tells nothing of one."""
    count = {
        name: partials.column(name).to_numpy().astype(np.float64)
        for name in partials.schema.names
        if name.endswith(("_count", "_tokens"))
    }
    requests = count["request_count"]
    tokens = count["input_tokens"] + count["output_tokens"]
    cost_usd = nano_usd(partials.column("cost_usd").combine_chunks()).astype(np.float64) / 1e9
    known = cost_usd > 0
    columns = [
        np.log1p(requests),
        _share(count["error_count"], requests),
        _share(count["guardrail_block_count"], count["guardrail_count"]),
        _share(count["cache_hit_count"], count["cache_lookup_count"]),
        _ratio(count["cache_read_tokens"], count["input_tokens"]),
        _ratio(count["reasoning_tokens"], count["output_tokens"]),
        np.log1p(_ratio(count["input_tokens"], requests)),
        np.log1p(_ratio(count["output_tokens"], requests)),
        # Micro-dollars, so that the logarithm of a cheap call is not near 0.
        np.log1p(_ratio(np.where(known, cost_usd * 1e6, np.nan), requests)),
        np.log1p(_ratio(np.where(known, cost_usd * 1e9, np.nan), tokens)),
        *(np.log1p(_quantiles(partials, "latency", q)) for q in (0.5, 0.95)),
        *(np.log1p(_quantiles(partials, "ttft", q)) for q in (0.5, 0.95)),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _check(rows: int, span_us: tuple[int, int], step_us: int, dimensions: Sequence[str]) -> None:
    if rows < 1 or any(at % step_us for at in span_us) or step_us % MINUTE_US:
        rows_told = "minutes" if step_us == MINUTE_US else f"rows of {step_us // 1_000_000} s"
        raise SeriesInvalid(f"the range is empty or not of whole {rows_told}", hint="Give from < to, both on one.")
    unknown = [name for name in dimensions if name not in ROLLUP_DIMENSIONS]
    if unknown or len(set(dimensions)) != len(dimensions):
        raise SeriesInvalid(f"dimensions {list(dimensions)}", hint=f"Choose among {', '.join(ROLLUP_DIMENSIONS)}.")


def _ratio(part: Floats, whole: Floats) -> Floats:
    ratio: Floats = np.divide(part, whole, out=np.full(part.size, np.nan), where=whole > 0)
    return ratio


def _share(part: Floats, whole: Floats) -> Floats:
    """Root of the shrunk share: its spread hardly depends on its height."""
    return np.sqrt(_ratio(part, np.where(whole > 0, whole + _SHRINK, 0.0)))


def _quantiles(partials: pa.Table, prefix: str, q: float) -> Floats:
    """(n,) nearest-rank quantile of each row's histogram in ms, NaN of an empty one; all rows at once."""
    lists = partials.column(f"{prefix}_buckets").combine_chunks()
    buckets = lists.flatten().to_numpy()
    counts = partials.column(f"{prefix}_bucket_counts").combine_chunks().flatten().to_numpy()
    ends = np.cumsum(lists.value_lengths().fill_null(0).to_numpy().astype(np.int64))
    running = np.concatenate(([0], np.cumsum(counts)))
    before = running[np.concatenate(([0], ends[:-1]))]
    sizes = running[ends] - before
    found = np.full(sizes.size, np.nan)
    some = sizes > 0
    # Histograms lie one behind the other, each in rising order, so ranks of the whole tell places in each.
    ranks = before[some] + np.maximum(np.ceil(q * sizes[some]), 1).astype(np.int64)
    found[some] = value_of(buckets[np.searchsorted(running[1:], ranks)])
    return found
