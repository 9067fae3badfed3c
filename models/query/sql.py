"""SQL as text with its bound values side by side, so that a value can never end up inside the text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of DuckDB SQL.

    Attributes:
        text: written by this program only; what a caller sent stands there as `?`.
        parameters: one value for each `?`, in the order of the text.
    """

    text: str
    parameters: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """Rows of a SELECT as Python values; money is Decimal."""

    names: tuple[str, ...]
    rows: list[tuple[Any, ...]]

    def column(self, name: str) -> list[Any]:
        """Values of one column, in row order."""
        place = self.names.index(name)
        return [row[place] for row in self.rows]

    def keys(self, names: tuple[str, ...]) -> list[tuple[Any, ...]]:
        """The values of some columns of each row, in row order."""
        places = [self.names.index(name) for name in names]
        return [tuple(row[place] for place in places) for row in self.rows]

    def dicts(self) -> list[dict[str, Any]]:
        """Each row by column name."""
        return [dict(zip(self.names, row, strict=True)) for row in self.rows]


# Answers one SELECT; the engine behind it decides threads and deadlines.
Run = Callable[[Fragment], Result]


def bound(*values: Any) -> Fragment:
    """Values for `?` that stand in a template itself, behind its last `{}`."""
    return Fragment("", values)


def joined(parts: Iterable[Fragment], separator: str) -> Fragment:
    """The parts in order with `separator` between their texts."""
    kept = tuple(parts)
    return Fragment(
        separator.join(part.text for part in kept), tuple(value for part in kept for value in part.parameters)
    )


def placed(template: str, *parts: Fragment) -> Fragment:
    """`template` with its `{}` replaced by the parts' texts, in order; their values follow in the same order."""
    return Fragment(
        template.format(*(part.text for part in parts)), tuple(value for part in parts for value in part.parameters)
    )
