"""Arrow schemas of everything the hub stores, and the columns an event travels in from the door to the lake.

A batch on its way belongs to one tenant, which its journal record names; so `tenant_id` and `event_date`, the
partition columns, are not inside the batch. They are added where a table row is shown to somebody.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

INSTANT: Final = pa.timestamp("us", tz="UTC")
MONEY: Final = pa.decimal128(18, 9)

TEXT_FIELDS: Final = (
    "project_id",
    "region",
    "environment",
    "module",
    "kind",
    "schema_version",
    "severity",
    "trace_id",
    "span_id",
    "parent_span_id",
    "correlation_id",
    "causation_id",
    "session_id",
    "user_id",
    "request_id",
    "service",
    "provider",
    "model",
    "operation",
    "status",
    "cache_status",
    "guardrail_action",
    "price_version",
)
# Totals follow OpenTelemetry: input includes cache reads and writes, output includes reasoning.
TOKEN_FIELDS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "other_modal_tokens",
)

EVENT_SCHEMA: Final = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("occurred_at", INSTANT, nullable=False),
        pa.field("received_at", INSTANT, nullable=False),
        *(pa.field(name, pa.string()) for name in TEXT_FIELDS),
        pa.field("latency_ms", pa.float64()),
        pa.field("ttft_ms", pa.float64()),
        *(pa.field(name, pa.int64()) for name in TOKEN_FIELDS),
        # What the sender told where `cost_is_sent`, else what the hub computed; null where neither is known.
        pa.field("cost_usd", MONEY),
        # By the hub's prices, whatever was sent; null where no price holds. `price_version` names the price.
        pa.field("cost_usd_computed", MONEY),
        pa.field("cost_is_sent", pa.bool_()),
        # The token buckets a sender gave contradict its totals; kept as sent, never guessed.
        pa.field("usage_conflict", pa.bool_()),
        # JSON object text. Text rather than a map: what was sent is what is kept, digit for digit.
        pa.field("attributes", pa.string()),
        pa.field("payload", pa.string()),
        # Bit mask of contract.event.COUNTED_*; 0 at the door, set by the shard.
        pa.field("counted", pa.int16(), nullable=False),
    ]
)

# Columns that came to EVENT_SCHEMA after its first form: journals and files written before do not have them.
LATER_COLUMNS: Final = ("cost_usd_computed", "cost_is_sent")
FIRST_EVENT_SCHEMA: Final = pa.schema([one for one in EVENT_SCHEMA if one.name not in LATER_COLUMNS])

DEAD_LETTER_SCHEMA: Final = pa.schema(
    [
        pa.field("dead_letter_id", pa.string(), nullable=False),
        pa.field("received_at", INSTANT, nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("row_index", pa.int64(), nullable=False),
        pa.field("reason_code", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        # The first DEAD_LETTER_BYTES_MAX bytes as sent.
        pa.field("original", pa.binary(), nullable=False),
        pa.field("original_size_bytes", pa.int64(), nullable=False),
    ]
)

ROLLUP_DIMENSIONS: Final = (
    "module",
    "kind",
    "service",
    "provider",
    "model",
    "operation",
    "status",
    "environment",
    "severity",
    "region",
    "project_id",
)

# One row: a partial of one window and dimension set from one seal. Partials are only appended and merged on read.
ROLLUP_SCHEMA: Final = pa.schema(
    [
        pa.field("window_start", INSTANT, nullable=False),
        *(pa.field(name, pa.string()) for name in ROLLUP_DIMENSIONS),
        pa.field("event_count", pa.int64(), nullable=False),
        pa.field("request_count", pa.int64(), nullable=False),
        pa.field("error_count", pa.int64(), nullable=False),
        pa.field("guardrail_count", pa.int64(), nullable=False),
        pa.field("guardrail_block_count", pa.int64(), nullable=False),
        pa.field("cache_lookup_count", pa.int64(), nullable=False),
        pa.field("cache_hit_count", pa.int64(), nullable=False),
        *(pa.field(name, pa.int64(), nullable=False) for name in TOKEN_FIELDS),
        pa.field("cost_usd", MONEY, nullable=False),
        pa.field("latency_count", pa.int64(), nullable=False),
        pa.field("latency_ms_sum", pa.float64(), nullable=False),
        pa.field("latency_ms_min", pa.float64()),
        pa.field("latency_ms_max", pa.float64()),
        # Log-bucket histogram (DDSketch mapping): parallel lists, bucket index and its count.
        pa.field("latency_buckets", pa.list_(pa.int32())),
        pa.field("latency_bucket_counts", pa.list_(pa.int64())),
        pa.field("ttft_count", pa.int64(), nullable=False),
        pa.field("ttft_ms_sum", pa.float64(), nullable=False),
        pa.field("ttft_buckets", pa.list_(pa.int32())),
        pa.field("ttft_bucket_counts", pa.list_(pa.int64())),
        # Serialised distinct sketches, null where no row named a user or session.
        pa.field("users_sketch", pa.binary()),
        pa.field("sessions_sketch", pa.binary()),
    ]
)


def widened(rows: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The rows in a schema that has more columns; those are null."""
    columns = [
        rows.column(one.name) if one.name in rows.schema.names else pa.nulls(rows.num_rows, one.type) for one in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
