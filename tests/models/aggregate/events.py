"""Batches of events as a shard seals them, and the plain-Python answer every measure is held against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import settings
from hypothesis import strategies as st

from cluster.contract import event
from cluster.contract.columns import EVENT_SCHEMA

START_US = 1_780_000_020_000_000  # on a minute
Row = dict[str, Any]

# No deadline: the time of an example says how busy the machine is, not whether the law holds.
law = settings(max_examples=30, deadline=None)

_NAMES = st.sampled_from([None, "a", "b"])
_TOKENS = st.none() | st.integers(0, 1_000_000)
# Eighths of a millisecond add up without rounding, so sums can be compared with ==.
_EIGHTHS = st.none() | st.integers(0, 10**9).map(lambda eighths: eighths / 8)
_COST = st.none() | st.integers(0, 10**15).map(lambda nano: Decimal(nano).scaleb(-9))


def rows() -> st.SearchStrategy[Row]:
    """One event, with any combination of what it tells and what of it is counted."""
    return st.fixed_dictionaries(
        {
            "occurred_at": st.integers(START_US, START_US + 150_000_000),
            "kind": st.sampled_from(["gateway.request", "observatory.span", event.GUARDRAIL_KIND]),
            "model": _NAMES,
            "status": _NAMES,
            "user_id": st.none() | st.integers(0, 20).map("u{}".format),
            "session_id": _NAMES,
            "cache_status": st.sampled_from([None, "hit", "semantic", "miss"]),
            "guardrail_action": st.sampled_from([None, "allow", "block", "deny"]),
            "latency_ms": _EIGHTHS,
            "ttft_ms": _EIGHTHS,
            **dict.fromkeys(("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens"), _TOKENS),
            "cost_usd": _COST,
            "counted": st.integers(0, 127),
        }
    )


def batch_of(events: Sequence[Row]) -> pa.RecordBatch:
    """EVENT_SCHEMA batch of rows that name only some of its columns."""
    filled = [
        {
            "event_id": str(index),
            "received_at": START_US,
            "module": "gateway",
            "kind": "gateway.request",
            "occurred_at": START_US,
            "counted": 127,
            **row,
        }
        for index, row in enumerate(events)
    ]
    arrays = [pa.array([row.get(f.name) for row in filled], f.type) for f in EVENT_SCHEMA]
    return pa.record_batch(arrays, schema=EVENT_SCHEMA)


def batches(max_size: int = 40) -> st.SearchStrategy[pa.RecordBatch]:
    return st.lists(rows(), min_size=0, max_size=max_size).map(batch_of)


def counted(events: Sequence[Row], bit: int, name: str) -> list[Any]:
    """What the rows that carry `bit` tell in column `name`."""
    return [row[name] for row in events if row["counted"] & bit and row.get(name) is not None]


def nearest_rank(values: Sequence[float], q: float) -> float:
    return sorted(values)[max(1, math.ceil(q * len(values))) - 1]
