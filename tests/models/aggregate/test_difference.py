"""Every column that differs is named, once for each tenant and day; what tells the same gives nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.aggregate.difference import difference
from models.aggregate.rollup import MINUTE_US, roll
from tests.models.aggregate.events import START_US, Row, batch_of, law, rows


def partials(events: list[Row], tenant: str = "acme", day: str = "2026-05-28") -> pa.Table:
    rolled = roll(batch_of(events), MINUTE_US)
    for name, value in (("tenant_id", tenant), ("event_date", day)):
        rolled = rolled.append_column(name, pa.array([value] * rolled.num_rows, pa.string()))
    return rolled


@law
@given(st.lists(rows(), max_size=30), st.integers(1, 5))
def test_partials_of_any_grouping_tell_the_same(events: list[Row], shards: int) -> None:
    parts = pa.concat_tables([partials(events[shard::shards]) for shard in range(shards)])
    assert difference(partials(events), parts) == []


@law
@given(st.lists(rows(), min_size=1, max_size=30))
def test_a_lost_event_is_always_reported(events: list[Row]) -> None:
    found = difference(partials(events), partials(events[1:]))
    assert [one.events for one in found if one.column == "event_count"] != []


_TOLD: Row = {"cost_usd": Decimal("0.5"), "input_tokens": 7, "latency_ms": 8.0, "user_id": "u1", "cache_status": "hit"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"cost_usd": Decimal("0.500000001")}, {"cost_usd": ("0.500000000", "0.500000001")}),
        ({"input_tokens": 8}, {"input_tokens": ("7", "8")}),
        ({"cache_status": "miss"}, {"cache_hit_count": ("1", "0")}),
        ({"user_id": None}, {"users_sketch": ("1", "0")}),
        (
            {"latency_ms": 9.0},
            {
                "latency_ms_sum": ("8.0", "9.0"),
                "latency_ms_min": ("8.0", "9.0"),
                "latency_ms_max": ("8.0", "9.0"),
                "latency_buckets": ("1", "1"),
            },
        ),
    ],
)
def test_only_the_columns_that_differ_are_named(change: Row, expected: dict[str, Any]) -> None:
    found = difference(partials([_TOLD]), partials([{**_TOLD, **change}]))
    assert {one.column: (one.events, one.stored) for one in found} == expected
    assert {(one.tenant_id, one.event_date, one.windows) for one in found} == {("acme", "2026-05-28", 1)}


def test_a_row_on_one_side_only_differs_and_others_do_not() -> None:
    events = [_TOLD, {**_TOLD, "occurred_at": START_US + MINUTE_US}]
    both = pa.concat_tables([partials(events), partials([_TOLD], tenant="globex")])
    found = difference(both, partials(events))
    assert {one.tenant_id for one in found} == {"globex"}
    assert {one.column: one.stored for one in found}["latency_ms_max"] == ""


def test_nothing_against_nothing_is_no_difference() -> None:
    assert difference(partials([]), partials([])) == []
