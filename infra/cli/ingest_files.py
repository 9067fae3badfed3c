"""Files of rows -> parcels for the doors: NDJSON, JSON, CSV, Parquet, Arrow, and OTLP in protobuf or JSON lines."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import zstandard
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from cluster.errors import BodyUnreadable
from cluster.sdk.client import ARROW_STREAM, JSON, NDJSON, PROTOBUF, Signal
from infra.cli.ingest_presets import preset_for
from infra.cli.ingest_rows import Plan, TableEvents, ids, line_event

Format = Literal["ndjson", "json", "csv", "parquet", "arrow", "otlp"]

SUFFIXES: Final[dict[str, Format]] = {
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "json",
    ".csv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".ipc": "arrow",
    ".feather": "arrow",
    ".pb": "otlp",
    ".binpb": "otlp",
    ".otlp": "otlp",
}
# Well under the hub's limits of a body, so that a parcel of wide rows is still taken.
_PARCEL_BYTES: Final = 8 * 1024 * 1024
_CSV_BLOCK_BYTES: Final = 4 * 1024 * 1024
_ARROW_FILE_MAGIC: Final = b"ARROW1"
_RAW_ROWS: Final = msgspec.json.Decoder(list[msgspec.Raw])

_MESSAGES: Final[dict[Signal, Any]] = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}
_RESPONSES: Final[dict[Signal, Any]] = {
    "traces": ExportTraceServiceResponse,
    "logs": ExportLogsServiceResponse,
    "metrics": ExportMetricsServiceResponse,
}
# Signal -> members of an export request from the outside in: in protobuf, and in JSON.
_NESTING: Final[dict[Signal, tuple[str, str, str]]] = {
    "traces": ("resource_spans", "scope_spans", "spans"),
    "logs": ("resource_logs", "scope_logs", "log_records"),
    "metrics": ("resource_metrics", "scope_metrics", "metrics"),
}
_JSON_NESTING: Final[dict[Signal, tuple[str, str, str]]] = {
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
}


@dataclass(frozen=True, slots=True)
class Parcel:
    """One request: `rows` rows of a file from `first_row`, encoded for the door `signal`, or without one for events."""

    first_row: int
    rows: int
    body: bytes
    content_type: str
    signal: Signal | None = None


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to send.

    Attributes:
        fingerprint: of its content, so that a renamed copy has the same rows.
        rows: how many, where the file says so without being read.
    """

    path: Path
    form: Format
    fingerprint: str
    rows: int | None
    columns: tuple[str, ...] = ()


