"""JSON strings and whole numbers written by compiled code, byte for byte as orjson writes them.

Texts are escaped as RFC 8259 asks and no further: quote, backslash and control characters. Sizes come first, so that
the writer never looks whether there is room.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from cluster.compiled import compiled_step
from cluster.contract.byte_runs import Bytes, put

_QUOTE: Final = 34
_BACKSLASH: Final = 92
# Second character of the short escapes by control character, 0 where it has none.
_SHORT: Final = np.zeros(32, np.uint8)
_SHORT[[8, 9, 10, 12, 13]] = np.frombuffer(b"btnfr", np.uint8)
_ESCAPE: Final = np.frombuffer(b"\\u00", np.uint8)
_HEX: Final = np.frombuffer(b"0123456789abcdef", np.uint8)


@compiled_step
def text_size(source: Bytes, start: int, stop: int) -> int:
    """Bytes of a text as a JSON string, quotes included."""
    special = False
    for place in range(start, stop):
        byte = source[place]
        special |= (byte < 32) | (byte == _QUOTE) | (byte == _BACKSLASH)
    size = stop - start + 2
    if special:
        for place in range(start, stop):
            byte = source[place]
            if byte < 32:
                size += 1 if _SHORT[byte] else 5
            elif byte in (_QUOTE, _BACKSLASH):
                size += 1
    return size


@compiled_step
def put_text(out: Bytes, at: int, source: Bytes, piece: tuple[int, int, int]) -> int:
    """Write a JSON string. piece: start, stop and `text_size` of the text."""
    start, stop, size = piece
    out[at] = _QUOTE
    at += 1
    if size == stop - start + 2:
        at = put(out, at, source, (start, stop))
    else:
        for place in range(start, stop):
            at = _put_character(out, at, source[place])
    out[at] = _QUOTE
    return at + 1


@compiled_step
def _put_character(out: Bytes, at: int, byte: int) -> int:
    if byte >= 32 and byte != _QUOTE and byte != _BACKSLASH:
        out[at] = byte
        return at + 1
    if byte >= 32 or _SHORT[byte]:
        out[at] = _BACKSLASH
        out[at + 1] = byte if byte >= 32 else _SHORT[byte]
        return at + 2
    at = put(out, at, _ESCAPE, (0, 4))
    out[at] = _HEX[byte >> 4]
    out[at + 1] = _HEX[byte & 15]
    return at + 2


@compiled_step
def _magnitude(value: int) -> int:
    # The lowest number has no positive of its own in 64 bits with a sign.
    return np.uint64(value) if value >= 0 else np.uint64(~value) + np.uint64(1)  # type: ignore[return-value]


@compiled_step
def number_size(value: int) -> int:
    """Characters of a whole number in decimal, sign included."""
    ten = np.uint64(10)
    rest = _magnitude(value)
    size = 1 if value >= 0 else 2
    while rest >= ten:
        rest //= ten  # type: ignore[assignment]
        size += 1
    return size


@compiled_step
def put_number(out: Bytes, at: int, value: int, size: int) -> int:
    """Write a whole number; size: its `number_size`."""
    ten = np.uint64(10)
    rest = _magnitude(value)
    if value < 0:
        out[at] = 45
    first = at if value >= 0 else at + 1
    for place in range(at + size - 1, first - 1, -1):
        out[place] = 48 + rest % ten
        rest //= ten  # type: ignore[assignment]
    return at + size
