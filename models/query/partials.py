"""Partials in memory as columns: blocks sorted by window, names of dimensions as codes; what `tally` adds up."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.contract.columns import INSTANT, ROLLUP_DIMENSIONS
from models.aggregate.groups import nano_usd
from models.aggregate.rollup import STATE_COLUMNS
from models.query.times import Range

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.int64] | npt.NDArray[np.float64]

COLUMNS: Final = ("window_start", *ROLLUP_DIMENSIONS, *STATE_COLUMNS)
# Code of a null.
NONE: Final = 0


class Names:
    """The values of one dimension and their codes, from 1."""

    def __init__(self) -> None:
        self.values: list[str | None] = [None]
        self._codes: dict[str, int] = {}
        self._adding = threading.Lock()

    def codes(self, column: pa.Array) -> Codes:
        """(n,) code of each value; values not met before get the next ones."""
        encoded = pc.dictionary_encode(column)
        known = np.empty(len(encoded.dictionary) + 1, dtype=np.int32)
        known[-1] = NONE
        for place, value in enumerate(encoded.dictionary.to_pylist()):
            code = self._codes.get(value)
            known[place] = self._added(value) if code is None else code
        # The last place stands for null: -1 reaches it.
        found: Codes = known[encoded.indices.fill_null(-1).to_numpy()]
        return found

    def _added(self, value: str) -> int:
        with self._adding:
            if value not in self._codes:
                self.values.append(value)
                self._codes[value] = len(self.values) - 1
            return self._codes[value]


Dictionaries = Mapping[str, Names]


def dictionaries() -> dict[str, Names]:
    """No names yet, for each dimension."""
    return {name: Names() for name in ROLLUP_DIMENSIONS}


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Partials of one tenant, sorted by window.

    Attributes:
        table: (n,) rows of `COLUMNS`, each column one chunk.
        windows_us: (n,) start of each window.
        codes: dimension -> (n,) codes in the dictionaries it was made with.
        row_count: n.
        size_bytes: memory it holds.
    """

    table: pa.Table
    windows_us: Ints
    codes: dict[str, Codes]
    row_count: int
    size_bytes: int
    # Views of columns, made when first asked for.
    _numbers: dict[str, Numbers] = field(default_factory=dict)

    def column(self, name: str) -> pa.Array:
        """One column of the table as one array."""
        return self.table.column(name).chunk(0)

    def numbers(self, name: str) -> Numbers:
        """(n,) a column of counts, tokens or milliseconds, or `cost_usd` in nano-dollars; NaN is null."""
        found = self._numbers.get(name)
        if found is None:
            column = self.column(name)
            found = nano_usd(column) if name == "cost_usd" else column.to_numpy(zero_copy_only=False)
            self._numbers[name] = found
        return found

    def rows(self, span: Range) -> slice:
        """The rows whose window begins in the range."""
        first, end = np.searchsorted(self.windows_us, (span.from_us, span.to_us)).tolist()
        return slice(first, end)


def block(table: pa.Table, names: Dictionaries) -> Block:
    """A block of the rows of a table.

    Args:
        table: at least one row, with all of `COLUMNS`.
        names: takes the names that are new.
    """
    rows = table.select(COLUMNS)
    windows_us = _windows_us(rows)
    if np.any(windows_us[1:] < windows_us[:-1]):
        rows = rows.take(pa.array(np.argsort(windows_us, kind="stable")))
    rows = rows.combine_chunks()
    codes = {name: known.codes(rows.column(name).chunk(0)) for name, known in names.items()}
    windows_us = _windows_us(rows)
    size_bytes = rows.nbytes + windows_us.nbytes + sum(found.nbytes for found in codes.values())
    return Block(rows, windows_us, codes, rows.num_rows, size_bytes)


@dataclass(frozen=True, slots=True)
class Partials:
    """The rows that answer a question: blocks with the rows of each that lie in its range and may be seen.

    Attributes:
        blocks: (tenant, block, rows); no row twice, together all partials of the range.
        project_id: only rows of this project may be seen; None for all.
    """

    names: Dictionaries
    blocks: tuple[tuple[str, Block, slice], ...]
    project_id: str | None = None


def gathered(blocks: Iterable[tuple[str, Sequence[Block]]], span: Range) -> list[tuple[str, Block, slice]]:
    """The rows of tenants' blocks whose window begins in the range."""
    found = ((tenant, one, one.rows(span)) for tenant, several in blocks for one in several)
    return [(tenant, one, rows) for tenant, one, rows in found if rows.stop > rows.start]


def _windows_us(table: pa.Table) -> Ints:
    found: Ints = table.column("window_start").cast(INSTANT).cast(pa.int64()).to_numpy()
    return found
