"""Turns: nothing is lost, each owner's order holds, and nobody waits behind another's whole queue."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.fairness import RoundRobin


@given(st.lists(st.sampled_from("abc")))
def test_each_owner_keeps_its_order_and_waits_one_item_of_each_other(owners: list[str]) -> None:
    waiting: RoundRobin[tuple[str, int]] = RoundRobin()
    for number, owner in enumerate(owners):
        waiting.add(owner, (owner, number))
    taken = []
    while waiting:
        first = waiting.first()
        assert waiting.take() == first
        taken.append(first)
    assert sorted(taken, key=lambda item: item[1]) == [(owner, number) for number, owner in enumerate(owners)]
    for owner in set(owners):
        mine = [number for one, number in taken if one == owner]
        assert mine == sorted(mine)
        # Before its n-th item, no other owner had more than n + 1.
        for count, place in enumerate(place for place, (one, _) in enumerate(taken) if one == owner):
            for other in set(owners) - {owner}:
                assert sum(one == other for one, _ in taken[:place]) <= count + 1
