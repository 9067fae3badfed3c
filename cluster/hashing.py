"""A 128-bit hash of string columns, computed column-wise in NumPy.

Routing and repeat detection must give the same number in every process for ever, so the hash is written down here
rather than taken from a library whose seed or version may move. It is not cryptographic: the tenant is part of the
seed, so a sender who builds collisions only loses events of their own.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Words = npt.NDArray[np.uint64]

# Multipliers of the two lanes: odd 64-bit constants with good avalanche (splitmix64 and MurmurHash3 finalisers).
_LANES: Final = (
    (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)),
    (np.uint64(0xD6E8FEB86659FD93), np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)),
)
_S33: Final = np.uint64(33)
_S29: Final = np.uint64(29)
_S32: Final = np.uint64(32)
_NULL_LENGTH: Final = -1


def hash128(column: pa.StringArray, seed: int) -> Words:
    """Hash of each string.

    Args:
        column: (n,) utf8; null hashes to one value of its own, different from the empty string.
        seed: 64-bit seed; callers give one for each purpose and tenant.

    Returns:
        (n, 2) uint64.
    """
    size = len(column)
    out = np.empty((size, 2), np.uint64)
    if size == 0:
        return out
    offsets, data = _buffers(column)
    lengths = np.diff(offsets)
    if column.null_count:
        lengths = np.where(np.asarray(column.is_null()), _NULL_LENGTH, lengths)
    first = int(lengths[0])
    if (lengths == first).all():
        out[:] = _hash_block(_rows(data, offsets[:-1], first), first, seed)
        return out
    order = np.argsort(lengths, kind="stable")
    bounds = np.flatnonzero(np.diff(lengths[order])) + 1
    for rows in np.split(order, bounds):
        length = int(lengths[rows[0]])
        out[rows] = _hash_block(_rows(data, offsets[rows], length), length, seed)
    return out


def combine(left: Words, right: Words) -> Words:
    """Hash of the pair, row by row; not symmetric."""
    with np.errstate(over="ignore"):
        turned = (right << np.uint64(17)) | (right >> np.uint64(47))
        return _finish(left * _LANES[0][1] ^ turned, _LANES[1][1], _LANES[1][2])


@lru_cache(maxsize=4096)
def seed_of(text: str) -> int:
    """Seed from a purpose and tenant name, e.g. `key:default`."""
    words = hash128(pa.array([text], pa.string()), 0)
    return int(words[0, 0])


def _buffers(column: pa.StringArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    _, offset_buffer, data_buffer = column.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32, len(column) + 1, offset=4 * column.offset).astype(np.int64)
    if data_buffer is None:
        return offsets, np.empty(0, np.uint8)
    return offsets, np.frombuffer(data_buffer, np.uint8)


def _rows(data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.uint64]:
    """(n, ceil(length / 8)) little-endian words, the last one padded with zeros."""
    words = (max(length, 0) + 7) // 8
    padded = np.zeros((len(starts), words * 8), np.uint8)
    if length > 0:
        step = int(starts[1] - starts[0]) if len(starts) > 1 else length
        if step == length and int(starts[-1] - starts[0]) == length * (len(starts) - 1):
            begin = int(starts[0])
            padded[:, :length] = data[begin : begin + length * len(starts)].reshape(len(starts), length)
        else:
            padded[:, :length] = data[starts[:, None] + np.arange(length)]
    return padded.view("<u8").reshape(len(starts), words)


def _hash_block(words: npt.NDArray[np.uint64], length: int, seed: int) -> Words:
    out = np.empty((len(words), 2), np.uint64)
    with np.errstate(over="ignore"):
        for lane, (increment, multiplier, final) in enumerate(_LANES):
            start = np.uint64((seed ^ ((length + 2) * int(increment))) & 0xFFFFFFFFFFFFFFFF)
            state = np.full(len(words), start, np.uint64)
            for index in range(words.shape[1]):
                state ^= words[:, index]
                state *= multiplier
                state ^= state >> _S29
                state += increment
            out[:, lane] = _finish(state, multiplier, final)
    return out


def _finish(state: Words, multiplier: np.uint64, final: np.uint64) -> Words:
    state = (state ^ (state >> _S33)) * multiplier
    state = (state ^ (state >> _S29)) * final
    return state ^ (state >> _S32)
