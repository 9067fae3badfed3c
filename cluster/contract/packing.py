"""Event rows as bytes, from the door over the journal into a shard's memory: what says nothing takes no room.

Of the columns of a usual body a third are null throughout and a quarter hold one value in every row; as plain Arrow
they are four to twenty bytes a row, written to the journal and copied at every hop.

Layout, little endian: magic, bytes of the first message, bit mask of null columns, bit mask of columns of one value,
number of columns of the writer's schema; then an Arrow IPC message of one row with those values, then one of all rows
with the other columns.
"""

from __future__ import annotations

import struct
import threading
from typing import Final

import numpy as np
import pyarrow as pa

from cluster.contract.columns import EVENT_SCHEMA, FIRST_EVENT_SCHEMA, widened
from cluster.contract.documents import single

_MAGIC: Final = 0x314B4350  # "PCK1"; an Arrow IPC message begins with 0xFFFFFFFF
_HEADER: Final = struct.Struct("<IIQQI4x")
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
    """Rows of EVENT_SCHEMA as bytes."""
    size = batch.num_rows
    null = one = 0
    alike: list[int] = []
    others: list[int] = []
    for place, field in enumerate(_FIELDS):
        column = batch.column(place)
        if size and column.null_count == size:
            null |= 1 << place
        elif size > 1 and field.name in _OFTEN_ALIKE and _is_alike(column):
            one |= 1 << place
            alike.append(place)
        else:
            others.append(place)
    first = batch.select(alike).slice(0, 1).serialize()
    rest = batch.select(others).serialize()
    sink = pa.allocate_buffer(_HEADER.size + first.size + rest.size)
    view = memoryview(sink)
    _HEADER.pack_into(view, 0, _MAGIC, first.size, null, one, len(_FIELDS))
    view[_HEADER.size : _HEADER.size + first.size] = memoryview(first)
    view[_HEADER.size + first.size :] = memoryview(rest)
    return sink


def unpack(packed: pa.Buffer) -> pa.RecordBatch:
    """The rows of `pack`, as views of its bytes where rows differ; also of a plain Arrow IPC message."""
    if packed.size < _HEADER.size or int.from_bytes(packed[:4].to_pybytes(), "little") != _MAGIC:
        return _plain(packed)
    _, first_bytes, null, one, count = _HEADER.unpack(packed[: _HEADER.size].to_pybytes())
    fields = _SCHEMAS[count]
    alike = pa.schema([field for place, field in enumerate(fields) if one >> place & 1])
    others = pa.schema([field for place, field in enumerate(fields) if not (null | one) >> place & 1])
    values = iter(pa.ipc.read_record_batch(packed.slice(_HEADER.size, first_bytes), alike).columns)
    rest = pa.ipc.read_record_batch(packed.slice(_HEADER.size + first_bytes), others)
    size = rest.num_rows
    columns = iter(rest.columns)
    rows = pa.RecordBatch.from_arrays(
        [
            _nulls(field.type, size)
            if null >> place & 1
            else pa.repeat(next(values)[0], size)
            if one >> place & 1
            else next(columns)
            for place, field in enumerate(fields)
        ],
        schema=pa.schema(fields),
    )
    return rows if count == len(_FIELDS) else widened(rows, EVENT_SCHEMA)


def _plain(message: pa.Buffer) -> pa.RecordBatch:
    try:
        return pa.ipc.read_record_batch(message, EVENT_SCHEMA)
    except (OSError, pa.ArrowInvalid):
        # Journaled by a hub from before the later columns; whatever else is wrong is so for both forms.
        return widened(pa.ipc.read_record_batch(message, FIRST_EVENT_SCHEMA), EVENT_SCHEMA)


def _is_alike(column: pa.Array) -> bool:
    if column.null_count:
        return False
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
