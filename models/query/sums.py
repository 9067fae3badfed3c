"""Exact sums by group: float64 adds fast, and what it would round is added in parts that it does not."""

from __future__ import annotations

from typing import Final

import numpy as np

from models.query.partials import Ints

# Whole numbers up to here are exact in float64, and so are sums that stay within it.
_EXACT_MAX: Final = 1 << 53
_HALF_BITS: Final = 32
_LOW: Final = (1 << _HALF_BITS) - 1
# Rows whose halves cannot add up beyond `_EXACT_MAX`.
ROWS_MAX: Final = _EXACT_MAX >> _HALF_BITS


def exact_sums(ids: Ints, count: int, column: Ints) -> list[int]:
    """(count,) sums of a column by group, however large.

    Args:
        ids: (n,) the group of each row, 0 to count - 1.
        column: (n,) whole numbers >= 0.
    """
    if column.size * int(column.max(initial=0)) <= _EXACT_MAX:
        small: list[int] = np.bincount(ids, weights=column, minlength=count).astype(np.int64).tolist()
        return small
    totals = [0] * count
    for first in range(0, column.size, ROWS_MAX):
        owners, numbers = ids[first : first + ROWS_MAX], column[first : first + ROWS_MAX]
        halves = (
            np.bincount(owners, weights=half, minlength=count).tolist()
            for half in (numbers >> _HALF_BITS, numbers & _LOW)
        )
        for place, (high, low) in enumerate(zip(*halves, strict=True)):
            totals[place] += (int(high) << _HALF_BITS) + int(low)
    return totals
