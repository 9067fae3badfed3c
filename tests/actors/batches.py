"""Batches of events for the tests of the moving parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from cluster.contract.columns import DEAD_LETTER_SCHEMA, EVENT_SCHEMA

NOW_US = 1_767_225_600_000_000


def events(ids: Sequence[str], **columns: object) -> pa.RecordBatch:
    """Rows of EVENT_SCHEMA with these ids; a keyword gives a column's value for all rows, or a list of them."""
    given: Mapping[str, object] = {
        "module": "gateway",
        "kind": "gateway.request",
        "operation": "chat",
        "model": "m-1",
        "input_tokens": 10,
        "output_tokens": 5,
        **columns,
    }
    size = len(ids)
    arrays = []
    for field in EVENT_SCHEMA:
        if field.name == "event_id":
            array = pa.array(list(ids), pa.string())
        elif field.name in ("occurred_at", "received_at"):
            array = pa.array(np.full(size, NOW_US)).cast(field.type)
        elif field.name == "counted":
            array = pa.array(np.zeros(size, np.int16))
        else:
            value = given.get(field.name)
            array = pa.array(value if isinstance(value, list) else [value] * size, field.type)
        arrays.append(array)
    return pa.record_batch(arrays, schema=EVENT_SCHEMA)


def dead_letters(ids: Sequence[str]) -> pa.RecordBatch:
    """Rows of DEAD_LETTER_SCHEMA with these ids."""
    rows = [
        {
            "dead_letter_id": name,
            "received_at": NOW_US,
            "source": "events",
            "row_index": index,
            "reason_code": "test",
            "message": "m",
            "original": b"{",
            "original_size_bytes": 1,
        }
        for index, name in enumerate(ids)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=DEAD_LETTER_SCHEMA)
