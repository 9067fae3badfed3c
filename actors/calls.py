"""Count each model call once, whoever tells of it: the gateway, a span, or both, in any order and in parts.

A call is known by (trace, span) and by request id. The first teller of a part (tokens, cost, latency, ...) carries
that part's bit in `counted`; a later teller adds only what nobody said before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from actors.seen import Bits, Keys, Seen, first_of_each
from cluster.contract.event import (
    COUNTED_CACHE,
    COUNTED_COST,
    COUNTED_ERROR,
    COUNTED_LATENCY,
    COUNTED_REQUEST,
    COUNTED_TOKENS,
    COUNTED_TTFT,
    ERROR_STATUSES,
    INFERENCE_OPERATIONS,
)
from cluster.hashing import combine, hash128, seed_of
from cluster.tenancy import TenantId

_PARTS = (
    (COUNTED_COST, ("cost_usd",)),
    (COUNTED_TOKENS, ("input_tokens", "output_tokens")),
    (COUNTED_LATENCY, ("latency_ms",)),
    (COUNTED_TTFT, ("ttft_ms",)),
    (COUNTED_CACHE, ("cache_status",)),
)


@dataclass(frozen=True, slots=True)
class Told:
    """What rows told of model calls.

    Attributes:
        counted: (n,) int16, bits of contract.event.COUNTED_*; 0 for rows that are not model calls.
        keys, bits: (m, 2) and (m,): each key a row knows its call by, and what that row told.
    """

    counted: npt.NDArray[np.int16]
    keys: Keys
    bits: Bits


def count(batch: pa.RecordBatch, tenant: TenantId, calls: Seen) -> Told:
    """Decide what fresh rows add to the measures of their calls; `calls` learns what they told.

    Args:
        batch: (n,) rows of EVENT_SCHEMA, none of them a repeat.
    """
    parts = _parts(batch)
    rows = np.flatnonzero(parts)
    counted = parts.astype(np.int16)
    part = batch if rows.size == batch.num_rows else batch.take(pa.array(rows))
    keys, owners = call_keys(part, tenant)
    if not owners.size:
        return Told(counted, keys, np.empty(0, np.uint8))
    told = parts[rows]
    if first_of_each(keys).all():
        _, before = calls.exchange(keys, told[owners])
        known = np.zeros(rows.size, np.uint8)
        np.bitwise_or.at(known, owners, before)
        counted[rows] = (told & ~known).astype(np.int16)
    else:
        counted[rows] = _count_in_order(keys, owners, told, calls)
    return Told(counted, keys, counted[rows][owners].astype(np.uint8))


def _parts(batch: pa.RecordBatch) -> Bits:
    """Bits each row could tell, were it the first; 0 where the row is not a model call."""
    kind, operation = batch.column("kind"), batch.column("operation")
    span = pc.and_(pc.equal(kind, "observatory.span"), pc.is_in(operation, pa.array(INFERENCE_OPERATIONS)))
    request = np.asarray(pc.fill_null(pc.or_kleene(pc.equal(kind, "gateway.request"), span), False))
    bits = np.where(request, np.uint8(COUNTED_REQUEST), np.uint8(0))
    for bit, names in _PARTS:
        for name in names:
            bits |= np.where(np.asarray(batch.column(name).is_valid()), np.uint8(bit), np.uint8(0))
    failed = np.asarray(pc.is_in(batch.column("status"), pa.array(ERROR_STATUSES)))
    bits |= np.where(failed, np.uint8(COUNTED_ERROR), np.uint8(0))
    bits[~request] = 0
    return bits


def call_keys(batch: pa.RecordBatch, tenant: TenantId) -> tuple[Keys, npt.NDArray[np.int64]]:
    """Keys a call is known by, and the row each belongs to: up to two for a row, none where nothing names the call.

    Returns:
        (m, 2) uint64 and (m,) int64 row numbers.
    """
    trace, span, request = (batch.column(name) for name in ("trace_id", "span_id", "request_id"))
    by_span = np.flatnonzero(np.asarray(trace.is_valid()) & np.asarray(span.is_valid()))
    by_request = np.flatnonzero(np.asarray(request.is_valid()))
    seed = seed_of(f"call:{tenant}")
    found: list[Keys] = []
    if by_span.size:
        found.append(combine(hash128(trace, seed), hash128(span, seed))[by_span])
    if by_request.size:
        found.append(hash128(request, seed ^ 1)[by_request])
    if not found:
        return np.empty((0, 2), np.uint64), np.empty(0, np.int64)
    return np.concatenate(found), np.concatenate([by_span, by_request])


def _count_in_order(keys: Keys, owners: npt.NDArray[np.int64], told: Bits, calls: Seen) -> npt.NDArray[np.int16]:
    """Row by row, for the rare batch in which two rows tell of one call."""
    _, before = calls.find(keys)
    names = [bytes(key) for key in keys.view(np.uint8).reshape(len(keys), 16)]
    known: dict[bytes, int] = {}
    of_row: dict[int, list[bytes]] = {}
    for name, owner, bits in zip(names, owners.tolist(), before.tolist(), strict=True):
        known[name] = known.get(name, 0) | bits
        of_row.setdefault(owner, []).append(name)
    counted = told.astype(np.int16)
    for row in sorted(of_row):
        seen = 0
        for name in of_row[row]:
            seen |= known[name]
        counted[row] = int(told[row]) & ~seen
        for name in of_row[row]:
            known[name] |= seen | int(told[row])
    first = first_of_each(keys)
    bits_now = np.array([known[name] for name, keep in zip(names, first.tolist(), strict=True) if keep], np.uint8)
    calls.exchange(keys[first], bits_now)
    return counted
