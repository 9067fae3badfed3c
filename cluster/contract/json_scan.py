"""JSON (RFC 8259) walked by compiled code: each function gives the place behind what it read, or ODD.

No function checks for the end of the text: it ends with a line feed, which is not allowed within a value, so whoever
meets it stops. ODD is not always wrong; lone surrogates and deep nests are left to a reader that can say what is wrong.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from cluster.compiled import compiled_step

Bytes = npt.NDArray[np.uint8]

ODD: Final = -1
_DEPTH_MAX: Final = 60


@compiled_step
def skip_space(text: Bytes, at: int) -> int:
    while text[at] == ord(" ") or text[at] == ord("\t") or text[at] == ord("\r"):
        at += 1
    return at


@compiled_step
def object_end(text: Bytes, at: int) -> int:
    """Behind an object (RFC 8259), whatever is in it."""
    if text[at] != ord("{"):
        return ODD
    # One bit for each level that is open: 1 for an object.
    kinds = np.uint64(0)
    depth = 0
    value_next = True
    while True:
        byte = text[at]
        if value_next and (byte == ord("{") or byte == ord("[")):
            if depth == _DEPTH_MAX:
                return ODD
            depth += 1
            kinds = (kinds << np.uint64(1)) | np.uint64(byte == ord("{"))
            at = skip_space(text, at + 1)
            if text[at] == byte + 2:
                value_next = False
            elif byte == ord("{"):
                at = _name_end(text, at)
        elif value_next:
            at = scalar_end(text, at)
            value_next = False
        elif byte == (ord("}") if kinds & np.uint64(1) else ord("]")):
            depth -= 1
            kinds >>= np.uint64(1)
            at += 1
            if depth == 0:
                return at
        elif byte == ord(","):
            at = skip_space(text, at + 1)
            if kinds & np.uint64(1):
                at = _name_end(text, at)
            value_next = True
        else:
            return ODD
        if at == ODD:
            return ODD
        at = skip_space(text, at)


@compiled_step
def _name_end(text: Bytes, at: int) -> int:
    """Behind a member's name and its colon."""
    if text[at] != ord('"'):
        return ODD
    at = string_end(text, at + 1)
    if at == ODD:
        return ODD
    at = skip_space(text, at)
    return skip_space(text, at + 1) if text[at] == ord(":") else ODD


@compiled_step
def scalar_end(text: Bytes, at: int) -> int:
    byte = text[at]
    if byte == ord('"'):
        return string_end(text, at + 1)
    if byte == ord("t"):
        return at + 4 if text[at + 1] == ord("r") and text[at + 2] == ord("u") and text[at + 3] == ord("e") else ODD
    if byte == ord("n"):
        return at + 4 if text[at + 1] == ord("u") and text[at + 2] == ord("l") and text[at + 3] == ord("l") else ODD
    if byte == ord("f"):
        alse = text[at + 1] == ord("a") and text[at + 2] == ord("l") and text[at + 3] == ord("s")
        return at + 5 if alse and text[at + 4] == ord("e") else ODD
    return number_end(text, at)


@compiled_step
def plain_string_end(text: Bytes, at: int) -> int:
    """Behind the closing quote of a string without escapes."""
    while True:
        byte = text[at]
        if byte == ord('"'):
            return at + 1
        if byte < 0x20 or byte == ord("\\"):
            return ODD
        if byte < 0x80:
            at += 1
        else:
            at = _character_end(text, at)
            if at == ODD:
                return ODD


@compiled_step
def string_end(text: Bytes, at: int) -> int:
    """Behind the closing quote of any string."""
    while True:
        byte = text[at]
        if byte == ord('"'):
            return at + 1
        if byte < 0x20:
            return ODD
        if byte == ord("\\"):
            at = _escape_end(text, at + 1)
        elif byte < 0x80:
            at += 1
            continue
        else:
            at = _character_end(text, at)
        if at == ODD:
            return ODD


@compiled_step
def _escape_end(text: Bytes, at: int) -> int:
    letter = text[at]
    if letter == ord("u"):
        unit = _unit(text, at + 1)
        if unit < 0 or 0xDC00 <= unit <= 0xDFFF:
            return ODD
        if unit < 0xD800 or unit > 0xDBFF:
            return at + 5
        if text[at + 5] != ord("\\") or text[at + 6] != ord("u"):
            return ODD
        return at + 11 if 0xDC00 <= _unit(text, at + 7) <= 0xDFFF else ODD
    if letter == ord('"') or letter == ord("\\") or letter == ord("/") or letter == ord("n") or letter == ord("t"):
        return at + 1
    return at + 1 if letter == ord("r") or letter == ord("b") or letter == ord("f") else ODD


@compiled_step
def _unit(text: Bytes, at: int) -> int:
    """Value of four hexadecimal digits, or -1."""
    value = 0
    for place in range(4):
        digit = text[at + place] | 0x20
        if ord("0") <= text[at + place] <= ord("9"):
            value = value * 16 + (digit - ord("0"))
        elif ord("a") <= digit <= ord("f"):
            value = value * 16 + (digit - ord("a") + 10)
        else:
            return -1
    return value


@compiled_step
def _character_end(text: Bytes, at: int) -> int:
    """Behind a character of two to four bytes of UTF-8 (RFC 3629)."""
    first, second = text[at], text[at + 1]
    if second < 0x80 or second > 0xBF:
        return ODD
    if 0xC2 <= first <= 0xDF:
        return at + 2
    if text[at + 2] & 0xC0 != 0x80:
        return ODD
    if 0xE0 <= first <= 0xEF:
        if (first == 0xE0 and second < 0xA0) or (first == 0xED and second > 0x9F):
            return ODD
        return at + 3
    if first < 0xF0 or first > 0xF4 or text[at + 3] & 0xC0 != 0x80:
        return ODD
    if (first == 0xF0 and second < 0x90) or (first == 0xF4 and second > 0x8F):
        return ODD
    return at + 4


@compiled_step
def number_end(text: Bytes, at: int) -> int:
    """Behind a number (RFC 8259)."""
    if text[at] == ord("-"):
        at += 1
    begin = at
    while ord("0") <= text[at] <= ord("9"):
        at += 1
    if at == begin or (text[begin] == ord("0") and at > begin + 1):
        return ODD
    if text[at] == ord("."):
        begin = at + 1
        at = begin
        while ord("0") <= text[at] <= ord("9"):
            at += 1
        if at == begin:
            return ODD
    if text[at] | 0x20 == ord("e"):
        at += 1
        if text[at] == ord("+") or text[at] == ord("-"):
            at += 1
        begin = at
        while ord("0") <= text[at] <= ord("9"):
            at += 1
        if at == begin:
            return ODD
    return at
