"""Columns of a found anomaly. Rows are only added: what becomes of an anomaly later is a row with a higher revision."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

_AT: Final = pa.timestamp("us", tz="UTC")

FOUND_SCHEMA: Final = pa.schema(
    [
        pa.field("anomaly_id", pa.string(), nullable=False),
        # Of several rows with one id the highest revision counts.
        pa.field("revision", pa.int64(), nullable=False),
        pa.field("detected_at", _AT, nullable=False),
        pa.field("detector", pa.string(), nullable=False),
        # 0 where no model was promoted and plain statistics judged.
        pa.field("model_version", pa.int64(), nullable=False),
        pa.field("entity", pa.string(), nullable=False),
        # JSON object: dimension -> value.
        pa.field("dimensions", pa.string(), nullable=False),
        # JSON list of names of measures, those of the drivers.
        pa.field("measures", pa.string(), nullable=False),
        pa.field("started_at", _AT, nullable=False),
        pa.field("ended_at", _AT, nullable=False),
        pa.field("peak_at", _AT, nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("threshold", pa.float64(), nullable=False),
        pa.field("severity", pa.string(), nullable=False),
        # open or closed.
        pa.field("state", pa.string(), nullable=False),
        # JSON: features with their share, value and what was usual; what was compared with; ids; changes before.
        pa.field("drivers", pa.string(), nullable=False),
        pa.field("baseline", pa.string(), nullable=False),
        pa.field("trace_ids", pa.string(), nullable=False),
        pa.field("changes", pa.string(), nullable=False),
    ]
)
