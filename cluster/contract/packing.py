"""Event rows as bytes, from the door over the journal into a shard's memory: what says nothing takes no room.

Of the columns of a usual body a third are null throughout and a quarter hold one value in every row; as plain Arrow
they are four to twenty bytes a row, written to the journal and copied at every hop. Texts of few words are more yet.

Layout, little endian: magic, bytes of the first message, bit masks of null columns, of columns of one value and of
columns of few words, number of columns of the writer's schema; then an Arrow IPC message of one row with those values
and, as lists, those words; then one of all rows with the other columns and the places in the words. Journals of an
earlier layout, without words, are read as well.
"""

from __future__ import annotations

import struct
import threading
from typing import Final

import numpy as np
import pyarrow as pa

from cluster.contract.columns import EVENT_SCHEMA, FIRST_EVENT_SCHEMA, widened
from cluster.contract.documents import single
from cluster.contract.words import ENCODABLE, ENCODED_ROWS_MIN, encoded, is_encoded, plain

_MAGIC: Final = 0x324B4350  # "PCK2"; an Arrow IPC message begins with 0xFFFFFFFF
_HEADER: Final = struct.Struct("<IIQQQI4x")
_WORDLESS_MAGIC: Final = 0x314B4350  # "PCK1"
_WORDLESS_HEADER: Final = struct.Struct("<IIQQI4x")
_PLACES: Final = pa.int16()
_WORDS: Final = pa.list_(pa.string())
_FIELDS: Final = tuple(EVENT_SCHEMA)
# Forms of the schema in which journals were written, by their number of columns.
_SCHEMAS: Final = {len(schema): tuple(schema) for schema in (FIRST_EVENT_SCHEMA, EVENT_SCHEMA)}
# Columns of few words, whose rows are often alike; the others are not looked at.
_OFTEN_ALIKE: Final = frozenset(
    (
        *("received_at", "region", "environment", "project_id", "module", "kind", "schema_version", "severity"),
        *("service", "provider", "model", "operation", "status", "cache_status", "guardrail_action"),
        *("price_version", "cost_is_sent", "usage_conflict", "counted"),
    )
)


def pack(batch: pa.RecordBatch) -> pa.Buffer:
    """Rows of EVENT_SCHEMA as bytes; columns of words may be encoded already (`cluster.contract.words`)."""
    size = batch.num_rows
    null = one = few = 0
    told: list[tuple[pa.Field, pa.Array]] = []
    words: list[tuple[pa.Field, pa.Array]] = []
    rest: list[tuple[pa.Field, pa.Array]] = []
    for place, field in enumerate(_FIELDS):
        column = batch.column(place)
        if size and column.null_count == size:
            null |= 1 << place
        elif size > 1 and field.name in _OFTEN_ALIKE and _is_alike(column):
            one |= 1 << place
            told.append((field, plain(column.slice(0, 1))))
        elif (coded := _coded(field.name, column)) is not None:
            few |= 1 << place
            known = pa.ListArray.from_arrays(pa.array([0, len(coded.dictionary)], pa.int32()), coded.dictionary)
            words.append((field.with_type(_WORDS), known))
            rest.append((field.with_type(_PLACES), coded.indices))
        else:
            rest.append((field, plain(column)))
    first, others = _message([*told, *words]), _message(rest)
    sink = pa.allocate_buffer(_HEADER.size + first.size + others.size)
    view = memoryview(sink)
    _HEADER.pack_into(view, 0, _MAGIC, first.size, null, one, few, len(_FIELDS))
    view[_HEADER.size : _HEADER.size + first.size] = memoryview(first)
    view[_HEADER.size + first.size :] = memoryview(others)
    return sink


