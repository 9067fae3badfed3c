"""A 128-bit hash of string columns, in one compiled loop over their bytes.

Routing and repeat detection must give the same number in every process for ever, so the hash is written down here
rather than taken from a library whose seed or version may move. It is not cryptographic: the tenant is part of the
seed, so a sender who builds collisions only loses events of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.compiled import compiled

Words = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]

# Increment, multiplier and final of the two lanes: odd 64-bit constants with good avalanche (splitmix64 and
# MurmurHash3 finalisers). Beside a signed number a uint64 becomes a float in compiled code, so every one is a uint64.
_I0: Final = np.uint64(0x9E3779B97F4A7C15)
_M0: Final = np.uint64(0xBF58476D1CE4E5B9)
_F0: Final = np.uint64(0x94D049BB133111EB)
_I1: Final = np.uint64(0xD6E8FEB86659FD93)
_M1: Final = np.uint64(0xFF51AFD7ED558CCD)
_F1: Final = np.uint64(0xC4CEB9FE1A85EC53)
_S3: Final = np.uint64(3)
_S17: Final = np.uint64(17)
_S29: Final = np.uint64(29)
_S32: Final = np.uint64(32)
_S33: Final = np.uint64(33)
_S47: Final = np.uint64(47)
_WORD: Final = np.uint64(8)
# Null has length -1, and no length may leave the seed as it is.
_NULL_AND_EMPTY: Final = np.uint64(2)
_MASK: Final = (1 << 64) - 1
_ALL_VALID: Final = np.frombuffer(b"", np.uint8)


class Texts(NamedTuple):
    """A string column as compiled loops take it: Arrow's own buffers, read-only.

    Attributes:
        offsets: (n + 1,) int32, places in `data`.
        data: uint8.
        valid: uint8, a bit for each row, lowest first; empty where every row has a text.
        first: the bit of row 0.
    """

    offsets: npt.NDArray[np.int32]
    data: Bytes
    valid: Bytes
    first: int


def texts_of(column: pa.StringArray) -> Texts:
    """The buffers of a string column, (n,); n above 0."""
    size, start = len(column), column.offset
    _, offset_buffer, data_buffer = column.buffers()
    offsets = frozen(np.frombuffer(offset_buffer, np.int32, size + 1, offset=4 * start))
    data = _ALL_VALID if data_buffer is None else frozen(np.frombuffer(data_buffer, np.uint8))
    return Texts(offsets, data, validity_of(column), start)


def validity_of(column: pa.Array) -> Bytes:
    """The bits that tell which rows have a value, row 0 at `column.offset`; empty where all have."""
    if not column.null_count:
        return _ALL_VALID
    return frozen(np.frombuffer(column.buffers()[0], np.uint8, (column.offset + len(column) + 7) // 8))


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array as compiled loops want all they only read: contiguous, aligned, read-only; else each kind compiles."""
    if not (array.flags.c_contiguous and array.flags.aligned):
        array = array.copy()
    view = array.view()
    view.flags.writeable = False
    return view


def hash128(column: pa.StringArray, seed: int) -> Words:
    """Hash of each string.

    Args:
        column: (n,) utf8; null hashes to one value of its own, different from the empty string.
        seed: 64-bit seed; callers give one for each purpose and tenant.

    Returns:
        (n, 2) uint64.
    """
    return hash_first([column], seed)


def hash_first(columns: Sequence[pa.StringArray], seed: int) -> Words:
    """Hash of the first string of each row: as `hash128` of the columns coalesced.

    Args:
        columns: one at least, each (n,) utf8.

    Raises:
        ValueError: the offsets of a column leave its data; no sound Arrow array has such.
    """
    out = np.empty((len(columns[0]), 2), np.uint64)
    if not len(out):
        return out
    needed: list[pa.StringArray] = []
    for column in columns:
        if column.null_count < len(out):
            needed.append(column)
        if not column.null_count:
            break
    start = np.uint64(seed & _MASK)
    # The last first: each column before it writes over the rows that it has a text for.
    for place, column in enumerate(reversed(needed or [columns[0]])):
        if not _hash_rows(texts_of(column), start, out, place == 0):
            raise ValueError("the offsets of a string column leave its data")
    return out


def combine(left: Words, right: Words) -> Words:
    """Hash of the pair, row by row; not symmetric."""
    out = np.empty((len(left), 2), np.uint64)
    _combine_rows(frozen(left).reshape(-1), frozen(right).reshape(-1), out.reshape(-1))
    return out


@lru_cache(maxsize=4096)
def seed_of(text: str) -> int:
    """Seed from a purpose and tenant name, e.g. `key:default`."""
    words = hash128(pa.array([text], pa.string()), 0)
    return int(words[0, 0])


@compiled
def _hash_rows(texts: Texts, seed: np.uint64, out: Words, nulls: bool) -> bool:
    """Hashes of the rows into `out`, (n, 2); of rows without a text only where `nulls`. False for unsound offsets."""
    offsets, data, valid, first = texts
    for row in range(len(out)):
        bit = first + row
        if valid.size and not (valid[bit >> 3] >> (bit & 7)) & 1:
            if nulls:
                out[row, 0] = _finish(seed ^ _I0, _M0, _F0)
                out[row, 1] = _finish(seed ^ _I1, _M1, _F1)
            continue
        if offsets[row] < 0 or offsets[row + 1] < offsets[row] or offsets[row + 1] > data.size:
            return False
        at, end = np.uint64(offsets[row]), np.uint64(offsets[row + 1])
        length = end - at + _NULL_AND_EMPTY
        one, two = seed ^ (length * _I0), seed ^ (length * _I1)
        while at + _WORD <= end:
            word = _word(data, at)
            one, two = _mix(one, word, _M0, _I0), _mix(two, word, _M1, _I1)
            at += _WORD
        if at < end:
            word = _last_word(data, at, end)
            one, two = _mix(one, word, _M0, _I0), _mix(two, word, _M1, _I1)
        out[row, 0], out[row, 1] = _finish(one, _M0, _F0), _finish(two, _M1, _F1)
    return True


@compiled
def _word(data: Bytes, at: np.uint64) -> np.uint64:
    """Eight bytes, little-endian; the compiler makes one load of it."""
    word = np.uint64(0)
    for place in range(8):
        word |= np.uint64(data[at + np.uint64(place)]) << np.uint64(8 * place)
    return word


@compiled
def _last_word(data: Bytes, at: np.uint64, end: np.uint64) -> np.uint64:
    """The bytes from `at` to `end`, fewer than eight, padded with zeros."""
    if end >= _WORD:
        return _word(data, end - _WORD) >> ((_WORD - (end - at)) << _S3)
    word = np.uint64(0)
    while end > at:
        end -= np.uint64(1)
        word = (word << _WORD) | np.uint64(data[end])
    return word


@compiled
def _mix(state: np.uint64, word: np.uint64, multiplier: np.uint64, increment: np.uint64) -> np.uint64:
    state = (state ^ word) * multiplier
    return (state ^ (state >> _S29)) + increment


@compiled
def _finish(state: np.uint64, multiplier: np.uint64, final: np.uint64) -> np.uint64:
    state = (state ^ (state >> _S33)) * multiplier
    state = (state ^ (state >> _S29)) * final
    return state ^ (state >> _S32)


@compiled
def _combine_rows(left: Words, right: Words, out: Words) -> None:
    """Word by word, (2n,) each."""
    for place in range(out.size):
        turned = (right[place] << _S17) | (right[place] >> _S47)
        out[place] = _finish(left[place] * _M0 ^ turned, _M1, _F1)
