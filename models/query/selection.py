"""The rows of partials that pass a question's filters, a column at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models.aggregate.quantiles import Buckets, Counts
from models.measures import STATES, Need
from models.query.filters import Filter, passes
from models.query.partials import Codes, Ints, Partials

Mask = npt.NDArray[np.bool_]


class Selection:
    """Rows of all blocks one after the other, those left out that a filter or the project refuses.

    Attributes:
        count: rows that pass.
    """

    def __init__(self, partials: Partials, filters: Sequence[Filter]) -> None:
        self._names = partials.names
        self._blocks = partials.blocks
        self._tenants = sorted({tenant for tenant, _, _ in partials.blocks})
        self._whole = sum(rows.stop - rows.start for _, _, rows in partials.blocks)
        kept = self._kept(filters, partials.project_id)
        self._chosen: Ints | None = None if kept.all() else np.flatnonzero(kept)
        self.count = self._whole if self._chosen is None else int(self._chosen.size)

    def numbers(self, name: str) -> npt.NDArray[Any]:
        """(count,) counts, tokens, milliseconds, or nano-dollars of `cost_usd`; NaN where a row has none."""
        return self._cut([one.numbers(name)[rows] for _, one, rows in self._blocks])

    def windows_us(self) -> Ints:
        """(count,) start of each row's window."""
        return self._cut([one.windows_us[rows] for _, one, rows in self._blocks])

    def codes(self, name: str) -> tuple[Codes, Sequence[str | None]]:
        """(count,) codes of a dimension, and the value of each code."""
        return self._cut(self._coded(name)), self._told(name)

    def histogram(self, need: Need, ids: Ints) -> tuple[Ints, tuple[Buckets, Counts]]:
        """The entries of all rows' histograms: the group of each, its bucket and its count.

        Args:
            ids: (count,) the group of each row.
        """
        names = STATES[need][0]
        owners = np.full(self._whole, -1, dtype=np.int64)
        owners[slice(None) if self._chosen is None else self._chosen] = ids
        lists = [[self._sliced(name, place) for place in range(len(self._blocks))] for name in names]
        lengths = [np.diff(part.offsets.to_numpy()) for part in lists[0]]
        entries = np.repeat(owners, np.concatenate([np.zeros(0, np.int64), *lengths]))
        buckets, counts = (
            np.concatenate([np.zeros(0, kind), *(part.flatten().to_numpy() for part in parts)])
            for parts, kind in zip(lists, (np.int32, np.int64), strict=True)
        )
        if self._chosen is None:
            return entries, (buckets, counts)
        kept = entries >= 0
        return entries[kept], (buckets[kept], counts[kept])

    def sketches(self, name: str) -> list[bytes | None]:
        """(count,) serialised sketches."""
        whole = pa.chunked_array([self._sliced(name, place) for place in range(len(self._blocks))], pa.binary())
        taken = whole if self._chosen is None else whole.take(pa.array(self._chosen))
        found: list[bytes | None] = taken.to_pylist()
        return found

    def _sliced(self, name: str, place: int) -> Any:
        _, one, rows = self._blocks[place]
        return one.column(name).slice(rows.start, rows.stop - rows.start)

    def _coded(self, name: str) -> list[Codes]:
        if name != "tenant_id":
            return [one.codes[name][rows] for _, one, rows in self._blocks]
        return [
            np.full(rows.stop - rows.start, self._tenants.index(tenant) + 1, dtype=np.int32)
            for tenant, _, rows in self._blocks
        ]

    def _told(self, name: str) -> Sequence[str | None]:
        # A copy: the follower adds names while questions read.
        return [None, *self._tenants] if name == "tenant_id" else self._names[name].values[:]

    def _kept(self, filters: Sequence[Filter], project_id: str | None) -> Mask:
        kept = np.ones(self._whole, dtype=np.bool_)
        tests: list[tuple[str, Callable[[str | None], bool]]] = [
            (one.field.name, partial(passes, one)) for one in filters
        ]
        if project_id is not None:
            tests.append(("project_id", lambda value: value == project_id))
        for name, test in tests:
            # Each value is tested once, however many rows have it.
            passing = np.array([test(value) for value in self._told(name)], dtype=np.bool_)
            kept &= passing[np.concatenate([np.zeros(0, np.int32), *self._coded(name)])]
        return kept

    def _cut(self, parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        whole = parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.int64), *parts])
        return whole if self._chosen is None else whole[self._chosen]
