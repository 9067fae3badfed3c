"""Sums of partials in memory stay right where numbers of groups or sums leave what one machine word holds."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from models.aggregate.rollup import MINUTE_US, roll
from models.query.partials import Partials, block, dictionaries
from models.query.plan import choose
from models.query.request import parse_metrics
from models.query.sums import ROWS_MAX, exact_sums
from models.query.tally import tally
from tests.serving.small_lake import NOW_US, batch, event

HOUR_US = 3_600_000_000
FIELDS = ("service", "provider", "model", "operation", "environment")
# Five dictionaries of this size, null included, number 2^65 groups: twice what 64 bits do.
NAMES = 2**13 - 1


def test_groups_of_five_long_dictionaries_stay_apart() -> None:
    names = dictionaries()
    for field in FIELDS:
        names[field].codes(pa.array([f"{field}-{number}" for number in range(1, NAMES + 1)]))
    # Numbered in one product of 64 bits, the first two would be one group, and so would the last two.
    wanted = {
        ("service-1", "provider-5", "model-5", "operation-5", "environment-5"): 2,
        ("service-4097", "provider-5", "model-5", "operation-5", "environment-5"): 3,
        (f"service-{NAMES}", None, "model-1", f"operation-{NAMES}", None): 4,
        (f"service-{NAMES - 4096}", None, "model-1", f"operation-{NAMES}", None): 5,
    }
    rows = [
        event(place * 10 + number, **dict(zip(FIELDS, key, strict=True)))
        for place, (key, count) in enumerate(wanted.items())
        for number in range(count)
    ]
    known = block(roll(batch(rows), MINUTE_US), names)
    pairs = [("measure", "event_count"), ("from", "-2h"), *(("group_by", field) for field in FIELDS)]
    for more in ([], [("granularity", "1h")]):
        kind = "timeseries" if more else "aggregate"
        plan = choose(parse_metrics(kind, [*pairs, *more], now_us=NOW_US), groups_max=100)
        partials = Partials(names, (("alpha", known, slice(0, known.row_count)),))
        found = tally(plan, plan.request.span, partials)
        assert found is not None
        assert {key[1:] if more else key: values["event_count"] for key, values in found.items()} == wanted


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2**62)), max_size=50))
def test_sums_are_those_of_whole_numbers(rows: list[tuple[int, int]]) -> None:
    ids, column = (np.array([row[place] for row in rows], dtype=np.int64) for place in (0, 1))
    assert exact_sums(ids, 4, column) == [sum(number for owner, number in rows if owner == group) for group in range(4)]


@settings(max_examples=3, deadline=None)
@given(st.sampled_from([2**32 - 1, 2**32 + 1, 2**40 - 1]))
def test_sums_are_exact_over_more_rows_than_two_halves_bear(number: int) -> None:
    rows = 2 * ROWS_MAX + 3
    ids = np.zeros(rows, dtype=np.int64)
    ids[:2] = 1
    assert exact_sums(ids, 2, np.full(rows, number)) == [(rows - 2) * number, 2 * number]
