"""Python values that a decoder gathered, field by field -> Arrow columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa


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
    return pa.array(list(values), pa.int64())


def numbers(values: Iterable[Any]) -> pa.DoubleArray:
    return pa.array(list(values), pa.float64())
