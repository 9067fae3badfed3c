"""Compiled reading of NDJSON rows: where each field's value lies, and the numbers.

A row is read here only if it is plain: known fields, each once, of the type the contract gives them, texts without
escapes. Anything else is odd: it is left to the reader of `ndjson`, which knows every form and names what is wrong.
So nothing here has to explain, and a row that is taken here is read as the other would read it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cluster.compiled import compiled, compiled_step
from cluster.contract.json_scan import ODD, Bytes, number_end, object_end, plain_string_end, scalar_end, skip_space

Ints = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32]

# What a field holds.
TEXT: Final = 0
TEXT_OR_NUMBER: Final = 1
WHOLE: Final = 2
NUMBER: Final = 3
MONEY: Final = 4
DOCUMENT: Final = 5

# Lengths of cells without text: nothing there, or a number that `wholes` or `numbers` holds.
NULL: Final = -1
VALUE: Final = -2
_UNSEEN: Final = -3

_LINE_FEED: Final = ord("\n")
_DIGITS_SUM_MAX: Final = 1 << 53
_DIGITS_MAX: Final = 15
_POWERS: Final = 10.0 ** np.arange(23)


class Fields(NamedTuple):
    """The fields a row may have, in the order expected.

    Attributes:
        names: bytes of their names as the sender writes them, one after the other; uint8.
        offsets: (fields + 1,) int32, of each in `names`.
        kinds: (fields,) uint8, TEXT to DOCUMENT.
        slots: (fields,) int32, column of `wholes` or `numbers` for those that are such.
    """

    names: Bytes
    offsets: Places
    kinds: Bytes
    slots: Places


class Body(NamedTuple):
    """What is read, and what is found.

    Attributes:
        text: uint8, lines, each with its line feed.
        starts, lengths: (rows, fields) int32, where the text of each value lies; a length of NULL or VALUE for none.
        wholes: (rows, slots) int64.
        numbers: (rows, slots) float64, exact.
    """

    text: Bytes
    fields: Fields
    starts: Places
    lengths: Places
    wholes: Ints
    numbers: npt.NDArray[np.float64]


@compiled
def scan(body: Body, ends: Ints) -> npt.NDArray[np.bool_]:
    """Read every row; True for each that is odd, whose cells are NULL then.

    Args:
        ends: (rows,) int64, where the line feeds are.
    """
    size = len(ends)
    odd = np.zeros(size, np.bool_)
    begin = 0
    for row in range(size):
        body.lengths[row, :] = _UNSEEN
        odd[row] = not _scan_row(body, begin, row)
        for field in range(len(body.fields.kinds)):
            if odd[row] or body.lengths[row, field] == _UNSEEN:
                body.lengths[row, field] = NULL
        begin = ends[row] + 1
    return odd


@compiled
def gather(body: Body, field: int, offsets: Places, data: Bytes) -> None:
    """Copy the texts of one field.

    Args:
        offsets: (rows + 1,) int32, of each text in `data`.
    """
    for row in range(len(offsets) - 1):
        start, at = body.starts[row, field], offsets[row]
        for place in range(offsets[row + 1] - at):
            data[at + place] = body.text[start + place]


@compiled_step
def _scan_row(body: Body, at: int, row: int) -> bool:
    # No check against the end of the text: a line feed belongs to no value, so whoever meets it stops.
    text, lengths, kinds = body.text, body.lengths, body.fields.kinds
    at = skip_space(text, at)
    if text[at] != ord("{"):
        return False
    at = skip_space(text, at + 1)
    if text[at] == ord("}"):
        return bool(text[skip_space(text, at + 1)] == _LINE_FEED)
    field = -1
    while True:
        if text[at] != ord('"'):
            return False
        begin = at + 1
        at = _name_end(text, begin)
        if at == ODD:
            return False
        field = _field(body.fields, text[begin:at], field + 1)
        # A name that comes twice is one of those the other reader decides on.
        if field < 0 or lengths[row, field] != _UNSEEN:
            return False
        at = skip_space(text, at + 1)
        if text[at] != ord(":"):
            return False
        at = skip_space(text, at + 1)
        end = _value_end(text, at, kinds[field])
        if end == ODD:
            return False
        _keep(body, (at, end), row, field)
        at = skip_space(text, end)
        if text[at] == ord("}"):
            return bool(text[skip_space(text, at + 1)] == _LINE_FEED)
        if text[at] != ord(","):
            return False
        at = skip_space(text, at + 1)


@compiled_step
def _name_end(text: Bytes, at: int) -> int:
    """Where the closing quote of a name is; no name of a field has an escape."""
    while text[at] != ord('"'):
        if text[at] < 0x20 or text[at] == ord("\\"):
            return ODD
        at += 1
    return at


@compiled_step
def _field(fields: Fields, name: Bytes, expected: int) -> int:
    """Number of the field of that name, the expected one tried first, or -1."""
    count = len(fields.kinds)
    for step in range(count):
        field = expected + step
        if field >= count:
            field -= count
        start = fields.offsets[field]
        if fields.offsets[field + 1] - start != len(name):
            continue
        place = 0
        while place < len(name) and name[place] == fields.names[start + place]:
            place += 1
        if place == len(name):
            return field
    return -1


@compiled_step
def _value_end(text: Bytes, at: int, kind: int) -> int:
    """Behind the value, or ODD where a field of this kind may not have it."""
    first = text[at]
    if first == ord("n"):
        return scalar_end(text, at)
    if kind == WHOLE:
        return _whole_end(text, at)
    if kind == DOCUMENT:
        return object_end(text, at)
    if first == ord('"'):
        # Durations and costs that come as texts may hold anything.
        return plain_string_end(text, at + 1) if kind in (TEXT, TEXT_OR_NUMBER) else ODD
    return number_end(text, at) if kind != TEXT else ODD


@compiled_step
def _keep(body: Body, place: tuple[int, int], row: int, field: int) -> None:
    """Note a value that lies at (begin, end)."""
    text, lengths = body.text, body.lengths
    begin, end = place
    kind = body.fields.kinds[field]
    if text[begin] == ord("n"):
        lengths[row, field] = NULL
    elif kind == WHOLE:
        body.wholes[row, body.fields.slots[field]] = _whole(text, begin, end)
        lengths[row, field] = VALUE
    else:
        quoted = 1 if text[begin] == ord('"') else 0
        body.starts[row, field] = begin + quoted
        lengths[row, field] = end - begin - 2 * quoted
        if kind == NUMBER:
            value, exact = _number(text, begin, end)
            if exact:
                body.numbers[row, body.fields.slots[field]] = value
                lengths[row, field] = VALUE


@compiled_step
def _whole_end(text: Bytes, at: int) -> int:
    """Behind a whole number of few digits; fractions and exponents are the other reader's."""
    begin = at
    while ord("0") <= text[at] <= ord("9"):
        at += 1
    if at == begin or at - begin > _DIGITS_MAX or (text[begin] == ord("0") and at > begin + 1):
        return ODD
    return ODD if text[at] == ord(".") or text[at] | 0x20 == ord("e") else at


@compiled_step
def _whole(text: Bytes, at: int, end: int) -> int:
    value = 0
    while at < end:
        value = value * 10 + (text[at] - ord("0"))
        at += 1
    return value


@compiled_step
def _number(text: Bytes, at: int, end: int) -> tuple[float, bool]:
    """Value, and whether it is exact: digits below 2^53 over a power of ten are, in one division."""
    negative = text[at] == ord("-")
    if negative:
        at += 1
    digits = 0
    decimals = 0
    point = False
    while at < end:
        byte = text[at]
        if byte == ord("."):
            point = True
        elif byte | 0x20 == ord("e") or digits >= _DIGITS_SUM_MAX // 10:
            return 0.0, False
        else:
            digits = digits * 10 + (byte - ord("0"))
            if point:
                decimals += 1
        at += 1
    if decimals >= len(_POWERS):
        return 0.0, False
    value = digits / _POWERS[decimals]
    return (-value if negative else value), True
