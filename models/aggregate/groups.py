"""Rows of equal keys, and sums, extremes, histograms and sketches for each group: vectorised, integers exact.

The hot path of ingestion, so no Python loop runs over rows except where an id reaches a sketch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.contract.columns import MONEY
from cluster.contract.words import codes_of, is_encoded
from models.aggregate import distinct
from models.aggregate.quantiles import Buckets, Counts, Floats

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_CODE_MAX: Final = 2**62
# A table of all possible values is filled faster than values are sorted, up to so many entries for each value.
_DENSE_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class Groups:
    """Which group each of n > 0 rows belongs to.

    Attributes:
        ids: (n,) int64, dense: 0 to count - 1.
        order: (n,) rows sorted by group, stable.
        starts: (count,) where each group begins in `order`.
    """

    ids: Ints
    order: npt.NDArray[np.intp]
    starts: npt.NDArray[np.intp]

    @property
    def count(self) -> int:
        return self.starts.size

    @property
    def firsts(self) -> pa.Array:
        """(count,) the first row of each group."""
        return pa.array(self.order[self.starts])

    def total(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(count,) sums in the type of `values`; booleans are counted as int64."""
        if values.dtype == np.bool_:
            return np.bincount(self.ids[values], minlength=self.count).astype(np.int64, copy=False)
        sums: npt.NDArray[Any] = np.add.reduceat(values[self.order], self.starts)
        return sums

    def smallest(self, values: Floats) -> Floats:
        return np.minimum.reduceat(values[self.order], self.starts)

    def largest(self, values: Floats) -> Floats:
        return np.maximum.reduceat(values[self.order], self.starts)


def group(columns: Sequence[pa.Array]) -> Groups:
    """Groups of rows equal in all `columns` (null equals null), numbered by first appearance in code order.

    Args:
        columns: arrays of one length n > 0, of any type Arrow can dictionary-encode; dictionaries of distinct words.
    """
    ids: Ints = np.zeros(len(columns[0]), dtype=np.int64)
    size = 1
    for column in columns:
        if is_encoded(column):
            codes, distinct_count = codes_of(column)
        else:
            encoded = pc.dictionary_encode(column, null_encoding="encode")
            codes, distinct_count = encoded.indices.to_numpy(), len(encoded.dictionary)
        if distinct_count == 1:
            continue
        if size * distinct_count > _CODE_MAX:
            ids, size = _dense(ids)
        ids = ids * distinct_count + codes
        size *= distinct_count
    ids, size = _dense(ids)
    return _ordered(ids, size)


def split_overflowing(groups: Groups, values: Ints, limit: int) -> Groups:
    """Groups whose sums of `values` all stay within `limit`; a group that would not is cut in as many as it takes.

    A stored sum has a width; a sender of absurd amounts must get more partial rows, never a wrapped number or a seal
    that cannot be written.

    Args:
        values: (n,) int64, >= 0, each within `limit`.
    """
    # Rounding of the float sum is far below the one per cent kept clear of the limit.
    full = np.flatnonzero(groups.total(values.astype(np.float64)) > 0.99 * limit)
    if full.size == 0:
        return groups
    ids, size = groups.ids.copy(), groups.count
    ends = np.append(groups.starts[1:], ids.size)
    for overflowing in full:
        running, current = 0, int(overflowing)
        for row in groups.order[groups.starts[overflowing] : ends[overflowing]]:
            running += int(values[row])
            if running > limit:
                running, current, size = int(values[row]), size, size + 1
            ids[row] = current
    return _ordered(ids, size)


