"""Cells of columns as Python values, also those that Python has no value for: kept as their numbers, never an error."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

# A date beyond the calendar of Python, a zone that nobody knows, two members of one name.
_NO_VALUE: Final = (pa.ArrowException, ValueError, OverflowError)
# Of a cast: a value has no form in the other type, or no value of the type has.
NO_CAST: Final = (pa.ArrowInvalid, pa.ArrowNotImplementedError)
_LISTS: Final = (pa.ListScalar, pa.ListViewScalar)


def column_values(column: pa.Array) -> list[Any]:
    """`cell_value` of every row."""
    try:
        values: list[Any] = column.to_pylist()
    except _NO_VALUE:
        return [cell_value(cell) for cell in column]
    return values


def cell_value(cell: pa.Scalar) -> Any:
    """The value of a cell; where Python has none, the number that was sent: of an instant, a day, a span of time."""
    try:
        return cell.as_py()
    except _NO_VALUE:
        pass
    if isinstance(cell, pa.StructScalar):
        # By place: of two members of one name the last stays, as in JSON.
        return {cell.type.field(place).name: cell_value(cell[place]) for place in range(cell.type.num_fields)}
    if isinstance(cell, pa.MapScalar):
        return [(cell_value(entry[0]), cell_value(entry[1])) for entry in cell.values]
    if isinstance(cell, _LISTS):
        return column_values(cell.values)
    value = getattr(cell, "value", None)
    return cell_value(value) if isinstance(value, pa.Scalar) else value
