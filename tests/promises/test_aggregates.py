"""Laws of every aggregate: identity, any order, any grouping, no special case for small partials."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from models.aggregate import distinct
from models.aggregate.rollup import HOUR_US, MINUTE_US, ROLLUP_KEYS, coarsen, merge, roll
from models.measures import MEASURES, values
from tests.models.aggregate.events import Row, batch_of, batches, law, rows


def answers(table: pa.Table) -> list[dict[str, Any]]:
    """Every measure of every key, in key order: what a reader of the partials can learn."""
    found = values(table, list(MEASURES), seconds=60.0)
    keys = table.select(list(ROLLUP_KEYS)).to_pylist()
    lines = [{**key, **{name: found[name][index] for name in found}} for index, key in enumerate(keys)]
    return sorted(lines, key=lambda line: [str(line[name]) for name in ROLLUP_KEYS])


def exact(table: pa.Table) -> list[dict[str, Any]]:
    """All of a table but the bytes of its sketches, which may differ where the sets are equal."""
    plain = table.drop_columns(["users_sketch", "sessions_sketch"]).to_pylist()
    return sorted(plain, key=lambda line: [str(line[name]) for name in ROLLUP_KEYS])


def assert_same(left: pa.Table, right: pa.Table) -> None:
    assert exact(left) == exact(right)
    assert answers(left) == answers(right)


@law
@given(batches())
def test_nothing_is_the_identity(batch: pa.RecordBatch) -> None:
    partial = roll(batch, MINUTE_US)
    empty = roll(batch.slice(0, 0), MINUTE_US)
    assert empty.num_rows == merge([]).num_rows == 0
    assert merge([]).schema == partial.schema
    assert_same(merge([empty, partial, merge([])]), partial)


@law
@given(st.lists(batches(12), max_size=5), st.randoms(use_true_random=False))
def test_order_does_not_matter(parts: list[pa.RecordBatch], random: Any) -> None:
    partials = [roll(part, MINUTE_US) for part in parts]
    shuffled = random.sample(partials, len(partials))
    assert_same(merge(partials), merge(shuffled))


@law
@given(st.lists(batches(12), min_size=1, max_size=6), st.data())
def test_grouping_does_not_matter(parts: list[pa.RecordBatch], data: st.DataObject) -> None:
    partials = [roll(part, MINUTE_US) for part in parts]
    cut = data.draw(st.integers(0, len(partials)))
    assert_same(merge([merge(partials[:cut]), merge(partials[cut:])]), merge(partials))


@law
@given(st.lists(rows(), max_size=40), st.integers(1, 8))
def test_rolling_up_by_shard_equals_rolling_up_at_once(events: list[Row], shards: int) -> None:
    parts = [roll(batch_of(events[shard::shards]), MINUTE_US) for shard in range(shards)]
    assert_same(merge(parts), roll(batch_of(events), MINUTE_US))


@law
@given(st.lists(rows(), min_size=1, max_size=25))
def test_partials_of_one_event_count_like_any_other(events: list[Row]) -> None:
    singles = [roll(batch_of([row]), MINUTE_US) for row in events]
    assert all(single.num_rows == 1 for single in singles)
    assert_same(merge(singles), roll(batch_of(events), MINUTE_US))


@law
@given(batches())
def test_coarsening_equals_rolling_up_by_the_longer_window(batch: pa.RecordBatch) -> None:
    assert_same(coarsen(roll(batch, MINUTE_US), HOUR_US), roll(batch, HOUR_US))


def test_a_quiet_tenants_only_event_survives_a_loud_partner() -> None:
    loud = roll(batch_of([{"model": "loud", "latency_ms": 10.0}] * 5_000), MINUTE_US)
    quiet = roll(batch_of([{"model": "quiet", "latency_ms": 10_000.0}]), MINUTE_US)
    total = values(merge([loud, quiet], keys=()), ["request_count", "latency_ms_max"], seconds=60.0)
    assert total == {"request_count": [5_001], "latency_ms_max": [10_000.0]}


_SETS = st.sets(st.integers(0, 3_000), max_size=60)


@law
@given(st.lists(_SETS, max_size=6), st.randoms(use_true_random=False))
def test_distinct_counts_of_small_sets_are_exact_in_any_order(sets: list[set[int]], random: Any) -> None:
    sketches = [distinct.sketch_of(map(str, members)) for members in sets]
    random.shuffle(sketches)
    assert distinct.estimate(distinct.merge([*sketches, distinct.merge([])])) == len(set().union(*sets))


def test_distinct_counts_of_large_sets_depend_on_the_set_alone() -> None:
    for size in (distinct.EXACT_COUNT_MAX, distinct.EXACT_COUNT_MAX + 1, 500, 3_000, 20_000):
        ids = [f"user-{number}" for number in range(size)]
        parts = [distinct.sketch_of(ids[offset::7]) for offset in range(7)]
        nested = distinct.merge([distinct.merge(parts[4:]), distinct.merge(parts[:4])])
        counts = {distinct.estimate(sketch) for sketch in (distinct.sketch_of(ids), distinct.merge(parts), nested)}
        assert len(counts) == 1
        (count,) = counts
        allowed = 0 if size <= distinct.EXACT_COUNT_MAX else 4 * distinct.STANDARD_ERROR * size
        assert abs(count - size) <= allowed
