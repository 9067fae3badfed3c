"""Columns of scanned spans, filled by compiled code: texts and numbers by plan, ids in hexadecimal, times.

A source says where a plan's spans have the value of one column: (NONE, 0, 0), (CONSTANT, start, stop in the pool or
the number twice), or (place among the span's attributes, 0, 0).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cluster.compiled import compiled, compiled_step
from cluster.contract.byte_runs import Bytes, put
from cluster.contract.sources.otlp_documents import Places, Scanned

NONE: Final = -1
CONSTANT: Final = -2
_HEX: Final = np.frombuffer(b"0123456789abcdef", np.uint8)


class TextColumns(NamedTuple):
    """k columns of m rows in one buffer.

    sources: (plans, k, 3). offsets: (k, m + 1) into data. valid: (k, m), 1 where there is a text.
    """

    sources: npt.NDArray[np.int64]
    pool: Bytes
    offsets: npt.NDArray[np.int32]
    valid: Bytes


class NumberColumns(NamedTuple):
    """sources: (plans, k, 3). values: (k, m), where the source is a double its bits. valid: (k, m)."""

    sources: npt.NDArray[np.int64]
    values: npt.NDArray[np.int64]
    valid: Bytes


class Ids(NamedTuple):
    """Hexadecimal ids of m spans: (m, 48), (m, 32), (m, 16), and the parents' (p, 16) of those that have one."""

    events: Bytes
    traces: Bytes
    spans: Bytes
    parents: Bytes


class Times(NamedTuple):
    """(m,) microseconds; (m,) milliseconds, where `valid`."""

    began_us: npt.NDArray[np.int64]
    latency_ms: npt.NDArray[np.float64]
    valid: Bytes


@compiled
def measure_texts(scanned: Scanned, rows: Places, into: TextColumns) -> int:
    """Fill offsets and `valid`; bytes of all columns together. Beyond 31 bits the offsets are void."""
    total = 0
    for column in range(into.sources.shape[1]):
        into.offsets[column, 0] = total
        for number in range(len(rows)):
            row = rows[number]
            source = into.sources[scanned.plans[row], column]
            if source[0] >= 0:
                told = scanned.attributes[scanned.spans[row].first + source[0]]
                total += told.value_stop - told.value
            else:
                total += source[2] - source[1]
            into.valid[column, number] = source[0] != NONE
            into.offsets[column, number + 1] = total
    return total


@compiled
def fill_texts(scanned: Scanned, rows: Places, into: TextColumns, data: Bytes) -> None:
    """Copy the texts that `measure_texts` found."""
    for column in range(into.sources.shape[1]):
        for number in range(len(rows)):
            row = rows[number]
            source = into.sources[scanned.plans[row], column]
            at = int(into.offsets[column, number])
            if source[0] >= 0:
                told = scanned.attributes[scanned.spans[row].first + source[0]]
                put(data, at, scanned.body, (told.value, told.value_stop))
            else:
                put(data, at, into.pool, (source[1], source[2]))


@compiled
def fill_numbers(scanned: Scanned, rows: Places, into: NumberColumns) -> None:
    for column in range(into.sources.shape[1]):
        for number in range(len(rows)):
            row = rows[number]
            source = into.sources[scanned.plans[row], column]
            into.valid[column, number] = source[0] != NONE
            into.values[column, number] = source[1]
            if source[0] >= 0:
                into.values[column, number] = scanned.attributes[scanned.spans[row].first + source[0]].value


@compiled_step
def _put_hex(out: Bytes, at: int, body: Bytes, piece: tuple[int, int]) -> None:
    start, stop = piece
    for place in range(stop - start):
        byte = body[start + place]
        out[at + 2 * place] = _HEX[byte >> 4]
        out[at + 2 * place + 1] = _HEX[byte & 15]


@compiled
def fill_ids(scanned: Scanned, rows: Places, into: Ids) -> None:
    """Event id = trace id + span id."""
    parents, body = 0, scanned.body
    for number in range(len(rows)):
        span = scanned.spans[rows[number]]
        trace, own = (span.trace_id, span.trace_id + 16), (span.span_id, span.span_id + 8)
        at = number * 48
        _put_hex(into.events, at, body, trace)
        _put_hex(into.events, at + 32, body, own)
        put(into.traces, number * 32, into.events, (at, at + 32))
        put(into.spans, number * 16, into.events, (at + 32, at + 48))
        if span.parent_id >= 0:
            _put_hex(into.parents, parents * 16, body, (span.parent_id, span.parent_id + 8))
            parents += 1


@compiled
def fill_times(spans: npt.NDArray[Any], rows: Places, into: Times) -> None:
    for number in range(len(rows)):
        span = spans[rows[number]]
        into.began_us[number] = np.int64(span.began // np.uint64(1000))
        into.valid[number] = span.ended != 0
        # Of a span that has not ended there is no latency.
        into.latency_ms[number] = np.float64(span.ended - span.began) / 1e6 if span.ended else 0.0
