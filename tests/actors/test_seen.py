"""Memory of keys: what was put is found, bits join, and the window is at least what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.seen import Seen, SeenTable, first_of_each

_KEYS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2)), min_size=1, max_size=200)


def _array(pairs: list[tuple[int, int]]) -> np.ndarray:
    return np.array(pairs, np.uint64).reshape(-1, 2)


@given(st.lists(_KEYS, min_size=1, max_size=6), st.integers(0, 127))
def test_a_table_agrees_with_a_dict(batches: list[list[tuple[int, int]]], bit: int) -> None:
    table = SeenTable()
    known: dict[tuple[int, int], int] = {}
    for pairs in batches:
        bits = [(row + bit) % 128 for row in range(len(pairs))]
        found, before = table.exchange(_array(pairs), np.array(bits, np.uint8))
        expected = []
        for name, value in zip(pairs, bits, strict=True):
            expected.append((name in known, known.get(name, 0)))
            known[name] = known.get(name, 0) | value
        assert list(zip(found.tolist(), before.tolist(), strict=True)) == expected
    assert table.size == len(known)
    found, bits = table.find(_array(list(known)))
    assert found.all()
    assert bits.tolist() == list(known.values())


def test_growth_keeps_every_key() -> None:
    keys = np.random.default_rng(3).integers(0, 2**63, (50_000, 2)).astype(np.uint64)
    table = SeenTable()
    for start in range(0, len(keys), 777):
        table.exchange(keys[start : start + 777], np.zeros(len(keys[start : start + 777]), np.uint8))
    assert table.find(keys)[0].all()


def test_the_window_holds_at_least_its_limit_and_at_most_twice() -> None:
    seen = Seen(1000)
    keys = np.arange(20_000, dtype=np.uint64).reshape(-1, 2)
    for start in range(0, len(keys), 100):
        seen.exchange(keys[start : start + 100])
        assert seen.find(keys[max(0, start + 100 - 1000) : start + 100])[0].all()
        assert len(seen) <= 2000
    assert not seen.find(keys[:100])[0].any()


@given(_KEYS)
def test_first_of_each_is_the_earliest_row(pairs: list[tuple[int, int]]) -> None:
    earliest = {}
    for row, pair in enumerate(pairs):
        earliest.setdefault(pair, row)
    assert np.flatnonzero(first_of_each(_array(pairs))).tolist() == sorted(earliest.values())


class _Model:
    """What Seen promises, with two dicts."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.young: dict[tuple[int, int], int] = {}
        self.old: dict[tuple[int, int], int] = {}

    def turn_if_full(self, more: int) -> None:
        if self.young and len(self.young) + more > self._limit:
            self.old, self.young = self.young, {}

    def bits(self, name: tuple[int, int]) -> int:
        return self.young.get(name, 0) | self.old.get(name, 0)

    def exchange(self, name: tuple[int, int], bits: int) -> tuple[bool, int]:
        self.turn_if_full(1)
        known = (name in self.young or name in self.old, self.bits(name))
        self.young[name] = self.young.get(name, 0) | bits
        return known

    def tell(self, names: list[tuple[int, int]], told: int) -> int:
        self.turn_if_full(len(names))
        known = 0
        for name in names:
            known |= self.bits(name)
        for name in names:
            self.young[name] = self.young.get(name, 0) | known | told
        return told & ~known


@given(st.lists(_KEYS, min_size=1, max_size=6), st.integers(1, 90), st.integers(0, 127))
def test_two_generations_agree_with_two_dicts(batches: list[list[tuple[int, int]]], limit: int, bit: int) -> None:
    seen, model = Seen(limit), _Model(limit)
    for pairs in batches:
        bits = [(row + bit) % 128 for row in range(len(pairs))]
        found, before = seen.exchange(_array(pairs), np.array(bits, np.uint8))
        expected = [model.exchange(name, value) for name, value in zip(pairs, bits, strict=True)]
        assert list(zip(found.tolist(), before.tolist(), strict=True)) == expected
        assert len(seen) == len(model.young) + len(model.old)
    found, before = seen.find(_array([(a, b) for a in range(41) for b in range(3)]))
    names = [(a, b) for a in range(41) for b in range(3)]
    assert found.tolist() == [name in model.young or name in model.old for name in names]
    assert before.tolist() == [model.bits(name) for name in names]


_ROWS = st.lists(
    st.tuples(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), max_size=3), st.integers(0, 127)), max_size=60
)


@given(st.lists(_ROWS, min_size=1, max_size=5), st.integers(1, 40))
def test_rows_that_tell_agree_with_two_dicts(
    batches: list[list[tuple[list[tuple[int, int]], int]]], limit: int
) -> None:
    seen, model = Seen(limit), _Model(limit)
    for rows in batches:
        keys = _array([name for names, _ in rows for name in names])
        owners = np.repeat(np.arange(len(rows)), [len(names) for names, _ in rows]).astype(np.int64)
        first = seen.tell(keys, owners, np.array([told for _, told in rows], np.uint8))
        assert first.tolist() == [model.tell(names, told) if names else told for names, told in rows]
        assert len(seen) == len(model.young) + len(model.old)


@pytest.mark.parametrize("owners", [[0, 2], [-1, 0], [1, -7]])
def test_keys_of_no_row_are_refused(owners: list[int]) -> None:
    with pytest.raises(ValueError, match="keys belong to rows"):
        Seen(10).tell(_array([(1, 1), (2, 2)]), np.array(owners, np.int64), np.zeros(2, np.uint8))
