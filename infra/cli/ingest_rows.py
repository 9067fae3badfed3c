"""Rows of a file -> rows of events: columns under their fields, constants, times, ids, and the rest kept.

What is no field of an event is kept: single values in `attributes`, lists and objects in `payload`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.contract.coerce import DOCUMENT_FIELDS, NUMBER_FIELDS, ROW_FIELDS
from cluster.contract.columns import TOKEN_FIELDS
from cluster.contract.rows import hex_ids
from cluster.contract.vocabulary import canonical_field
from cluster.errors import RequestInvalid
from cluster.hashing import hash128, seed_of
from infra.cli.ingest_presets import Preset

_FIELDS: Final = frozenset(ROW_FIELDS)
_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")
_OBJECT: Final = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)
_RAW_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
# A smaller number cannot be a time since 1970 of any file with LLM traffic; it is seconds after a start.
_EPOCH_FROM: Final = 1_000_000_000
_BROKEN: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Plan:
    """How rows of one file become events.

    Attributes:
        maps: field -> column, or SQL expression over the columns of a columnar file.
        sets: field -> value of rows that have none.
        start_us: what `occurred_at` in seconds stands on.
        source: what ids are made from, together with the number of the row.
    """

    source: str
    maps: Mapping[str, str] = field(default_factory=dict)
    sets: Mapping[str, str] = field(default_factory=dict)
    start_us: int | None = None

    @property
    def plain(self) -> bool:
        """Rows go as they are, but for an id."""
        return not (self.maps or self.sets or self.start_us is not None)

    def with_preset(self, preset: Preset | None) -> Plan:
        """The plan with what the preset knows, under what was asked for.

        Raises:
            RequestInvalid: the preset's times need a start.
        """
        if preset is None:
            return self
        if preset.needs_start and self.start_us is None and "occurred_at" not in self.maps:
            raise RequestInvalid(
                f"files of this shape ({preset.name}) give times in seconds after a start",
                hint="Add --start 2024-01-01T00:00:00Z.",
            )
        maps = {name: text for name, text in preset.maps.items() if name not in self.sets}
        return replace(self, maps={**maps, **self.maps}, sets={**preset.sets, **self.sets})


def check_field(name: str) -> str:
    """`name` where it is a field of an event, or a member of one of its documents.

    Raises:
        RequestInvalid: it is not.
    """
    document, dot, member = name.partition(".")
    if name in _FIELDS or (document in DOCUMENT_FIELDS and dot and member):
        return name
    raise RequestInvalid(
        f"{name!r} is not a field of an event", hint="attributes.NAME keeps a value under a name of your own."
    )


def ids(source: str, first_row: int, count: int) -> pa.StringArray:
    """Event ids of rows first_row .. first_row + count: the same for the same source and row, for ever."""
    rows = pa.array(np.arange(first_row, first_row + count)).cast(pa.string())
    return hex_ids(hash128(rows, seed_of(f"ingest:{source}")))


def line_event(line: bytes, event_id: str, plan: Plan) -> bytes:
    """One JSON row as an event; bytes that are no JSON object go as they are, for the hub to refuse and keep."""
    try:
        if plan.plain:
            names = _RAW_OBJECT.decode(line)
            if any(canonical_field(name) == "event_id" for name in names):
                return line
            return b'{"event_id":"%s"%s%s' % (event_id.encode(), b"," if names else b"", line.lstrip()[1:])
        return _ENCODER.encode(_mapped(_OBJECT.decode(line), event_id, plan))
    except _BROKEN:
        return line


def _mapped(row: dict[str, Any], event_id: str, plan: Plan) -> dict[str, Any]:
    found = {name: _taken(row, path) for name, path in plan.maps.items()}
    for name, value in found.items():
        _put(row, name, value)
    for name, text in plan.sets.items():
        if _look(row, name) is None:
            _put(row, name, text)
    at = row.get("occurred_at")
    if plan.start_us is not None and isinstance(at, int | Decimal) and at < _EPOCH_FROM:
        row["occurred_at"] = plan.start_us + round(at * 1_000_000)
    if not any(canonical_field(name) == "event_id" and row[name] is not None for name in row):
        row["event_id"] = event_id
    return row


def _taken(row: dict[str, Any], path: str) -> Any:
    """The value at a name, or at a dotted path into nested objects; removed from where it was."""
    if path in row:
        return row.pop(path)
    head, dot, rest = path.partition(".")
    inner = row.get(head)
    return _taken(inner, rest) if dot and isinstance(inner, dict) else None


def _look(row: dict[str, Any], name: str) -> Any:
    document, dot, member = name.partition(".")
    inner = row.get(document)
    return inner.get(member) if dot and isinstance(inner, dict) else inner


def _put(row: dict[str, Any], name: str, value: Any) -> None:
    document, dot, member = name.partition(".")
    if not dot:
        row[name] = value
    elif value is not None:
        inner = row.setdefault(document, {})
        if isinstance(inner, dict):
            inner[member] = value


class TableEvents:
    """Tables of one columnar file as tables of events."""

    def __init__(self, columns: list[str], plan: Plan) -> None:
        self._plan = plan
        self._connection = duckdb.connect()
        self._connection.execute("SET threads = 1; SET TimeZone = 'UTC'")
        used = {text.removesuffix("::JSON") for text in plan.maps.values()}
        taken = {*plan.maps, *(name for name in plan.sets if "." in name)}
        self._select: dict[str, str] = {name: self._expression(text, columns) for name, text in plan.maps.items()}
        self._kept: list[str] = []
        for column in columns:
            name = canonical_field(column)
            if column in used:
                continue
            if name in _FIELDS and name not in taken and (name == column or name not in columns):
                self._select[name] = _quoted(column)
                taken.add(name)
            else:
                self._kept.append(column)

    @staticmethod
    def _expression(text: str, columns: list[str]) -> str:
        return _quoted(text) if text in columns else f"({text})"

    def events(self, table: pa.Table, first_row: int) -> pa.Table:
        """The rows of `table` as columns named after the fields of an event.

        Raises:
            RequestInvalid: an expression of the plan cannot be computed.
        """
        found = self._computed(table)
        columns = {name: found.column(name) for name in found.column_names if "." not in name}
        for name, text in self._plan.sets.items():
            if "." not in name and name not in DOCUMENT_FIELDS:
                columns[name] = _filled(columns.get(name), text, len(table))
        if "occurred_at" in columns:
            columns["occurred_at"] = self._times(columns["occurred_at"])
        for name in columns.keys() & {*TOKEN_FIELDS, *NUMBER_FIELDS}:
            if pa.types.is_integer(columns[name].type) or pa.types.is_decimal(columns[name].type):
                columns[name] = columns[name].cast(pa.int64() if name in TOKEN_FIELDS else pa.float64())
            elif name in self._plan.sets:
                columns[name] = columns[name].cast(pa.float64())
        columns |= self._documents(table, found, columns)
        made = ids(self._plan.source, first_row, len(table))
        sent = columns.get("event_id")
        columns["event_id"] = made if sent is None else pc.coalesce(sent.cast(pa.string()), pa.chunked_array([made]))
        return pa.table(columns)

    def _computed(self, table: pa.Table) -> pa.Table:
        if not self._select:
            return table.select([])
        chosen = ", ".join(f"{text} AS {_quoted(name)}" for name, text in self._select.items())
        self._connection.register("rows", table)
        try:
            return self._connection.sql(f"SELECT {chosen} FROM rows").to_arrow_table()  # noqa: S608
        except duckdb.Error as error:
            raise RequestInvalid(
                f"--map cannot be computed: {str(error).splitlines()[0]}",
                hint="FIELD=COLUMN, or FIELD=EXPRESSION in SQL over the columns of the file.",
            ) from None

    def _times(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        kind = column.type
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        if self._plan.start_us is None or not number or (pc.max(column).as_py() or 0) >= _EPOCH_FROM:
            return column
        micros = pc.round(pc.multiply(column.cast(pa.float64()), 1e6)).cast(pa.int64())
        return pc.add(micros, self._plan.start_us).cast(pa.timestamp("us", "UTC"))

    def _documents(self, table: pa.Table, found: pa.Table, columns: dict[str, Any]) -> dict[str, pa.Array]:
        """`attributes` and `payload` as JSON texts; nothing for one that no row says anything of."""
        parts: dict[str, dict[str, list[Any]]] = {name: {} for name in DOCUMENT_FIELDS}
        for column in self._kept:
            values = table.column(column)
            parts["payload" if pa.types.is_nested(values.type) else "attributes"][column] = _values(values)
        for name in found.column_names:
            document, dot, member = name.partition(".")
            if dot:
                values = found.column(name)
                is_json = self._select[name].rstrip(")").upper().endswith("JSON")
                parts[document][member] = _raw_json(values) if is_json else _values(values)
        for name, text in self._plan.sets.items():
            document, dot, member = name.partition(".")
            if dot:
                sent = parts[document].get(member, [None] * len(table))
                parts[document][member] = [text if value is None else value for value in sent]
        return {
            name: _joined(columns.get(name), members, len(table))
            for name, members in parts.items()
            if members or (name in columns and pa.types.is_nested(columns[name].type))
        }


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _filled(column: Any, text: str, size: int) -> Any:
    if column is None:
        return pa.repeat(pa.scalar(text, pa.string()), size)
    return pc.fill_null(column.cast(pa.string()), text)


def _values(column: pa.ChunkedArray) -> list[Any]:
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    return column.to_pylist()  # type: ignore[no-any-return]


def _raw_json(column: pa.ChunkedArray) -> list[Any]:
    return [None if text is None else msgspec.Raw(text.encode()) for text in column.cast(pa.string()).to_pylist()]


def _joined(sent: Any, members: dict[str, list[Any]], size: int) -> pa.Array:
    documents: list[Any] = [None] * size if sent is None else sent.to_pylist()
    names = list(members)
    texts: list[bytes | None] = []
    for document, values in zip(documents, zip(*members.values(), strict=True) if names else [()] * size, strict=True):
        row = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        if isinstance(document, str):
            try:
                row |= _RAW_OBJECT.decode(document)
            except _BROKEN:
                row["value"] = document
        elif document is not None:
            row |= dict(document)
        texts.append(_ENCODER.encode(row) if row else None)
    return pa.array(texts, pa.binary()).cast(pa.string())