def unpack(packed: pa.Buffer, *, encode: bool = False) -> pa.RecordBatch:
    """The rows of `pack`, as views of its bytes where rows differ; also of a plain Arrow IPC message.

    Args:
        encode: leave columns of few words encoded, and those of one, in batches that are worth it.
    """
    magic = int.from_bytes(packed[:4].to_pybytes(), "little") if packed.size >= _WORDLESS_HEADER.size else 0
    if magic == _MAGIC:
        _, first_bytes, null, one, few, count = _HEADER.unpack(packed[: _HEADER.size].to_pybytes())
        at = _HEADER.size
    elif magic == _WORDLESS_MAGIC:
        _, first_bytes, null, one, count = _WORDLESS_HEADER.unpack(packed[: _WORDLESS_HEADER.size].to_pybytes())
        few, at = 0, _WORDLESS_HEADER.size
    else:
        return _plain(packed)
    fields = _SCHEMAS[count]
    told = [field for place, field in enumerate(fields) if one >> place & 1]
    told += [field.with_type(_WORDS) for place, field in enumerate(fields) if few >> place & 1]
    rest = [
        field.with_type(_PLACES) if few >> place & 1 else field
        for place, field in enumerate(fields)
        if not (null | one) >> place & 1
    ]
    first = pa.ipc.read_record_batch(packed.slice(at, first_bytes), pa.schema(told))
    others = pa.ipc.read_record_batch(packed.slice(at + first_bytes), pa.schema(rest))
    size = others.num_rows
    encode = encode and size >= ENCODED_ROWS_MIN and count == len(_FIELDS)
    values, words, columns = (
        iter(first.columns),
        iter(first.columns[len(told) - few.bit_count() :]),
        iter(others.columns),
    )
    made: list[pa.Array] = []
    for place, field in enumerate(fields):
        if null >> place & 1:
            made.append(_nulls(field.type, size))
        elif one >> place & 1:
            value = next(values)
            is_word = encode and field.name in ENCODABLE
            made.append(_repeated(value, size) if is_word else pa.repeat(value[0], size))
        elif few >> place & 1:
            coded = pa.DictionaryArray.from_arrays(next(columns), next(words).flatten())
            made.append(coded if encode else plain(coded))
        else:
            made.append(next(columns))
    schema = pa.schema([field.with_type(column.type) for field, column in zip(fields, made, strict=True)])
    rows = pa.RecordBatch.from_arrays(made, schema=schema)
    return rows if count == len(_FIELDS) else widened(rows, EVENT_SCHEMA)


def _coded(name: str, column: pa.Array) -> pa.DictionaryArray | None:
    if name not in ENCODABLE:
        return None
    return column if is_encoded(column) else encoded(column)


def _message(columns: list[tuple[pa.Field, pa.Array]]) -> pa.Buffer:
    return pa.RecordBatch.from_arrays(
        [column for _, column in columns], schema=pa.schema([field for field, _ in columns])
    ).serialize()


def _repeated(value: pa.StringArray, size: int) -> pa.DictionaryArray:
    places = pa.Array.from_buffers(_PLACES, size, [None, _zeros.of(2 * size)], null_count=0)
    return pa.DictionaryArray.from_arrays(places, value)


def _plain(message: pa.Buffer) -> pa.RecordBatch:
    try:
        return pa.ipc.read_record_batch(message, EVENT_SCHEMA)
    except (OSError, pa.ArrowInvalid):
        # Journaled by a hub from before the later columns; whatever else is wrong is so for both forms.
        return widened(pa.ipc.read_record_batch(message, FIRST_EVENT_SCHEMA), EVENT_SCHEMA)


def _is_alike(column: pa.Array) -> bool:
    if column.null_count:
        return False
    if is_encoded(column):
        return len(column.dictionary) == 1
    if pa.types.is_string(column.type):
        return single(column) is not None
    if pa.types.is_boolean(column.type):
        return column.true_count in (0, len(column))
    values = np.asarray(column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column)
    return bool((values == values[0]).all())


class _Zeros:
    """One buffer of zeros for all null columns, as long as the longest needs it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._zeros = pa.py_buffer(bytes(1 << 16))

    def of(self, size_bytes: int) -> pa.Buffer:
        with self._lock:
            if self._zeros.size < size_bytes:
                self._zeros = pa.py_buffer(bytes(1 << (size_bytes - 1).bit_length()))
            return self._zeros.slice(0, size_bytes)


_zeros: Final = _Zeros()


def _nulls(kind: pa.DataType, size: int) -> pa.Array:
    """A null column; all of them share their memory, since nobody writes to an array."""
    bitmap = _zeros.of((size + 7) // 8)
    if pa.types.is_string(kind):
        return pa.Array.from_buffers(kind, size, [bitmap, _zeros.of(4 * (size + 1)), _zeros.of(0)], null_count=size)
    width = (kind.bit_width * size + 7) // 8
    return pa.Array.from_buffers(kind, size, [bitmap, _zeros.of(width)], null_count=size)