def inspect(path: Path) -> SourceFile:
    """What kind of file it is, and what it holds.

    Raises:
        BodyUnreadable: no such file, or of no known kind.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in (".gz", ".zst"):
        suffixes.pop()
    form = SUFFIXES.get(suffixes[-1]) if suffixes else None
    if form is None:
        raise BodyUnreadable(
            f"{path.name}: the kind of file is not known by its ending", hint=f"Known: {' '.join(sorted(SUFFIXES))}."
        )
    try:
        with path.open("rb") as file:
            fingerprint = hashlib.file_digest(file, "blake2b").hexdigest()[:32]
        if form == "parquet":
            metadata = pq.read_metadata(path)
            return SourceFile(path, form, fingerprint, metadata.num_rows, tuple(pq.read_schema(path).names))
    except (OSError, pa.ArrowException) as error:
        raise BodyUnreadable(f"{path.name}: {error}") from None
    return SourceFile(path, form, fingerprint, None)


def parcels(
    file: SourceFile, plan: Plan, *, batch: int, skip_rows: int = 0, signal: Signal = "traces"
) -> Iterator[Parcel]:
    """The rows of a file from `skip_rows` on, in order, at most `batch` to a parcel.

    Args:
        signal: what protobuf files hold; JSON lines of OTLP say it themselves.
    Raises:
        BodyUnreadable: the file as a whole is not what its ending says.
        RequestInvalid: the plan does not fit the file.
    """
    try:
        yield from _PARCELS[file.form](file, plan, (batch, skip_rows, signal))
    except (OSError, EOFError, pa.ArrowException, DecodeError, zstandard.ZstdError) as error:
        raise BodyUnreadable(f"{file.path.name}: {error}") from None


Cut = tuple[int, int, Signal]


def _opened(path: Path) -> Any:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rb")
    if path.suffix.lower() == ".zst":
        return zstandard.open(path, "rb")
    return path.open("rb")


def _lines(file: SourceFile, plan: Plan, cut: Cut) -> Iterator[Parcel]:
    with _opened(file.path) as stream:
        lines = (line.strip() for line in stream)
        full = (line for line in lines if line)
        first = next(full, b"")
        signal = _signal_of(first)
        rows = itertools.chain([first] if first else [], full)
        yield from _otlp_lines(rows, signal, cut[1]) if signal else _row_parcels(rows, plan, cut)


def _document(file: SourceFile, plan: Plan, cut: Cut) -> Iterator[Parcel]:
    with _opened(file.path) as stream:
        body = stream.read().strip()
    signal = _signal_of(body)
    if signal:
        yield from _otlp_lines(iter([body]), signal, cut[1])
    elif body.startswith(b"["):
        try:
            rows = [bytes(row) for row in _RAW_ROWS.decode(body)]
        except msgspec.MsgspecError as error:
            raise BodyUnreadable(f"{file.path.name}: {error}") from None
        yield from _row_parcels((b" ".join(row.splitlines()) for row in rows), plan, cut)
    else:
        try:
            row = msgspec.json.format(body, indent=-1)
        except msgspec.MsgspecError:
            # Not one document: JSON lines under the ending of JSON.
            yield from _lines(file, plan, cut)
        else:
            yield from _row_parcels(iter([row]), plan, cut)


def _row_parcels(rows: Iterator[bytes], plan: Plan, cut: Cut) -> Iterator[Parcel]:
    batch, skip_rows, _ = cut
    at = skip_rows
    rows = itertools.islice(rows, skip_rows, None)
    while chunk := _chunk(rows, batch):
        made = ids(plan.source, at, len(chunk)).to_pylist()
        lines = [line_event(line, event_id, plan) for line, event_id in zip(chunk, made, strict=True)]
        yield Parcel(at, len(chunk), b"\n".join(lines) + b"\n", NDJSON)
        at += len(chunk)


def _chunk(rows: Iterator[bytes], batch: int) -> list[bytes]:
    chunk: list[bytes] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += len(row)
        if len(chunk) == batch or size >= _PARCEL_BYTES:
            break
    return chunk


def _csv(file: SourceFile, plan: Plan, cut: Cut) -> Iterator[Parcel]:
    with _opened(file.path) as stream:
        # Nothing between two commas is no value, not an empty text.
        convert = pacsv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
        reading = pacsv.ReadOptions(block_size=_CSV_BLOCK_BYTES)
        reader = pacsv.open_csv(stream, read_options=reading, convert_options=convert)
        yield from _table_parcels(reader.schema.names, iter(reader), plan, cut)


def _parquet(file: SourceFile, plan: Plan, cut: Cut) -> Iterator[Parcel]:
    source = pq.ParquetFile(file.path)
    yield from _table_parcels(source.schema_arrow.names, source.iter_batches(max(cut[0], 10_000)), plan, cut)


def _arrow(file: SourceFile, plan: Plan, cut: Cut) -> Iterator[Parcel]:
    with _opened(file.path) as stream:
        head = stream.read(len(_ARROW_FILE_MAGIC))
    if head == _ARROW_FILE_MAGIC:
        with pa.memory_map(str(file.path)) as source:
            reader = pa.ipc.open_file(source)
            batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
            yield from _table_parcels(reader.schema.names, batches, plan, cut)
        return
    with _opened(file.path) as stream:
        reader = pa.ipc.open_stream(stream)
        yield from _table_parcels(reader.schema.names, iter(reader), plan, cut)


def _table_parcels(columns: list[str], batches: Iterator[pa.RecordBatch], plan: Plan, cut: Cut) -> Iterator[Parcel]:
    batch, skip_rows, _ = cut
    rows = TableEvents(columns, plan.with_preset(preset_for(columns)))
    at = 0
    for one in batches:
        table = pa.Table.from_batches([one])
        begin = max(0, skip_rows - at)
        step = max(1, min(batch, len(table) * _PARCEL_BYTES // max(1, table.nbytes)))
        for start in range(begin, len(table), step):
            part = table.slice(start, step)
            yield Parcel(at + start, len(part), _ipc(rows.events(part, at + start)), ARROW_STREAM)
        at += len(table)


def _ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    table = table.combine_chunks()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def _signal_of(row: bytes) -> Signal | None:
    for signal, (outer, _, _) in _JSON_NESTING.items():
        if f'"{outer}"'.encode() in row[:200]:
            return signal
    return None


def _otlp_lines(rows: Iterator[bytes], signal: Signal, skip_rows: int) -> Iterator[Parcel]:
    at = 0
    for row in rows:
        try:
            count = _json_count(json.loads(row), _JSON_NESTING[signal])
        except (ValueError, AttributeError) as error:
            raise BodyUnreadable(f"row {at}: not an OTLP request: {error}") from None
        if at >= skip_rows:
            yield Parcel(at, count, row, JSON, signal)
        at += count


def _json_count(request: dict[str, Any], names: tuple[str, str, str]) -> int:
    outer, scope, inner = names
    return sum(len(part.get(inner, ())) for one in request.get(outer, ()) for part in one.get(scope, ()))


def _protobuf(file: SourceFile, _: Plan, cut: Cut) -> Iterator[Parcel]:
    """One export request, cut into several by its spans, log records or metrics."""
    batch, skip_rows, signal = cut
    with _opened(file.path) as stream:
        request = _MESSAGES[signal].FromString(stream.read())
    outer, scope, inner = _NESTING[signal]
    at = 0
    for one in getattr(request, outer):
        for part in getattr(one, scope):
            rows = getattr(part, inner)
            for start in range(0, len(rows), batch):
                chosen = rows[start : start + batch]
                if at >= skip_rows:
                    yield Parcel(at, len(chosen), _request(signal, one, part, chosen), PROTOBUF, signal)
                at += len(chosen)


def _request(signal: Signal, resource: Any, scope: Any, rows: Any) -> bytes:
    outer, middle, inner = _NESTING[signal]
    request = _MESSAGES[signal]()
    one = getattr(request, outer).add(resource=resource.resource, schema_url=resource.schema_url)
    part = getattr(one, middle).add(scope=scope.scope, schema_url=scope.schema_url)
    getattr(part, inner).extend(rows)
    return request.SerializeToString()  # type: ignore[no-any-return]


def rejected(signal: Signal, response: bytes, content_type: str) -> int:
    """Rows that an export response says were not taken."""
    if content_type == JSON:
        partial = json.loads(response or b"{}").get("partialSuccess", {})
        return int(next((count for name, count in partial.items() if name.startswith("rejected")), 0))
    names = {"traces": "rejected_spans", "logs": "rejected_log_records", "metrics": "rejected_data_points"}
    message = _RESPONSES[signal].FromString(response)
    return int(getattr(message.partial_success, names[signal]))


_PARCELS: Final[dict[Format, Callable[[SourceFile, Plan, Cut], Iterator[Parcel]]]] = {
    "ndjson": _lines,
    "json": _document,
    "csv": _csv,
    "parquet": _parquet,
    "arrow": _arrow,
    "otlp": _protobuf,
}
