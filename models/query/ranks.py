"""Quantiles of many histograms at once: buckets and counts by group in, the bucket of each quantile by group out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from models.aggregate.quantiles import Buckets, Counts

Ints = npt.NDArray[np.int64]
Ranks = list[list[int | None]]

# Groups times buckets that are counted at once: 32 MB of counts.
_CELLS_MAX: Final = 4_000_000


def nearest_ranks(owners: Ints, count: int, histogram: tuple[Buckets, Counts], asked: Sequence[float]) -> Ranks:
    """For each of `count` groups the bucket that each quantile falls into, nearest rank; None where it has no value.

    Args:
        owners: (m,) the group of each entry of the histogram.
        histogram: (m,) buckets and (m,) how many values each holds; buckets of one group may repeat.
        asked: quantiles in (0, 1).
    """
    buckets, counts = histogram
    if not owners.size:
        return [[None] * len(asked) for _ in range(count)]
    low = int(buckets.min())
    width = int(buckets.max()) - low + 1
    at_once = max(1, _CELLS_MAX // width)
    if count > at_once:
        order = np.argsort(owners, kind="stable")
        owners, buckets, counts = owners[order], buckets[order], counts[order]
    found: Ranks = []
    for first in range(0, count, at_once):
        end = min(count, first + at_once)
        part = slice(None) if count <= at_once else slice(*np.searchsorted(owners, (first, end)).tolist())
        cells = (owners[part] - first) * width + (buckets[part] - low)
        # Sums of float64 are exact up to 2^53, more calls than a group will ever see.
        held = np.bincount(cells, weights=counts[part], minlength=(end - first) * width)
        running = np.cumsum(held.reshape(-1, width), axis=1)
        total = running[:, -1]
        places = [np.argmax(running >= np.maximum(1, np.ceil(q * total))[:, None], axis=1) + low for q in asked]
        told = np.stack(places, axis=1).tolist()
        found += [row if some else [None] * len(asked) for some, row in zip(total.tolist(), told, strict=True)]
    return found
