"""Arrow IPC streams and Parquet files -> raw rows, a column at a time.

Columns go by the names of the JSON event or their aliases, in any type that can be cast: tokens of any integer, times
of any unit, zone-less meaning UTC, RFC 3339 text or epoch numbers. `attributes` and `payload` are JSON text, structs
or maps. Other columns are kept in `attributes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.contract.cells import NO_CAST, cell_value, column_values
from cluster.contract.coerce import DOCUMENT_FIELDS, NUMBER_FIELDS, ROW_FIELDS
from cluster.contract.columns import LATER_COLUMNS, TOKEN_FIELDS
from cluster.contract.documents import all_objects, merged
from cluster.contract.rows import DecodeContext, Mask, RawRows
from cluster.contract.vocabulary import canonical_field
from cluster.errors import BodyTooLarge, BodyUnreadable

_FIELDS: Final = frozenset(ROW_FIELDS)
_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])
_NOT_WRAPPED: Final = ("day_time_interval", "month_interval")
_COLUMNS_MAX: Final = 1_000
_IN_PARTS: Final = "Send the rows in several requests."
_BATCH_ROWS: Final = 4_096
_BROKEN: Final = (pa.ArrowException, OSError, ValueError, TypeError, IndexError, KeyError, MemoryError, OverflowError)
# Ours by another name: an export of the hub's own table sent back in is taken as new rows.
_IGNORED: Final = frozenset({"received_at", "counted", "usage_conflict", "event_date", *LATER_COLUMNS})


def read_arrow(body: bytes, context: DecodeContext) -> RawRows:
    """Rows of an Arrow IPC stream.

    Raises:
        BodyUnreadable: no Arrow IPC stream, or cut off.
        BodyTooLarge: more rows or bytes than the context allows.
    """
    try:
        with pa.ipc.open_stream(pa.BufferReader(body)) as reader:
            schema = reader.schema
            _check_types(schema)
            table = pa.Table.from_batches(_bounded(reader, context), schema)
    except _BROKEN as error:
        raise _unreadable("an Arrow IPC stream", error) from None
    return _raw_rows(table, context)


def read_parquet(body: bytes, context: DecodeContext) -> RawRows:
    """Rows of a Parquet file.

    Raises:
        BodyUnreadable: no Parquet file, or a corrupt one.
        BodyTooLarge: more rows or bytes than the context allows.
    """
    try:
        # Dictionaries stay dictionaries while reading, so that a small file of one long text repeated stays small.
        plain = pq.ParquetFile(pa.BufferReader(body), page_checksum_verification=True)
        metadata = plain.metadata
        _check_rows(metadata.num_rows, context)
        claimed = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
        _check_bytes(claimed, context)
        _check_types(plain.schema_arrow)
        texts = [f.name for f in plain.schema_arrow if pa.types.is_string(f.type) or pa.types.is_binary(f.type)]
        file = pq.ParquetFile(pa.BufferReader(body), read_dictionary=texts, page_checksum_verification=True)
        batches = _bounded(file.iter_batches(_BATCH_ROWS, use_threads=False), context)
        table = pa.Table.from_batches(batches, file.schema_arrow)
    except _BROKEN as error:
        raise _unreadable("a Parquet file", error) from None
    return _raw_rows(table, context)


def _unreadable(what: str, error: BaseException) -> BodyUnreadable:
    return BodyUnreadable(f"the body is not {what}: {str(error)[:200]}", hint="Check that the whole file was sent.")


def _check_types(schema: pa.Schema) -> None:
    """Refuse types that cannot be read, wherever in the schema; names that are no text are found on the way.

    Arrow's casts look the power of ten for a decimal's scale up without a bound: a scale that no decimal can have
    would end the process.
    """
    kinds = [field.type for field in schema]
    while kinds:
        kind = kinds.pop()
        if pa.types.is_decimal(kind) and not 0 <= kind.scale <= kind.precision:
            raise BodyUnreadable(f"a column is {kind}", hint="Write decimals with a scale from 0 to their precision.")
        # Its values have no form in Python, and Arrow has no name for the type there but this.
        if str(kind) in _NOT_WRAPPED:
            raise BodyUnreadable(f"a column is {kind}", hint="Write spans of time as numbers.")
        if isinstance(kind, pa.BaseExtensionType):
            kinds.append(kind.storage_type)
        elif pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
            kinds.append(kind.value_type)
        else:
            fields = [kind.field(place) for place in range(kind.num_fields)]
            kinds += [field.type for field in fields if field.name is not None]


def _bounded(batches: Iterator[pa.RecordBatch], context: DecodeContext) -> list[pa.RecordBatch]:
    out: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        # Before anything else: the sizes are counted from offsets, and unsound ones lead out of memory.
        batch.validate(full=True)
        rows += batch.num_rows
        size += batch.nbytes
        _check_rows(rows, context)
        _check_bytes(size, context)
        out.append(batch)
    return out


def _check_rows(rows: int, context: DecodeContext) -> None:
    if rows > context.rows_max:
        raise BodyTooLarge(f"{rows} rows in one body, at most {context.rows_max}", hint=_IN_PARTS)


def _check_bytes(size: int, context: DecodeContext) -> None:
    if size > context.inflated_bytes_max:
        raise BodyTooLarge(f"the rows unpack to {size} bytes, at most {context.inflated_bytes_max}", hint=_IN_PARTS)


def _raw_rows(table: pa.Table, context: DecodeContext) -> RawRows:
    try:
        return _rows_of(table, context)
    except UnicodeDecodeError as error:
        # Texts have been checked; it is the name of a column or of a struct's member.
        raise _unreadable("one whose names are UTF-8", error) from None


def _rows_of(table: pa.Table, context: DecodeContext) -> RawRows:
    if table.num_columns > _COLUMNS_MAX:
        raise BodyTooLarge(f"{table.num_columns} columns, at most {_COLUMNS_MAX}", hint="Put them into `attributes`.")
    sent: dict[str, pa.Array] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name in sent:
            raise BodyUnreadable(f"two columns are called {name[:80]!r}", hint="Rename one.")
        sent[name] = _plain(column.combine_chunks() if column.num_chunks != 1 else column.chunk(0), context)
    columns: dict[str, pa.Array] = {}
    unreadable: dict[str, Mask] = {}
    extras: dict[str, pa.Array] = {}
    for name in sorted(sent, key=lambda name: name not in _FIELDS):
        canonical = name if name in _FIELDS else canonical_field(name)
        nested = pa.types.is_nested(sent[name].type)
        if canonical in _FIELDS and canonical not in columns and (name == canonical or not nested):
            columns[canonical], bad = _field(canonical, sent[name])
            if bad.any():
                unreadable[canonical] = bad
        elif name not in _IGNORED:
            extras[name] = sent[name]
    if extras:
        columns["attributes"] = _with_extras(columns.get("attributes"), extras, table.num_rows)
    return RawRows(
        columns=columns,
        indexes=np.arange(table.num_rows),
        original=lambda index: _json({name: cell_value(column[index]) for name, column in sent.items()}),
        row_count=table.num_rows,
        unreadable=unreadable,
    )


def _plain(column: pa.Array, context: DecodeContext) -> pa.Array:
    """The column without dictionary, run-end or view encoding, if that stays under the ceiling."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        values = column.dictionary
        if pa.types.is_string(values.type) or pa.types.is_binary(values.type):
            lengths = pc.take(pc.binary_length(values), column.indices)
            _check_bytes(pc.sum(lengths).as_py() or 0, context)
        return column.dictionary_decode()
    if pa.types.is_run_end_encoded(kind):
        return pc.run_end_decode(column)
    return column


