"""Memory of keys: what was put is found, bits join, and the window is at least what it says."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from actors.seen import Seen, SeenTable, first_of_each
from cluster.hashing import hash128

_KEYS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2)), min_size=1, max_size=200)


def _array(pairs: list[tuple[int, int]]) -> np.ndarray:
    return np.array(pairs, np.uint64).reshape(-1, 2)


@given(st.lists(_KEYS, min_size=1, max_size=6), st.integers(0, 127))
def test_a_table_agrees_with_a_dict(batches: list[list[tuple[int, int]]], bit: int) -> None:
    table, known = SeenTable(), {}
    for pairs in batches:
        keys = _array(pairs)
        keys = keys[first_of_each(keys)]
        names = [tuple(key) for key in keys.tolist()]
        bits = np.array([(a + bit) % 128 for a, _ in names], np.uint8)
        found, before = table.exchange(keys, bits)
        assert found.tolist() == [name in known for name in names]
        assert before.tolist() == [known.get(name, 0) for name in names]
        for name, value in zip(names, bits.tolist(), strict=True):
            known[name] = known.get(name, 0) | value
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


@given(st.lists(st.one_of(st.none(), st.text(max_size=40)), min_size=1, max_size=60), st.integers(0, 5))
def test_a_hash_depends_on_the_text_alone(texts: list[str | None], cut: int) -> None:
    column = pa.array(texts, pa.string())
    words = hash128(column, 7)
    alone = np.concatenate([hash128(pa.array([text], pa.string()), 7) for text in texts])
    assert (words == alone).all()
    part = min(cut, len(texts))
    assert (hash128(column.slice(part), 7) == words[part:]).all()
    distinct = {tuple(key) for key in words.tolist()}
    assert len(distinct) == len(set(texts))
