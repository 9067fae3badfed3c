"""Count each model call once, whoever tells of it: the gateway, a span, or both, in any order and in parts.

A call is known by (trace, span) and by request id. The first teller of a part (tokens, cost, latency, ...) carries
that part's bit in `counted`; a later teller adds only what nobody said before. A row that has both names ties them
together: each then knows what was told of the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from actors.seen import Bits, Keys, Rows, Seen
from cluster.compiled import compiled
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
from cluster.contract.words import codes_of, is_encoded
from cluster.hashing import Texts, combine, hash128, seed_of, texts_of, validity_of
from cluster.tenancy import TenantId

Numbers = npt.NDArray[np.int8]

_PARTS: Final = (
    (COUNTED_COST, ("cost_usd",)),
    (COUNTED_TOKENS, ("input_tokens", "output_tokens")),
    (COUNTED_LATENCY, ("latency_ms",)),
    (COUNTED_TTFT, ("ttft_ms",)),
    (COUNTED_CACHE, ("cache_status",)),
)
# All texts that rows are searched for, in one column: two kinds, the operations, the statuses.
_WORDS: Final = texts_of(
    pa.array(["gateway.request", "observatory.span", *INFERENCE_OPERATIONS, *ERROR_STATUSES], pa.string())
)
_NONE: Final = -1
_GATEWAY: Final = 0
_SPAN: Final = 1
_OPERATIONS: Final = 2
_STATUSES: Final = _OPERATIONS + len(INFERENCE_OPERATIONS)
_ONE: Final = np.uint64(1)
_NO_KEYS: Final[Keys] = np.empty((0, 2), np.uint64)
_NO_ROWS: Final = np.empty(0, np.bool_)


class _Names(NamedTuple):
    """Keys of rows by span and by request, (n, 2) each, and which rows have one, (n,); all empty where none has."""

    by_span: Keys
    has_span: npt.NDArray[np.bool_]
    by_request: Keys
    has_request: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Told:
    """What rows told of model calls.

    Attributes:
        counted: (n,) int16, bits of contract.event.COUNTED_*; 0 for rows that are not model calls.
        keys, bits: (m, 2) and (m,): each key a row knows its call by, and all that is told of that call by now.
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
    keys, owners = _keys_of(batch, tenant, parts != 0)
    told = calls.tell(keys, owners, parts) if owners.size else parts
    return Told(told.astype(np.int16), keys, calls.find(keys)[1])


def recall(batch: pa.RecordBatch, tenant: TenantId, calls: Seen) -> Told:
    """What rows told that were counted before: `calls` learns it, and which names are of one call.

    Args:
        batch: (n,) rows of EVENT_SCHEMA with kind, operation, the names of calls, and `counted`.
    """
    counted = np.asarray(batch.column("counted"))
    keys, owners = _keys_of(batch, tenant, _parts(batch) != 0)
    if owners.size:
        calls.tell(keys, owners, counted.astype(np.uint8))
    return Told(counted, keys, calls.find(keys)[1])


def _keys_of(batch: pa.RecordBatch, tenant: TenantId, wanted: npt.NDArray[np.bool_]) -> tuple[Keys, Rows]:
    """Keys that calls are known by, and the row each belongs to: up to two for a row, none where nothing names it.

    Args:
        wanted: (n,) rows that are model calls.

    Returns:
        (m, 2) uint64 and (m,) int64 row numbers, ascending.
    """
    size = batch.num_rows
    trace, span, request = (batch.column(name) for name in ("trace_id", "span_id", "request_id"))
    keys, owners = np.empty((2 * size, 2), np.uint64), np.empty(2 * size, np.int64)
    seed = seed_of(f"call:{tenant}")
    by_span = by_request = _NO_KEYS
    has_span = has_request = _NO_ROWS
    if trace.null_count < size and span.null_count < size:
        by_span, has_span = combine(hash128(trace, seed), hash128(span, seed)), wanted & _has(trace) & _has(span)
    if request.null_count < size:
        by_request, has_request = hash128(request, seed ^ 1), wanted & _has(request)
    count = _gather(_Names(by_span, has_span, by_request, has_request), keys, owners)
    # A copy: the keys are kept until their rows are committed.
    return keys[:count].copy(), owners[:count]


def _parts(batch: pa.RecordBatch) -> Bits:
    """Bits each row could tell, were it the first; 0 where the row is not a model call."""
    size = batch.num_rows
    if not size:
        return np.empty(0, np.uint8)
    always, some = COUNTED_REQUEST, []
    for bit, names in _PARTS:
        columns = [batch.column(name) for name in names]
        if any(column.null_count == 0 for column in columns):
            always |= bit
        else:
            some += [(bit, column) for column in columns if column.null_count < size]
    parts = np.full(size, always, np.uint8)
    for bit, column in some:
        parts |= _has(column) * np.uint8(bit)
    parts |= (_words(batch, "status") >= _STATUSES) * np.uint8(COUNTED_ERROR)
    kind = _words(batch, "kind")
    calls, spans = kind == _GATEWAY, kind == _SPAN
    if spans.any():
        operation = _words(batch, "operation")
        calls |= spans & (operation >= _OPERATIONS) & (operation < _STATUSES)
    parts *= calls
    return parts


def _words(batch: pa.RecordBatch, name: str) -> Numbers:
    """Which of _WORDS stands in each row of a text column, (n,) int8; _NONE where none does."""
    column = batch.column(name)
    if not is_encoded(column):
        words = np.empty(batch.num_rows, np.int8)
        _find_words(texts_of(column), _WORDS, words)
        return words
    # One more, behind the words, for null.
    known = np.full(len(column.dictionary) + 1, _NONE, np.int8)
    _find_words(texts_of(column.dictionary), _WORDS, known[:-1])
    return known[codes_of(column)[0]]


def _has(column: pa.Array) -> npt.NDArray[np.bool_]:
    """Which rows have a value, (n,)."""
    if not column.null_count:
        return np.ones(len(column), np.bool_)
    bits = np.unpackbits(validity_of(column), bitorder="little")
    return bits[column.offset : column.offset + len(column)].view(np.bool_)


@compiled
def _gather(names: _Names, keys: Keys, owners: Rows) -> int:
    """The keys of rows that have them, row by row; how many."""
    by_span, has_span, by_request, has_request = names
    count = 0
    for row in range(owners.size // 2):
        if row < has_span.size and has_span[row]:
            keys[count, 0], keys[count, 1], owners[count] = by_span[row, 0], by_span[row, 1], row
            count += 1
        if row < has_request.size and has_request[row]:
            keys[count, 0], keys[count, 1], owners[count] = by_request[row, 0], by_request[row, 1], row
            count += 1
    return count


@compiled
def _find_words(texts: Texts, words: Texts, out: Numbers) -> None:
    """Which of the words stands in each row, into `out`, (n,); _NONE where none does."""
    offsets, data, valid, first = texts
    places, letters, _, _ = words
    for row in range(out.size):
        out[row] = _NONE
        bit = first + row
        if valid.size and not (valid[bit >> 3] >> (bit & 7)) & 1:
            continue
        start, end = np.uint64(offsets[row]), np.uint64(offsets[row + 1])
        if end > np.uint64(data.size):
            continue
        for word in range(places.size - 1):
            at, other = start, np.uint64(places[word])
            if np.uint64(places[word + 1]) - other != end - start:
                continue
            while at < end and data[at] == letters[other]:
                at += _ONE
                other += _ONE
            if at == end:
                out[row] = word
                break
