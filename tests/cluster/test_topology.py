"""Routing: a row's slot never changes, and a split loses, repeats and reorders nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.tenancy import DEFAULT_TENANT, TenantId
from cluster.topology import shard_of, slots, split
from tests.actors.batches import events


def test_slots_are_those_of_the_rows_on_disk() -> None:
    batch = events(
        [f"e{i}" for i in range(12)],
        trace_id=[None if i % 3 else f"{i:032x}" for i in range(12)],
        request_id=[None if i % 2 else f"r{i}" for i in range(12)],
    )
    assert slots(batch, TenantId("acme")).tolist() == [302, 69, 543, 367, 356, 17, 220, 180, 176, 102, 963, 542]


@given(st.lists(st.one_of(st.none(), st.integers(0, 9)), min_size=1, max_size=50), st.integers(1, 9))
def test_a_split_has_each_row_once_in_order_at_its_owner(traces: list[int | None], shards: int) -> None:
    batch = events(
        [f"e{row}" for row in range(len(traces))],
        trace_id=[None if trace is None else f"{trace:032x}" for trace in traces],
    )
    owners = shard_of(slots(batch, DEFAULT_TENANT), shards).tolist()
    parts = split(batch, DEFAULT_TENANT, shards)
    assert sorted(parts) == sorted(set(owners))
    for shard, part in parts.items():
        rows = [row for row, owner in enumerate(owners) if owner == shard]
        part.validate(full=True)
        assert part.equals(batch.take(rows))
