"""Attributes under a dialect's names in rows of the hub's own form: used where the row's top level does not say them.

Only rows whose attributes have such a name are opened; compiled code finds out which those are, by the points in names.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.compiled import compiled, compiled_step
from cluster.contract.byte_runs import Bytes
from cluster.contract.documents import buffers
from cluster.contract.payload_columns import missing_in, with_values
from cluster.contract.sources import dialects
from cluster.contract.usage import JSON_VALUE

_PRIME: Final = np.uint64(0x100000001B3)
_BASIS: Final = np.uint64(0xCBF29CE484222325)
_NOT_COLUMNS: Final = frozenset({"usage_semantics", *dialects.OBJECTS})


def _hash(name: bytes) -> int:
    value = int(_BASIS)
    for byte in name:
        value = (value ^ byte) * int(_PRIME) & 0xFFFFFFFFFFFFFFFF
    return value


# FNV-1a of every name with a point in it, ascending. Another name of the same hash only costs a look.
_HASHES: Final = np.array(
    sorted(_hash(name.encode()) for names in dialects.ATTRIBUTES.values() for name in names if "." in name), np.uint64
)


def fill_from_attributes(columns: dict[str, pa.Array]) -> None:
    """Columns of `columns` with nulls replaced by what the attributes of the same row say in a dialect's names.

    Args:
        columns: raw rows; `attributes` holds texts of single JSON values.
    """
    attributes = columns.get("attributes")
    if attributes is None or attributes.null_count == len(attributes):
        return
    data, offsets = buffers(attributes)
    data = data.view()
    # Some decoders' buffers are writable and some are not; the compiled function is to see one kind only.
    data.flags.writeable = False
    points = np.flatnonzero(data[offsets[0] : offsets[-1]] == ord(".")) + int(offsets[0])
    if not len(points):
        return
    named = points[_in_names(data, points, _HASHES)]
    if not len(named):
        return
    rows = np.unique(np.searchsorted(offsets, named, "right") - 1).tolist()
    found: dict[str, dict[int, Any]] = {}
    for row in rows:
        for name, value in _told(attributes[row].as_buffer().to_pybytes()).items():
            found.setdefault(name, {})[row] = value
    for name, told in found.items():
        absent = missing_in(columns.get(name), len(attributes))
        values = {row: value for row, value in told.items() if absent[row]}
        if values:
            columns[name] = with_values(name, columns.get(name), values, len(attributes))


def _told(text: bytes) -> dict[str, Any]:
    try:
        attributes = JSON_VALUE.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return {}
    if not isinstance(attributes, dict):
        return {}
    values = dialects.canonical(attributes)
    return {name: value for name, value in values.items() if name not in _NOT_COLUMNS and value is not None}


@compiled_step
def _knows(hashes: npt.NDArray[np.uint64], value: Any) -> bool:
    low, high = 0, len(hashes)
    while low < high:
        middle = (low + high) // 2
        if hashes[middle] < value:
            low = middle + 1
        else:
            high = middle
    return bool(low < len(hashes) and hashes[low] == value)


@compiled_step
def _is_word(byte: Any) -> bool:
    return bool(
        ord("a") <= byte | 0x20 <= ord("z") or ord("0") <= byte <= ord("9") or byte == ord("_") or byte == ord(".")
    )


@compiled
def _in_names(text: Bytes, points: npt.NDArray[np.int64], hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which points stand in a member's name that is one of the known, the first point of each.

    Args:
        text: JSON objects, one after the other.
        points: where "." is in it, ascending.
        hashes: of the known names, ascending.
    """
    found = np.zeros(len(points), np.bool_)
    done = np.int64(-1)
    for number in range(len(points)):
        at = points[number]
        if at < done:
            continue
        end = at + 1
        while end < len(text) and _is_word(text[end]):
            end += 1
        done = end
        if end + 1 >= len(text) or text[end] != ord('"'):
            continue
        behind = end + 1
        while behind < len(text) and text[behind] <= ord(" "):
            behind += 1
        if behind >= len(text) or text[behind] != ord(":"):
            continue
        start = at
        while start > 0 and text[start - 1] != ord('"'):
            start -= 1
        value = _BASIS
        for place in range(start, end):
            value = (value ^ np.uint64(text[place])) * _PRIME
        found[number] = _knows(hashes, value)
    return found
