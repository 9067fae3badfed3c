"""The plain rows of an NDJSON body as columns, and which rows are odd and need the other reader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.contract.coerce import DOCUMENT_FIELDS, NUMBER_FIELDS, ROW_FIELDS
from cluster.contract.columns import TOKEN_FIELDS
from cluster.contract.documents import OBJECT
from cluster.contract.sources import ndjson_scan as scanner
from cluster.contract.sources.ndjson_scan import Body, Fields
from cluster.contract.vocabulary import canonical_field

_FIELDS: Final = frozenset(ROW_FIELDS)
_KINDS: Final[dict[str, int]] = (
    dict.fromkeys(ROW_FIELDS, scanner.TEXT)
    | dict.fromkeys(TOKEN_FIELDS, scanner.WHOLE)
    | dict.fromkeys(NUMBER_FIELDS, scanner.NUMBER)
    | dict.fromkeys(DOCUMENT_FIELDS, scanner.DOCUMENT)
    | {"occurred_at": scanner.TEXT_OR_NUMBER, "cost_usd": scanner.MONEY}
)
_SLOTS: Final = {name: slot for names in (TOKEN_FIELDS, NUMBER_FIELDS) for slot, name in enumerate(names)}


# No field of the contract has a longer name; what a sender calls its own fields is not remembered.
_NAME_MAX: Final = 64
_NAMES_MAX: Final = 128
BROKEN: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

# (canonical, sent) names of the fields of a row.
Names = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class PlainRows:
    """What was read of a body.

    Attributes:
        columns: by canonical field, (rows,); null where a row is odd.
        odd: (rows,) rows that were not read.
        ends: (rows,) where each line ends in the body.
    """

    body: bytes
    columns: dict[str, pa.Array]
    odd: npt.NDArray[np.bool_]
    ends: npt.NDArray[np.int64]

    def line(self, index: int) -> bytes:
        return self.body[int(self.ends[index - 1]) + 1 if index else 0 : int(self.ends[index])]


def line_ends(body: bytes) -> npt.NDArray[np.int64]:
    """(rows,) places of the line feeds."""
    return np.flatnonzero(np.frombuffer(body, np.uint8) == ord("\n"))


def read_plain(body: bytes, ends: npt.NDArray[np.int64], names: Names) -> PlainRows:
    """Read the plain rows.

    Args:
        body: lines, each with its line feed.
        names: (canonical, sent) of fields that rows have, in the order in which rows have them.
    """
    canonical, fields = _fields(names)
    shape = (len(ends), len(canonical))
    read = Body(
        np.frombuffer(body, np.uint8),
        fields,
        np.empty(shape, np.int32),
        np.empty(shape, np.int32),
        np.empty((len(ends), len(TOKEN_FIELDS)), np.int64),
        np.empty((len(ends), len(NUMBER_FIELDS)), np.float64),
    )
    odd = scanner.scan(read, ends)
    columns = {}
    for number in np.flatnonzero((read.lengths != scanner.NULL).any(axis=0)).tolist():
        name = canonical[number]
        columns[name] = _figures(name, read, number, odd) if name in _SLOTS else _texts(read, number)
    return PlainRows(body, columns, odd, ends)


def names_of(samples: Sequence[bytes]) -> Names:
    """Known fields of some rows and the names they go by there, in the order in which rows have them."""
    names: dict[str, None] = {}
    for sample in samples:
        try:
            names |= dict.fromkeys(OBJECT.decode(sample))
        except BROKEN:
            continue
    known = tuple(name for name in names if len(name) <= _NAME_MAX)
    return _known_names(known) if len(known) <= _NAMES_MAX else _known_names.__wrapped__(known)


@lru_cache(maxsize=256)
def _known_names(names: tuple[str, ...]) -> Names:
    sent = {name: name for name in names if name in _FIELDS}
    for name in names:
        canonical = canonical_field(name)
        if canonical in _FIELDS:
            sent.setdefault(canonical, name)
    place = {name: number for number, name in enumerate(names)}
    return tuple(sorted(sent.items(), key=lambda pair: place[pair[1]]))


@lru_cache(maxsize=128)
def _fields(names: Names) -> tuple[tuple[str, ...], Fields]:
    """Those fields, then every other of the contract under its own name."""
    sent = dict(names)
    sent |= {name: name for name in ROW_FIELDS if name not in sent}
    texts = [text.encode() for text in sent.values()]
    fields = Fields(
        names=np.frombuffer(b"".join(texts), np.uint8),
        offsets=np.cumsum([0, *map(len, texts)], dtype=np.int32),
        kinds=np.array([_KINDS[name] for name in sent], np.uint8),
        slots=np.array([_SLOTS.get(name, 0) for name in sent], np.int32),
    )
    return tuple(sent), fields


def _texts(read: Body, field: int) -> pa.StringArray:
    lengths = read.lengths[:, field]
    size = len(lengths)
    offsets = np.zeros(size + 1, np.int32)
    np.cumsum(np.maximum(lengths, 0), out=offsets[1:])
    data = np.empty(int(offsets[-1]), np.uint8)
    scanner.gather(read, field, offsets, data)
    valid, nulls = _validity(lengths)
    return pa.StringArray.from_buffers(size, pa.py_buffer(offsets), pa.py_buffer(data), valid, nulls)


def _figures(name: str, read: Body, field: int, odd: npt.NDArray[np.bool_]) -> pa.Array:
    lengths = read.lengths[:, field]
    values = (read.wholes if name in TOKEN_FIELDS else read.numbers)[:, _SLOTS[name]].copy()
    # Long decimals, which take more than one step to be exact.
    for row in np.flatnonzero(lengths > 0).tolist():
        start = int(read.starts[row, field])
        values[row] = float(read.text[start : start + int(lengths[row])].tobytes())
        odd[row] |= not np.isfinite(values[row])
    valid, nulls = _validity(lengths)
    kind = pa.int64() if name in TOKEN_FIELDS else pa.float64()
    return pa.Array.from_buffers(kind, len(values), [valid, pa.py_buffer(values)], nulls)


def _validity(lengths: npt.NDArray[np.int32]) -> tuple[pa.Buffer | None, int]:
    there = lengths != scanner.NULL
    nulls = len(there) - int(np.count_nonzero(there))
    return (pa.py_buffer(np.packbits(there, bitorder="little")) if nulls else None), nulls