def histograms(groups: Ints, count: int, buckets: Buckets, counts: Counts | None = None) -> tuple[pa.Array, pa.Array]:
    """List columns (bucket int32, count int64) of `count` groups, buckets rising; null where a group has none.

    Args:
        groups: (m,) the group of each value.
        buckets: (m,) its bucket.
        counts: (m,) how often; None means once each.
    """
    if groups.size == 0:
        return pa.nulls(count, pa.list_(pa.int32())), pa.nulls(count, pa.list_(pa.int64()))
    low = int(buckets.min())
    span = int(buckets.max()) - low + 1
    cells = groups * span + (buckets.astype(np.int64) - low)
    if counts is None:
        keys, sums = _counted(cells, count * span)
    else:
        order = np.argsort(cells, kind="stable")
        ordered = cells[order]
        starts = np.flatnonzero(_edges(ordered))
        keys, sums = ordered[starts], np.add.reduceat(counts[order], starts)
    lengths = np.bincount(keys // span, minlength=count)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    empty = pa.array(lengths == 0)
    return (
        pa.ListArray.from_arrays(offsets, pa.array((keys % span + low).astype(np.int32)), mask=empty),
        pa.ListArray.from_arrays(offsets, pa.array(sums.astype(np.int64, copy=False)), mask=empty),
    )


def sketches_of(groups: Groups, names: pa.Array) -> pa.Array:
    """(count,) binary distinct sketches of the strings in each group; null where no row has one."""
    if names.null_count == len(names):
        return pa.nulls(groups.count, pa.binary())
    encoded = names.dictionary_encode()
    told = encoded.dictionary.to_pylist()
    present = np.asarray(names.is_valid())
    codes = encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)
    pairs = _distinct(groups.ids[present] * len(told) + codes[present], groups.count * len(told))
    owners, members = pairs // len(told), (pairs % len(told)).tolist()
    edges = np.searchsorted(owners, np.arange(groups.count + 1)).tolist()
    sketches = [
        distinct.sketch_of([told[code] for code in members[start:end]]) if end > start else None
        for start, end in pairwise(edges)
    ]
    return pa.array(sketches, pa.binary())


def sketches_merged(groups: Groups, sketches: pa.Array) -> pa.Array:
    """(count,) union of the sketches of each group; null where all of them are."""
    if sketches.null_count == len(sketches):
        return pa.nulls(groups.count, pa.binary())
    kept: list[list[bytes]] = [[] for _ in range(groups.count)]
    for owner, sketch in zip(groups.ids.tolist(), sketches.to_pylist(), strict=True):
        if sketch is not None:
            kept[owner].append(sketch)
    return pa.array([distinct.merge(parts) if parts else None for parts in kept], pa.binary())


def nano_usd(column: pa.Array) -> Ints:
    """(n,) int64 nano-dollars of a decimal(18,9) column; null is 0."""
    # 128 bits wide, but eighteen digits fit the low 64; nulls hold anything.
    low = np.frombuffer(column.buffers()[1], dtype=np.int64).reshape(-1, 2)[:, 0]
    nano = low[column.offset : column.offset + len(column)]
    return nano if column.null_count == 0 else np.where(np.asarray(column.is_valid()), nano, 0)


def money_of(nano: Ints) -> pa.Array:
    """decimal(18,9) column of (n,) int64 nano-dollars below 10^18."""
    wide = np.ascontiguousarray(np.stack((nano, nano >> 63), axis=1))
    return pa.Array.from_buffers(MONEY, nano.size, [None, pa.py_buffer(wide)])


def _counted(cells: Ints, size: int) -> tuple[Ints, Ints]:
    """Distinct values of [0, size), rising, and how often each is there."""
    if size > _DENSE_MAX * cells.size:
        return np.unique(cells, return_counts=True)
    counts = np.bincount(cells, minlength=size)
    keys = np.flatnonzero(counts)
    return keys, counts[keys]


def _distinct(cells: Ints, size: int) -> Ints:
    """Distinct values of [0, size), rising."""
    if size > _DENSE_MAX * cells.size:
        # Sorted and compared by neighbour: np.unique without counts hashes, ten times slower on values mostly distinct.
        ordered = np.sort(cells)
        return ordered[_edges(ordered)]
    found = np.zeros(size, np.bool_)
    found[cells] = True
    return np.flatnonzero(found)


def _edges(ordered: Ints) -> Mask:
    """Where a sorted array takes a new value."""
    edges = np.ones(ordered.size, dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=edges[1:])
    return edges


def _dense(ids: Ints) -> tuple[Ints, int]:
    encoded = pa.array(ids).dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), len(encoded.dictionary)


def _ordered(ids: Ints, size: int) -> Groups:
    # numpy sorts 16-bit integers by radix, several times faster than 64-bit ones.
    narrow = ids.astype(np.uint16) if size <= 2**16 else ids
    order = np.argsort(narrow, kind="stable")
    lengths = np.bincount(ids, minlength=size)
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    return Groups(ids, order, starts)