def _field(name: str, column: pa.Array) -> tuple[pa.Array, Mask]:
    """The column in the type of its field, and the mask of values that are not of it."""
    none = np.zeros(len(column), np.bool_)
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), pa.string()), none
    if name in DOCUMENT_FIELDS:
        return _documents(column)
    if name == "occurred_at":
        if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
            column = column.cast(pa.string())
        return column, none
    if name in TOKEN_FIELDS:
        return _cast(column, pa.int64())
    if name in NUMBER_FIELDS:
        return _cast(column, pa.float64())
    if name == "cost_usd":
        kind = column.type
        numeric = pa.types.is_decimal(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)
        return (column, none) if numeric else _cast(column, pa.string())
    return _cast(column, pa.string())


def _cast(column: pa.Array, kind: pa.DataType) -> tuple[pa.Array, Mask]:
    """The column cast, at once or else value by value."""
    try:
        return column.cast(kind), np.zeros(len(column), np.bool_)
    except NO_CAST:
        pass
    cells: list[Any] = []
    bad = np.zeros(len(column), np.bool_)
    for row in range(len(column)):
        try:
            cells.append(column[row : row + 1].cast(kind)[0].as_py())
        except NO_CAST:
            cells.append(None)
            bad[row] = True
    return pa.array(cells, kind), bad


def _documents(column: pa.Array) -> tuple[pa.Array, Mask]:
    """JSON texts: those sent, checked, and those made of structs, maps and lists."""
    if pa.types.is_nested(column.type):
        values = [None if value is None else _mapping(column.type, value) for value in column_values(column)]
        made = [None if value is None else _json(value).decode() for value in values]
        return pa.array(made, pa.string()), np.zeros(len(made), np.bool_)
    texts, bad = _cast(column, pa.string())
    if all_objects(texts) or _all_json(texts):
        return texts, bad
    cells: list[str | None] = []
    for row, text in enumerate(texts.to_pylist()):
        cells.append(_checked(text) if text else None)
        bad[row] |= bool(text) and cells[-1] is None
    return pa.array(cells, pa.string()), bad


def _all_json(texts: pa.StringArray) -> bool:
    """Whether every text is one JSON value, found out by reading them all as one array.

    The values must have the lengths of the texts, so that no text can end in another.
    """
    sent = [text for text in texts.cast(pa.binary()).to_pylist() if text is not None]
    try:
        values = _ARRAY.decode(b"[" + b",".join(sent) + b"]")
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    return list(map(len, map(bytes, values))) == list(map(len, sent))


def _checked(text: str) -> str | None:
    """The text if it is JSON, without the spaces around it."""
    try:
        return bytes(msgspec.json.decode(text, type=msgspec.Raw)).decode()
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _mapping(kind: pa.DataType, value: Any) -> Any:
    return {str(name): member for name, member in value} if pa.types.is_map(kind) else value


def _with_extras(attributes: pa.Array | None, extras: dict[str, pa.Array], size: int) -> pa.Array:
    documents: list[str | None] = [None] * size if attributes is None else attributes.to_pylist()
    # A column of values at a time: `to_pylist` of one column is far cheaper than a row at a time.
    values = {name: [None if v is None else _json(v) for v in column_values(extras[name])] for name in extras}
    out: list[str | None] = []
    for row, document in enumerate(documents):
        members = [(name, text) for name, texts in values.items() if (text := texts[row]) is not None]
        out.append(merged((document or "").encode(), members).decode() if members else document)
    return pa.array(out, pa.string())


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS)
    except (TypeError, RecursionError, ValueError):
        return orjson.dumps(ascii(value)[:10_000])
