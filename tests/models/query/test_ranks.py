"""Nearest ranks by group equal those counted one value at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.query import ranks

ASKED = (0.5, 0.95, 0.999)
GROUPS = 4
# (group, bucket, how many values it holds)
ENTRY = st.tuples(st.integers(0, GROUPS - 1), st.integers(-1024, 800), st.integers(0, 9))


def plainly(entries: list[tuple[int, int, int]]) -> list[list[int | None]]:
    found: list[list[int | None]] = []
    for group in range(GROUPS):
        values = sorted(bucket for owner, bucket, count in entries if owner == group for _ in range(count))
        found.append([values[max(1, math.ceil(q * len(values))) - 1] if values else None for q in ASKED])
    return found


@pytest.mark.parametrize("cells", [4_000_000, 2_000], ids=["at once", "group by group"])
@given(entries=st.lists(ENTRY, max_size=30))
def test_ranks_equal_those_of_single_values(cells: int, entries: list[tuple[int, int, int]]) -> None:
    owners, buckets, counts = (np.array([entry[place] for entry in entries], dtype=np.int64) for place in range(3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks, "_CELLS_MAX", cells)
        found = ranks.nearest_ranks(owners, GROUPS, (buckets.astype(np.int32), counts), ASKED)
    assert found == plainly(entries)
