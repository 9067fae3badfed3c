"""Python values that a decoder gathered, field by field -> Arrow columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import pyarrow as pa

from cluster.contract.columns import TEXT_FIELDS, TOKEN_FIELDS

_MOST: Final = 2**63 - 1


def sliced(
    fields: Mapping[str, Sequence[Any]], size: int, make: Callable[[Iterable[Any]], pa.Array]
) -> dict[str, pa.Array]:
    """Columns of fields of one type, each a slice of one array: making an array costs more than hundreds of values."""
    if not fields:
        return {}
    joined = make(chain.from_iterable(fields.values()))
    return {name: joined.slice(place * size, size) for place, name in enumerate(fields)}


def texts(values: Iterable[Any]) -> pa.StringArray:
    cells = list(values)
    try:
        return pa.array(cells, pa.string())
    except pa.ArrowTypeError:
        # Epoch numbers: as text each keeps its own size, on which its unit depends.
        return pa.array([None if value is None else str(value) for value in cells], pa.string())


def whole_numbers(values: Iterable[Any]) -> pa.Int64Array:
    """Counts; one beyond 64 bits is the largest or smallest there is, which no field takes."""
    cells = list(values)
    try:
        return pa.array(cells, pa.int64())
    except (OverflowError, pa.ArrowInvalid):
        return pa.array([None if value is None else max(-_MOST - 1, min(value, _MOST)) for value in cells], pa.int64())


def numbers(values: Iterable[Any]) -> pa.DoubleArray:
    return pa.array(list(values), pa.float64())


_MAKERS: Final[tuple[tuple[tuple[str, ...], Callable[[Iterable[Any]], pa.Array]], ...]] = (
    (("event_id", *TEXT_FIELDS, "attributes", "payload", "cost_usd"), texts),
    (TOKEN_FIELDS, whole_numbers),
    (("latency_ms", "ttft_ms"), numbers),
    (("usage_conflict",), lambda values: pa.array(list(values), pa.bool_())),
)


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, pa.Array]:
    """Columns of rows by canonical name, those that some row has; times are the caller's, who knows their form."""
    told: set[str] = set().union(*rows)
    columns: dict[str, pa.Array] = {}
    for names, make in _MAKERS:
        cells = {name: [row.get(name) for row in rows] for name in names if name in told}
        columns |= sliced(cells, len(rows), make)
    return columns
