"""Times as senders write them -> microseconds UTC: RFC 3339 with any offset, epoch numbers, Arrow times and dates.

A time without a zone is UTC. An epoch number is read by its size: below 1e11 seconds, then milliseconds,
microseconds, nanoseconds; the bands cannot overlap for any year from 1973 to 5138.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.contract.columns import INSTANT

# (below this magnitude, microseconds in one unit)
_EPOCH_BANDS: Final = ((1e11, 1e6), (1e14, 1e3), (1e17, 1.0), (math.inf, 1e-3))
_US_MAX: Final = 1 << 62
_TEXT_MAX: Final = 64

Instants = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def read_instants(column: pa.Array) -> tuple[Instants, Mask]:
    """Microseconds of each row, and which rows have one; the others are 0.

    Args:
        column: strings, integers, floats, timestamps of any unit, or dates.
    """
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _from_text(column)
    if pa.types.is_integer(kind):
        return _from_numbers(column)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _from_numbers(column.cast(pa.float64()))
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _finish(_to_us(column))
    return np.zeros(len(column), np.int64), np.zeros(len(column), np.bool_)


def instants(at_us: Instants) -> pa.Array:
    """Microseconds (n,) as a column; the array is not copied."""
    return pa.Array.from_buffers(INSTANT, len(at_us), [None, pa.py_buffer(at_us)])


def instant_us(value: Any) -> int | None:
    """Microseconds of one value: text, or an epoch number; None where it is no time."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return _epoch_us(value)
    if not isinstance(value, str) or len(value) > _TEXT_MAX:
        return None
    text = value.strip().upper()
    # Before the calendar: eight digits are also a date of ISO 8601, which no sender means here.
    if text.replace(".", "", 1).isdecimal():
        return _epoch_text_us(text)
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            at = at.replace(tzinfo=UTC)
        delta = at - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        return _epoch_text_us(text)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def _epoch_text_us(text: str) -> int | None:
    try:
        return _epoch_us(int(text) if text.isdecimal() else float(text))
    except ValueError:
        return None


def _epoch_us(value: float) -> int | None:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    size = abs(value)
    factor = next(factor for bound, factor in _EPOCH_BANDS if size < bound)
    if isinstance(value, int):
        at_us = value // 1000 if factor < 1 else value * int(factor)
    else:
        at_us = round(value * factor)
    return at_us if abs(at_us) < _US_MAX else None


def _from_text(column: pa.Array) -> tuple[Instants, Mask]:
    # The whole column at once where every row has the common form; nanoseconds are cut to microseconds.
    for unit in ("us", "ns"):
        try:
            parsed = column.cast(pa.timestamp(unit, "UTC"))
        except pa.ArrowInvalid:
            continue
        return _finish(_to_us(parsed))
    values = [instant_us(text) for text in column.to_pylist()]
    return _finish(pa.array(values, pa.int64()))


def _to_us(column: pa.Array) -> pa.Array:
    """Timestamps of any unit, or dates, as int64 microseconds; what does not fit becomes null."""
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    if column.type.unit == "us":
        return column.view(pa.int64())
    if column.type.unit == "ns":
        return column.cast(INSTANT if column.type.tz else pa.timestamp("us"), safe=False).cast(pa.int64())
    factor = 1_000_000 if column.type.unit == "s" else 1_000
    raw = column.cast(pa.int64())
    fits = pc.less(pc.abs(raw), _US_MAX // factor)
    return pc.multiply(pc.if_else(fits, raw, None), factor)


def _from_numbers(column: pa.Array) -> tuple[Instants, Mask]:
    valid = np.asarray(column.is_valid())
    if pa.types.is_integer(column.type):
        column = column.cast(pa.int64(), safe=False)
    values = np.asarray(column.fill_null(0))
    out = np.zeros(len(values), np.int64)
    size = np.abs(values.astype(np.float64))
    valid = valid & np.isfinite(size) & (size < 9e18)
    below = 0.0
    for bound, factor in _EPOCH_BANDS:
        band = valid & (size >= below) & (size < bound)
        below = bound
        if not band.any():
            continue
        some = values[band]
        if some.dtype.kind == "f":
            out[band] = np.rint(some * factor).astype(np.int64)
        else:
            out[band] = some // 1000 if factor < 1 else some * int(factor)
    return out, valid


def _finish(column: pa.Array) -> tuple[Instants, Mask]:
    if column.null_count == 0:
        return np.asarray(column), np.ones(len(column), np.bool_)
    return np.asarray(column.fill_null(0)), np.asarray(column.is_valid())
