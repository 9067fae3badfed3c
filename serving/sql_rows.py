"""Writes the rows of a statement as JSON, CSV or an Arrow stream, part by part, up to the limits of rows and bytes."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
import pyarrow as pa

from cluster.errors import RequestInvalid
from serving.sql_job import PART_BYTES, ROW_BYTES_MAX, SqlForm

BATCH_ROWS: Final = 2_048
_UTC_MICROSECONDS: Final = pa.timestamp("us", tz="UTC")
_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=str)
# A spreadsheet takes a text that starts like this for a formula.
_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r")


class Written:
    """The rows of one statement as one body.

    Attributes:
        row_count: rows in the body.
        truncated: there were more.
    """

    def __init__(self, versions: Mapping[str, int], take: Callable[[bytes], None]) -> None:
        """
        Args:
            versions: Delta version of each table that was read, told in JSON.
            take: is given the body part by part, but for the last.
        """
        self._versions = versions
        self._take = take
        self.row_count = 0
        self.truncated = False

    def write(self, reader: pa.RecordBatchReader, form: SqlForm, *, limit: int, bytes_max: int) -> bytes:
        """The last part of the body, which is all of it where it is short.

        Args:
            limit: most rows.
            bytes_max: most bytes of the body.
        Raises:
            RequestInvalid: it would be over `bytes_max`, one row is over `ROW_BYTES_MAX`, or a value has no form in
                JSON or CSV.
        """
        names = unique(reader.schema.names)
        schema = pa.schema([one.with_name(name) for one, name in zip(reader.schema, names, strict=True)])
        sink = _Sink(bytes_max)
        batches = self._parted(self._limited(reader, limit), schema, sink)
        if form is SqlForm.ARROW:
            with pa.ipc.new_stream(sink, schema) as stream:
                for batch in batches:
                    stream.write_batch(batch)
        elif form is SqlForm.CSV:
            self._csv(batches, names, sink)
        else:
            self._json(batches, schema, sink)
        return sink.taken()

    def _parted(self, batches: Iterator[pa.RecordBatch], schema: pa.Schema, sink: _Sink) -> Iterator[pa.RecordBatch]:
        """Batches of about a part each; what was written of them goes out before the next is asked for."""
        for wide in batches:
            named = pa.RecordBatch.from_arrays(wide.columns, schema=schema)
            rows = max(1, named.num_rows * PART_BYTES // max(named.nbytes, PART_BYTES))
            for at in range(0, named.num_rows, rows):
                yield named.slice(at, rows)
                if sink.held_bytes >= PART_BYTES:
                    self._take(sink.taken())

    def _limited(self, reader: pa.RecordBatchReader, limit: int) -> Iterator[pa.RecordBatch]:
        for batch in reader:
            room = limit - self.row_count
            if batch.num_rows > room:
                self.truncated = True
                batch = batch.slice(0, room)  # noqa: PLW2901
            self.row_count += batch.num_rows
            if batch.num_rows:
                yield batch
            if self.truncated:
                return

    def _json(self, batches: Iterator[pa.RecordBatch], schema: pa.Schema, sink: _Sink) -> None:
        types = [str(one.type) for one in schema]
        sink.write(b'{"columns":' + _encoder.encode(schema.names) + b',"types":' + _encoder.encode(types))
        sink.write(b',"rows":[')
        for place, batch in enumerate(batches):
            sink.write(b"," if place else b"")
            sink.write(_encoder.encode(_values(batch).to_pylist())[1:-1])
        told = {"row_count": self.row_count, "truncated": self.truncated, "versions": self._versions}
        sink.write(b"]," + _encoder.encode(told)[1:])

    def _csv(self, batches: Iterator[pa.RecordBatch], names: list[str], sink: _Sink) -> None:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(_cell(name) for name in names)
        for batch in batches:
            columns = [[_cell(value) for value in column.to_pylist()] for column in _values(batch).columns]
            writer.writerows(zip(*columns, strict=True))
            sink.write(text.getvalue().encode())
            text.seek(0)
            text.truncate()
        sink.write(text.getvalue().encode())


def unique(names: list[str]) -> list[str]:
    """The names, a number added to each that was there before."""
    taken: set[str] = set()
    found = []
    for name in names:
        told, number = name, 1
        while told in taken:
            told, number = f"{name}_{number}", number + 1
        taken.add(told)
        found.append(told)
    return found


class _Sink(io.BytesIO):
    """What was written since the last part was taken."""

    def __init__(self, bytes_max: int) -> None:
        super().__init__()
        self._bytes_max = bytes_max
        self._taken_bytes = 0

    @property
    def held_bytes(self) -> int:
        return self.tell()

    def taken(self) -> bytes:
        part = self.getvalue()
        self._taken_bytes += len(part)
        self.seek(0)
        self.truncate()
        return part

    def write(self, part: Any) -> int:
        written = super().write(part)
        if self._taken_bytes + self.held_bytes > self._bytes_max:
            raise RequestInvalid(
                f"the answer is over {self._bytes_max} bytes",
                hint="Ask for fewer rows or columns, or aggregate them.",
            )
        if self.held_bytes > ROW_BYTES_MAX:
            raise RequestInvalid(
                f"a row of the answer is over {ROW_BYTES_MAX} bytes", hint="Ask for fewer columns or shorter texts."
            )
        return written


def _values(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Instants as UTC to the microsecond: those without a zone are UTC in this house."""
    columns = [
        column.cast(_UTC_MICROSECONDS, safe=False)
        if pa.types.is_timestamp(column.type) and column.type != _UTC_MICROSECONDS
        else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return "'" + value if value.startswith(_FORMULAS) else value
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime | bytes | bool) or not isinstance(value, int | float):
        # As in JSON, the quotes of a text left off.
        return _encoder.encode(value).decode().strip('"')
    return repr(value)
