"""The protobuf wire format, field by field, in compiled code. Nothing is read outside the bytes given.

Source: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from cluster.compiled import compiled_step
from cluster.contract.byte_runs import Bytes, is_ascii

_TAG_MAX: Final = (1 << 32) - 1


class Field(NamedTuple):
    """One field on the wire: number and wire type, its content's place, its value where it is a number."""

    tag: int
    start: int
    stop: int
    value: int


@compiled_step
def _varint(body: Bytes, at: int, end: int) -> tuple[Any, int]:
    """64 bits and the place behind them, -1 where they do not end in time."""
    if at < end and body[at] < 128:
        return np.int64(body[at]), at + 1
    value: Any = np.int64(0)
    for place in range(at, min(end, at + 10)):
        byte = np.int64(body[place])
        value |= (byte & 127) << (7 * (place - at))
        if byte < 128:
            return value, place + 1 if place - at < 9 or byte < 2 else -1
    return value, -1


@compiled_step
def read_field(body: Bytes, at: int, end: int) -> Field:
    """The field at a place; its stop is -1 where it is broken, a group, or longer than anybody needs to write it."""
    # Most are texts and messages below 128 bytes.
    if end - at >= 2 and body[at] & 0x87 == 2 and body[at] > 8 and body[at + 1] < 128:
        tag: Any = np.int64(body[at])
        stop: Any = at + 2 + np.int64(body[at + 1])
        if stop <= end:
            return Field(tag, at + 2, stop, 0)
    return _read_any_field(body, at, end)


@compiled_step
def _read_any_field(body: Bytes, at: int, end: int) -> Field:
    tag, start = _varint(body, at, end)
    if start < 0 or start - at > 5 or tag < 8 or tag > _TAG_MAX:
        return Field(0, 0, -1, 0)
    wire = tag & 7
    if wire == 0:
        value, stop = _varint(body, start, end)
        return Field(tag, start, stop, value)
    if wire == 2:
        length, content = _varint(body, start, end)
        if content < 0 or content - start > 5 or length > end - content:
            return Field(0, 0, -1, 0)
        return Field(tag, content, content + length, 0)
    width = 8 if wire == 1 else 4
    if (wire != 1 and wire != 5) or end - start < width:
        return Field(0, 0, -1, 0)
    bits: Any = np.int64(0)
    for place in range(width):
        bits |= np.int64(body[start + place]) << (8 * place)
    return Field(tag, start, start + width, bits)


@compiled_step
def is_utf8(body: Bytes, start: int, stop: int) -> bool:
    """Whether the bytes are UTF-8 as RFC 3629 has it: shortest forms, no surrogates, up to U+10FFFF."""
    if is_ascii(body, start, stop):
        return True
    place = start
    while place < stop:
        lead = body[place]
        place += 1
        if lead < 128:
            continue
        if lead < 0xC2 or lead > 0xF4:
            return False
        more = 1 if lead < 0xE0 else 2 if lead < 0xF0 else 3
        if stop - place < more:
            return False
        low = 0xA0 if lead == 0xE0 else 0x90 if lead == 0xF0 else 0x80
        high = 0x9F if lead == 0xED else 0x8F if lead == 0xF4 else 0xBF
        if body[place] < low or body[place] > high:
            return False
        for follower in range(place + 1, place + more):
            if body[follower] & 0xC0 != 0x80:
                return False
        place += more
    return True


def framed(number: int, content: bytes) -> bytes:
    """The content as field `number` (below 16) of the message around it."""
    size = len(content)
    length = bytearray()
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    length.append(size)
    return bytes([number << 3 | 2]) + length + content
