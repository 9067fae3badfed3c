"""Prepared request bodies whose event ids are renewed in place: a few microseconds for thousands of rows.

Every id ends in hexadecimal digits at known places of the body. `renew` writes the same fresh digits at all of them;
the digits before tell the rows of one body apart.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from infra.demo.platform import MODELS
from infra.demo.spans import DIALECTS, Told, attribute

_FRESH = 16
_MARK = "f" * _FRESH
_EVENT_BYTES = 500


@dataclass(slots=True)
class Body:
    """One request.

    Attributes:
        at: (rows, width) positions of the bytes that are renewed together.
        digits: whether those bytes are hexadecimal text, or raw.
    """

    content: bytearray
    rows: int
    at: npt.NDArray[np.int64]
    digits: bool = True

    @property
    def bytes_per_row(self) -> float:
        return len(self.content) / self.rows

    def copy(self) -> Body:
        """Another one that may be renewed on its own."""
        return Body(bytearray(self.content), self.rows, self.at, self.digits)

    def renew(self) -> None:
        """Fresh ids for every row."""
        raw = secrets.token_bytes(_FRESH // 2)
        fresh = raw.hex().encode() if self.digits else raw
        np.frombuffer(self.content, np.uint8)[self.at] = np.frombuffer(fresh, np.uint8)


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
    return Body(content, rows, _places(content, _MARK.encode()))


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
    return Body(content, rows, _places(content, _MARK.encode()))


def otlp_body(rows: int) -> Body:
    """Chat spans as a protobuf export request; a trace for each, so the trace id is what is renewed."""
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
        span.span_id = (row + 1).to_bytes(8, "big")
        told = Told(model, f"s-{row % 200}", f"user-{row % 300:03d}", (900, 200, 300, 0, 0), 350.0, failed=False)
        span.attributes.extend(attribute(name, value) for name, value in DIALECTS["otel"](told))
    content = bytearray(request.SerializeToString())
    return Body(content, rows, _places(content, mark), digits=False)


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


def _places(content: bytearray, mark: bytes) -> npt.NDArray[np.int64]:
    """Positions of every occurrence of the mark, byte by byte."""
    data = bytes(content)
    found = []
    at = data.find(mark)
    while at >= 0:
        found.append(at)
        at = data.find(mark, at + len(mark))
    return np.array(found, np.int64)[:, None] + np.arange(len(mark))
