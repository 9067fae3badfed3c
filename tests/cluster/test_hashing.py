"""The hash stands in key files and decides routing: it gives for ever what it gave first."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.hashing import Words, combine, hash128, hash_first, seed_of

# Text, and its hash by seeds 0 and 2**64 - 1, as the first implementation gave them.
_GOLDEN = (
    (None, "4d19652bf29d36fffb93dcd6e29e52c3", "220f3c5666ae870e33e86d086c4433b1"),
    ("", "6e68b1a4278b6bb513ce4f71b29c311f", "fc9b9b5f49f907f267d0da10d8886762"),
    ("a", "f33bd7394b1916108cf500668e25fcb5", "31109cc3a1e35779e25ccae00d089ad3"),
    ("trace", "1e1f4d8c087dd4f932c58edd27bc6a93", "0e4665d90072dec6c971ae51d87dae94"),
    ("12345678", "21769b5e4cfab20811740bb6d011bb4a", "5170754d030d24d9acefafe738ac3663"),
    ("123456789", "f9222b41dd31d84a7b26760ed84fe412", "f68f7cb41d7a0496821bce3857248a92"),
    ("0123456789abcdef", "5ab494464a983c55a8038d85b1388f89", "2a16af8e2af452858c934f26d88c40af"),
    ("00000001-ffffffffffffffff", "b9843a49600fa1ab40e42926a67e3c73", "1396e22afb3f93213410215d2088c34b"),
    ("é€😀", "63a6dadc66e02e89c9770942197e103c", "2f76112955214c81a28e4c9f073859fb"),
    ("x" * 31, "ce3f43c9bfd8318a25574f97ef4a99db", "a7d224c9093248fef41e6569a56b4547"),
    ("\0", "7d4fa7e8f6e37c282b9beff4fe7bc26d", "bef4b1d73e248c0dbb98f73de44b4eee"),
    ("\0" * 8, "0d7590ba505d524a462754831ba60966", "dd1c29360f5b7df55d6af7c489d4baf1"),
)
_TEXTS = st.lists(st.one_of(st.none(), st.text(max_size=40)), min_size=1, max_size=40)


def _hex(words: Words) -> list[str]:
    return [f"{high:016x}{low:016x}" for high, low in words.tolist()]


@pytest.mark.parametrize(("seed", "place"), [(0, 1), (2**64 - 1, 2)])
def test_hashes_are_those_on_disk(seed: int, place: int) -> None:
    column = pa.array([text for text, *_ in _GOLDEN], pa.string())
    assert _hex(hash128(column, seed)) == [row[place] for row in _GOLDEN]


def test_seeds_and_pairs_are_those_on_disk() -> None:
    assert seed_of("event:default") == 0xC9EC4F3097726880
    assert seed_of("slot:acme") == 0x2CE649ECBEA6554B
    assert seed_of("call:default") == 0xB340BC09EF6E10C
    column = pa.array([None, "", "a", "trace"], pa.string())
    assert _hex(combine(hash128(column, 1), hash128(column, 2))) == [
        "63f4169a50bfa276275e5494a8be5165",
        "ecbe0dd6a0d11925818e11c7a6751073",
        "5c2dfaddb543a96570d5608e5796286b",
        "b4b8a93adb3260d2e4b167d795272798",
    ]


@given(_TEXTS, st.integers(0, 5))
def test_a_hash_depends_on_the_text_alone(texts: list[str | None], cut: int) -> None:
    column = pa.array(texts, pa.string())
    words = hash128(column, 7)
    alone = np.concatenate([hash128(pa.array([text], pa.string()), 7) for text in texts])
    assert (words == alone).all()
    part = min(cut, len(texts))
    assert (hash128(column.slice(part), 7) == words[part:]).all()
    distinct = {tuple(key) for key in words.tolist()}
    assert len(distinct) == len(set(texts))


@given(_TEXTS, _TEXTS, _TEXTS)
def test_the_first_text_is_hashed_as_if_columns_were_coalesced(
    one: list[str | None], two: list[str | None], three: list[str | None]
) -> None:
    size = min(len(one), len(two), len(three))
    columns = [pa.array(texts[:size], pa.string()) for texts in (one, two, three)]
    assert (hash_first(columns, 3) == hash128(pc.coalesce(*columns), 3)).all()


@pytest.mark.parametrize("shift", [0, 1])
def test_where_the_buffers_lie_does_not_matter(shift: int) -> None:
    column = pa.array(["a", None, "abc", "0123456789"], pa.string())
    moved = [buffer and pa.py_buffer(b"x" * shift + buffer.to_pybytes()).slice(shift) for buffer in column.buffers()]
    again = pa.StringArray.from_buffers(4, moved[1], moved[2], moved[0], 1)
    assert (hash128(again, 7) == hash128(column, 7)).all()


@pytest.mark.parametrize("offsets", [[0, 5, 2], [0, 1_000_000, 5], [0, -8, 5]])
def test_offsets_that_leave_the_data_are_refused(offsets: list[int]) -> None:
    places = pa.py_buffer(np.array(offsets, np.int32).tobytes())
    column = pa.StringArray.from_buffers(2, places, pa.py_buffer(b"0123456789"))
    with pytest.raises(ValueError, match="leave its data"):
        hash128(column, 0)
