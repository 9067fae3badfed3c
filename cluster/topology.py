"""Where an event goes: (tenant, trace, request or event) -> one of 1,024 slots -> a shard.

The slot of a key never changes; only the shard that owns a slot may. So a repeat meets its first, and the spans of
a trace and all tellers of one call meet in one shard.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.hashing import hash_first, seed_of
from cluster.tenancy import TenantId

SLOTS: Final = 1024
_ROUTE_FIELDS: Final = ("trace_id", "request_id", "event_id")

Slots = npt.NDArray[np.int64]


def slots(batch: pa.RecordBatch, tenant: TenantId) -> Slots:
    """Slot of each row, by trace id, else request id, else event id.

    Args:
        batch: (n,) rows of EVENT_SCHEMA.

    Returns:
        (n,) int64 in [0, 1024).
    """
    words = hash_first([batch.column(name) for name in _ROUTE_FIELDS], seed_of(f"slot:{tenant}"))
    return (words[:, 0] % np.uint64(SLOTS)).astype(np.int64)


def shard_of(slot: Slots, shards: int) -> Slots:
    """Shard that owns each slot: contiguous ranges of even size.

    Returns:
        (n,) int64 in [0, shards).
    """
    return slot * shards // SLOTS


def split(batch: pa.RecordBatch, tenant: TenantId, shards: int) -> dict[int, pa.RecordBatch]:
    """The part of each shard that gets any row; row order is kept inside a part."""
    if shards == 1:
        return {0: batch}
    owners = shard_of(slots(batch, tenant), shards)
    first = int(owners[0]) if len(owners) else 0
    if (owners == first).all():
        return {first: batch}
    # One take of all rows and slices of it: each take costs a part of a millisecond, however few rows it takes.
    order = np.argsort(owners.astype(np.uint16), kind="stable")
    ranked, rows = owners[order], batch.take(pa.array(order))
    starts = np.flatnonzero(np.diff(ranked, prepend=-1))
    ends = [*starts[1:].tolist(), len(ranked)]
    return {
        int(ranked[start]): rows.slice(start, end - start) for start, end in zip(starts.tolist(), ends, strict=True)
    }
