"""Bodies and contexts the contract's tests send."""

from __future__ import annotations

import io
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.contract.columns import DEAD_LETTER_SCHEMA, EVENT_SCHEMA
from cluster.contract.decode import DecodeContext, Decoded, decode

NDJSON = "application/x-ndjson"
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
_NEEDED = [field.name for field in EVENT_SCHEMA if not field.nullable]
_LETTERS_NEEDED = [field.name for field in DEAD_LETTER_SCHEMA if not field.nullable]
NOW_US = 1_767_229_200_000_000  # 2026-01-01T01:00:00Z
CONTEXT = DecodeContext(tenant_id="acme", region="local", received_at_us=NOW_US)


def event(**fields: Any) -> dict[str, Any]:
    """A complete event with `fields` over it; a field given as ... is left out."""
    row = {
        "event_id": "e1",
        "occurred_at": "2026-01-01T00:00:00Z",
        "module": "gateway",
        "kind": "gateway.request",
        **fields,
    }
    return {name: value for name, value in row.items() if value is not ...}


def lines(*rows: dict[str, Any] | bytes) -> bytes:
    return b"\n".join(row if isinstance(row, bytes) else orjson.dumps(row) for row in rows)


def send(*rows: dict[str, Any] | bytes, context: DecodeContext = CONTEXT) -> Decoded:
    return checked(decode(lines(*rows), content_type=NDJSON, context=context))


def checked(decoded: Decoded) -> Decoded:
    """The outcome, after the laws every outcome obeys."""
    assert decoded.events.schema.equals(EVENT_SCHEMA)
    assert decoded.dead_letters.schema.equals(DEAD_LETTER_SCHEMA)
    decoded.events.validate(full=True)
    decoded.dead_letters.validate(full=True)
    assert decoded.row_count == decoded.events.num_rows + decoded.dead_letters.num_rows
    assert len(decoded.refusals) == min(decoded.dead_letters.num_rows, 100)
    for batch, names in ((decoded.events, _NEEDED), (decoded.dead_letters, _LETTERS_NEEDED)):
        for name in names:
            assert batch.column(name).null_count == 0, name
    return decoded


def only(decoded: Decoded) -> dict[str, Any]:
    """The single event of an outcome without refusals."""
    assert decoded.refusals == []
    assert decoded.events.num_rows == 1
    return decoded.events.to_pylist()[0]


def codes(decoded: Decoded) -> list[str]:
    return [refusal.code for refusal in decoded.refusals]


def arrow_body(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, **options) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parquet_body(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()
