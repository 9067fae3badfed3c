"""Quantiles from a mergeable log-bucket histogram: 1 % relative error at every quantile, tails included.

Source: Masson, Rim, Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees",
PVLDB 12(12), 2019; the logarithmic mapping, without collapsing. Merging adds counts by bucket, so plain SQL can do it.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

Buckets = npt.NDArray[np.int32]
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

RELATIVE_ERROR: Final = 0.01
_GAMMA: Final = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GAMMA: Final = math.log(_GAMMA)

# Values below this, zero and negatives share one bucket whose value is 0: a nanosecond, when the unit is ms.
TINY: Final = 1e-6
# Below the bucket of TINY (-691), so buckets sort as their values do.
ZERO_BUCKET: Final = -1024


def bucket_of(values: Floats) -> Buckets:
    """Bucket index of each value, (n,) int32; bucket i holds (gamma^(i-1), gamma^i].

    Args:
        values: (n,) float64, finite, any unit.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        index = np.ceil(np.log(values) / _LOG_GAMMA)
    return np.where(values >= TINY, index, ZERO_BUCKET).astype(np.int32)


def value_of(buckets: Buckets) -> Floats:
    """The value that stands for each bucket: within RELATIVE_ERROR of all it holds; 0 for ZERO_BUCKET."""
    values: Floats = 2.0 * np.exp(buckets.astype(np.float64) * _LOG_GAMMA) / (_GAMMA + 1)
    values[buckets == ZERO_BUCKET] = 0.0
    return values


def bucket_sql(column: str) -> str:
    """DuckDB expression equal to `bucket_of`, up to the last bit of its logarithm at a bucket's edge."""
    return f"CASE WHEN {column} >= {TINY} THEN ceil(ln({column}) / {_LOG_GAMMA!r})::INTEGER ELSE {ZERO_BUCKET} END"


def merge(buckets: Buckets, counts: Counts) -> tuple[Buckets, Counts]:
    """Histogram with each bucket once, in rising order, from any concatenation of histograms.

    Args:
        buckets: (n,) int32, repeats allowed, any order.
        counts: (n,) int64, >= 0, of the bucket at the same place.
    """
    if buckets.size == 0:
        return buckets, counts
    order = np.argsort(buckets, kind="stable")
    ordered = buckets[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    return ordered[starts], np.add.reduceat(counts[order], starts)


def quantile(buckets: Buckets, counts: Counts, q: float) -> float | None:
    """Nearest-rank quantile: within RELATIVE_ERROR of the value at rank ceil(q n); None of an empty histogram.

    Args:
        buckets: (n,) int32, repeats allowed, any order: a concatenation needs no merge first.
        counts: (n,) int64, >= 0.
        q: in (0, 1].
    """
    merged, sizes = merge(buckets, counts)
    running = np.cumsum(sizes)
    if running.size == 0 or running[-1] == 0:
        return None
    rank = max(1, math.ceil(q * int(running[-1])))
    return float(value_of(merged[np.searchsorted(running, rank) :][:1])[0])
