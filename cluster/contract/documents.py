"""The free-form parts of a row, `attributes` and `payload`: JSON object texts, checked without being parsed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.compiled import compiled
from cluster.contract.byte_runs import Bytes
from cluster.contract.event import ATTRIBUTES_BYTES_MAX, JSON_DEPTH_MAX, PAYLOAD_BYTES_MAX
from cluster.contract.json_scan import object_end
from cluster.contract.rows import Problems

SIZE_MAX: Final = {"attributes": ATTRIBUTES_BYTES_MAX, "payload": PAYLOAD_BYTES_MAX}
OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_OPEN: Final = 0x7B  # "{", and "[" with bit 5 set
_CLOSE: Final = 0x7D
_BIT_5: Final = 0x20
_LINE_FEED: Final = np.array([ord("\n")], np.uint8)


def text_column(raws: Iterable[msgspec.Raw]) -> pa.StringArray:
    """Raw JSON values as one string column; an empty one is null. Bytes are not checked to be UTF-8 here."""
    parts = list(raws)
    size = len(parts)
    lengths = np.fromiter(map(len, parts), np.int32, size)
    offsets = np.zeros(size + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    valid = lengths > 0
    nulls = size - int(valid.sum())
    validity = pa.py_buffer(np.packbits(valid, bitorder="little")) if nulls else None
    data = pa.py_buffer(b"".join(parts))
    return pa.StringArray.from_buffers(size, pa.py_buffer(offsets), data, validity, nulls)


def check_documents(name: str, column: pa.StringArray, problems: Problems) -> pa.StringArray:
    """The column with JSON null as null and a payload that is no object wrapped; rows over a limit are marked.

    Args:
        column: texts of single JSON values, syntactically valid.
    """
    if column.null_count == len(column):
        return column
    column = _utf8(name, column, problems)
    data, offsets = buffers(column)
    if _all_small_objects(column, data, offsets):
        return column
    valid = np.asarray(column.is_valid())
    lengths = offsets[1:] - offsets[:-1]
    first = np.zeros(len(column), np.uint8)
    filled = valid & (lengths > 0)
    first[filled] = data[offsets[:-1][filled]]
    limit = SIZE_MAX[name]
    problems.mark(
        valid & (lengths > limit),
        f"{name}_too_large",
        lambda row: f"{name} has {lengths[row]} bytes; send at most {limit}, or a reference to content kept elsewhere",
    )
    _check_depth(name, column, problems)
    if (first[valid] == ord("{")).all():
        return column
    column = pc.if_else(pa.array(first == ord("n")), pa.scalar(None, pa.string()), column)
    other = valid & (first != ord("{")) & (first != ord("n"))
    if name == "attributes":
        problems.mark(other, "attributes_not_object", lambda row: 'attributes is no JSON object; send {"name": value}')
        return column
    wrapped = pc.binary_join_element_wise('{"value":', column, "}", "")
    return pc.if_else(pa.array(other), wrapped, column)


def _all_small_objects(column: pa.StringArray, data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int32]) -> bool:
    """Whether every row has an object, too short to nest too deep: each level takes its two brackets."""
    if column.null_count:
        return False
    lengths = offsets[1:] - offsets[:-1]
    if int(lengths.min()) == 0 or int(lengths.max()) > 2 * JSON_DEPTH_MAX:
        return False
    return bool((data[offsets[:-1]] == ord("{")).all())


def all_objects(column: pa.StringArray) -> bool:
    """Whether every text is exactly one JSON object; False is no certain no, it may be one that nests deep."""
    if column.null_count or not len(column):
        return False
    data, offsets = buffers(column)
    if int((offsets[1:] - offsets[:-1]).min()) == 0:
        return False
    # A line feed is allowed in no string: no walk goes beyond it.
    text = np.append(data[offsets[0] : offsets[-1]], _LINE_FEED)
    return bool(_ends_of_objects(text, offsets - offsets[0]))


@compiled
def _ends_of_objects(text: Bytes, offsets: npt.NDArray[np.int32]) -> bool:
    """Whether an object begins at each offset but the last and ends at the next."""
    row, count = 0, len(offsets) - 1
    # One that runs on into the next text ends beyond its own.
    while row < count and object_end(text, offsets[row]) == offsets[row + 1]:
        row += 1
    return bool(row == count)


def single(column: pa.StringArray) -> str | None:
    """The text that every row has; None where rows differ or some have none."""
    size = len(column)
    if column.null_count or not size:
        return None
    data, offsets = buffers(column)
    start, width = int(offsets[0]), int(offsets[1] - offsets[0])
    first = data[start : start + width].tobytes()
    if size > 1:
        if int(offsets[-1]) - start != width * size or data[start + width : start + 2 * width].tobytes() != first:
            return None
        if not (offsets[1:] - offsets[:-1] == width).all() or data[start : offsets[-1]].tobytes() != first * size:
            return None
    return first.decode()


def buffers(column: pa.StringArray) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Bytes of the column and the offset of each row in them, (n + 1,)."""
    _, offset_buffer, data_buffer = column.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32, len(column) + 1, offset=4 * column.offset)
    data = np.frombuffer(data_buffer, np.uint8) if data_buffer is not None else np.empty(0, np.uint8)
    return data, offsets


