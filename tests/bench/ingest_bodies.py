"""Prepared request bodies whose ids and figures are renewed in place: well under a millisecond for thousands of rows.

Ids, times, durations and token counts lie at known places of the body; `renew` writes random ones there, so that no
row is a repeat and no batch compresses better on the hub's disk than fresh events would.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from infra.demo.platform import MODELS
from infra.demo.spans import DIALECTS, Told, attribute

Positions = npt.NDArray[np.int64]

_FRESH = 16
_MARK = "f" * _FRESH
_EVENT_BYTES = 500


@dataclass(slots=True)
class Body:
    """One request.

    Attributes:
        ids: (rows, width) positions of the bytes of each row's id.
        is_text: those bytes are hexadecimal digits, else raw.
        digits: positions of decimal digits of figures.
        columns: offset, type and bounds of the values of whole columns.
    """

    content: bytearray
    rows: int
    ids: Positions
    is_text: bool = True
    digits: Positions | None = None
    columns: tuple[tuple[int, str, float, float], ...] = ()
    random: np.random.Generator = field(default_factory=np.random.default_rng)

    @property
    def bytes_per_row(self) -> float:
        return len(self.content) / self.rows

    def copy(self) -> Body:
        """Another one that may be renewed on its own."""
        return replace(self, content=bytearray(self.content), random=np.random.default_rng())

    def renew(self) -> None:
        """Fresh ids and figures for every row."""
        data = np.frombuffer(self.content, np.uint8)
        raw = self.random.bytes(self.ids.size // 2 if self.is_text else self.ids.size)
        fresh = raw.hex().encode() if self.is_text else raw
        data[self.ids] = np.frombuffer(fresh, np.uint8).reshape(self.ids.shape)
        if self.digits is not None:
            # No zero: it may not lead a number.
            data[self.digits] = self.random.integers(ord("1"), ord("9") + 1, len(self.digits), np.uint8)
        for offset, kind, low, high in self.columns:
            values = self.random.uniform(low, high, self.rows).astype(kind)
            data[offset : offset + values.nbytes] = values.view(np.uint8)


def ndjson_body(rows: int) -> Body:
    """Gateway requests of 500 bytes as NDJSON."""
    lines = []
    for row in range(rows):
        event = _event(row)
        event["attributes"] = {"route": "chat", "note": ""}
        short = _EVENT_BYTES - 1 - len(json.dumps(event, separators=(",", ":")))
        event["attributes"]["note"] = "x" * max(0, short)
        lines.append(json.dumps(event, separators=(",", ":")))
    content = bytearray(("\n".join(lines) + "\n").encode())
    figures = rb'"(?:latency_ms|ttft_ms|input_tokens|output_tokens)":(\d+)|T\d\d:\d\d:\d\d\.(\d+)Z'
    spans = [match.span(match.lastindex or 0) for match in re.finditer(figures, bytes(content))]
    digits = np.concatenate([np.arange(*span) for span in spans])
    return Body(content, rows, _places(content, _MARK.encode()), digits=digits)


def arrow_body(rows: int) -> Body:
    """The same requests as one Arrow IPC stream."""
    events = [_event(row) for row in range(rows)]
    table = pa.Table.from_pylist(events)
    notes = pa.repeat(pa.scalar(json.dumps({"route": "chat", "note": "x" * 80})), rows)
    table = table.append_column("attributes", notes)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content = bytearray(sink.getvalue().to_pybytes())
    columns = []
    for name, low, high in (
        ("latency_ms", 90, 9000),
        ("ttft_ms", 50, 900),
        ("input_tokens", 9, 9e3),
        ("output_tokens", 1, 999),
    ):
        buffer = table.column(name).combine_chunks().buffers()[1].to_pybytes()
        kind = "<f8" if name.endswith("_ms") else "<i8"
        columns.append((bytes(content).find(buffer[: rows * 8]), kind, float(low), float(high)))
    return Body(content, rows, _places(content, _MARK.encode()), columns=tuple(columns))


def otlp_body(rows: int) -> Body:
    """Chat spans as a protobuf export request, a trace for each; trace and span ids are renewed."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.append(attribute("service.name", "bench"))
    spans = resource.scope_spans.add().spans
    now = time.time_ns()
    mark = b"\xf7" * (_FRESH // 2)
    for row in range(rows):
        model = MODELS[row % len(MODELS)]
        span = spans.add(name=f"chat {model.name}", start_time_unix_nano=now - row * 1_000_000)
        span.end_time_unix_nano = span.start_time_unix_nano + 800_000_000
        span.trace_id = mark + row.to_bytes(8, "big")
        span.span_id = mark
        told = Told(model, f"s-{row % 200}", f"user-{row % 300:03d}", (900, 200, 300, 0, 0), 350.0, failed=False)
        span.attributes.extend(attribute(name, value) for name, value in DIALECTS["otel"](told))
    content = bytearray(request.SerializeToString())
    return Body(content, rows, _places(content, mark), is_text=False)


def _event(row: int) -> dict[str, object]:
    model = MODELS[row % len(MODELS)]
    at = datetime.fromtimestamp(time.time() - row * 0.001, tz=UTC)
    return {
        "event_id": f"{row:08x}-{_MARK}",
        "occurred_at": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "module": "gateway",
        "kind": "gateway.request",
        "service": f"service-{row % 8}",
        "provider": model.provider,
        "model": model.name,
        "operation": "chat",
        "status": "ok" if row % 50 else "error",
        "session_id": f"s-{row % 200}",
        "user_id": f"user-{row % 300:03d}",
        "latency_ms": 250.0 + row % 1000,
        "ttft_ms": 90.0 + row % 200,
        "input_tokens": 500 + row % 3000,
        "output_tokens": 50 + row % 500,
        "cost_usd": 0.001234567,
    }


def _places(content: bytearray, mark: bytes) -> Positions:
    """Positions of every occurrence of the mark, byte by byte."""
    data = bytes(content)
    found = []
    at = data.find(mark)
    while at >= 0:
        found.append(at)
        at = data.find(mark, at + len(mark))
    return np.array(found, np.int64)[:, None] + np.arange(len(mark))
