"""Runs of bytes copied, compared and looked at in compiled code.

Each takes views first: over a view the loop needs no check of its places and is made into steps of many bytes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cluster.compiled import compiled_step

Bytes = npt.NDArray[np.uint8]


@compiled_step
def put(out: Bytes, at: int, source: Bytes, piece: tuple[int, int]) -> int:
    """Copy `source` from the first place of the piece to before the second; the place behind it in `out`."""
    start, stop = piece
    size = stop - start
    target, origin = out[at : at + size], source[start:stop]
    for place in range(size):
        target[place] = origin[place]
    return at + size


@compiled_step
def is_ascii(source: Bytes, start: int, stop: int) -> bool:
    joined = np.uint8(0)
    for byte in source[start:stop]:
        joined |= byte
    return bool(joined < 128)


@compiled_step
def same(source: Bytes, one: int, other: int, size: int) -> bool:
    """Whether the bytes at two places are the same."""
    mine, theirs = source[one : one + size], source[other : other + size]
    unlike = np.uint8(0)
    for place in range(size):
        unlike |= mine[place] ^ theirs[place]
    return bool(unlike == 0)