def merged(document: bytes, extras: list[tuple[str, bytes]]) -> bytes:
    """A JSON object text with more members; a name that is taken gets the prefix `sent.`."""
    if not extras:
        return document
    if not document.startswith(b"{"):
        if document not in (b"", b"null"):
            return document
        document = b"{}"
    taken = set(OBJECT.decode(document)) if len(document) > 2 else set()
    members = []
    for sent, value in extras:
        name = sent
        while name in taken:
            name = f"sent.{name}"
        taken.add(name)
        members.append(msgspec.json.encode(name) + b":" + value)
    inside = document[1:-1].strip()
    return b"{" + b",".join([inside, *members] if inside else members) + b"}"


def depth_of(text: bytes) -> int:
    """How deep arrays and objects nest; 0 for a scalar."""
    data = np.frombuffer(_STRING.sub(b"", text), np.uint8) | np.uint8(_BIT_5)
    steps = (data == _OPEN).astype(np.int32) - (data == _CLOSE).astype(np.int32)
    return int(np.cumsum(steps).max(initial=0))


def _utf8(name: str, column: pa.StringArray, problems: Problems) -> pa.StringArray:
    try:
        column.validate(full=True)
        return column
    except pa.ArrowInvalid:
        pass
    texts: list[str | None] = []
    for row, value in enumerate(column.cast(pa.binary()).to_pylist()):
        try:
            texts.append(None if value is None else value.decode())
        except UnicodeDecodeError as error:
            texts.append(None)
            problems.add(row, "utf8_invalid", f"{name} is not UTF-8: {error.reason} at byte {error.start}; send UTF-8")
    return pa.array(texts, pa.string())


def _check_depth(name: str, column: pa.StringArray, problems: Problems) -> None:
    data, offsets = buffers(column)
    brackets = np.flatnonzero((data | np.uint8(_BIT_5)) == _OPEN)
    if len(brackets) <= JSON_DEPTH_MAX:
        return
    counts = np.diff(np.searchsorted(brackets, offsets))
    # Fewer opening brackets than the limit cannot nest deeper than it; strings may hold brackets, so look closer.
    for row in np.flatnonzero(counts > JSON_DEPTH_MAX).tolist():
        depth = depth_of(data[offsets[row] : offsets[row + 1]].tobytes())
        if depth > JSON_DEPTH_MAX:
            problems.add(row, "json_too_deep", f"{name} nests {depth} deep; flatten it to at most {JSON_DEPTH_MAX}")
