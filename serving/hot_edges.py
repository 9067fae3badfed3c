"""Ends of ranges that lie before what memory holds: an hour of minutes, a day of hours, read once and kept while asked.

A week that ends now begins within some hour of a day whose minutes are no longer in memory. Without that hour the
whole question would be read from files; and a page asks from the same hour for sixty minutes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Final

import pyarrow as pa

from cluster.lake.scan import read_span
from cluster.lake.tables import MINUTES
from models.query.partials import Block, Dictionaries, block
from models.query.plan import Piece
from models.query.times import DAY_US, HOUR_US

# What is kept together, by tier. Coarser tiers are in memory as a whole, or nearly.
_UNIT_US: Final = {MINUTES: HOUR_US, "rollup_1h": DAY_US}
# A longer piece is no end of a range; reading it for one question is the files' business.
_UNITS_MAX: Final = 3

# Tier, tenant, start of the unit, files of that day: other files, other rows.
_Key = tuple[str, str, int, tuple[str, ...]]


class Edges:
    """Units of tiers as blocks, the latest asked for; asked by many threads."""

    def __init__(self, names: Dictionaries, *, memory_bytes: int) -> None:
        """
        Args:
            names: what the codes of blocks stand for; takes the names that are new.
        """
        self._names = names
        self._memory_bytes = memory_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, Block | None] = OrderedDict()
        self._reading: dict[_Key, Future[Block | None]] = {}
        self._used_bytes = 0

    def blocks(
        self, piece: Piece, days: Mapping[int, Mapping[str, Sequence[str]]], tenants: Sequence[str]
    ) -> list[tuple[str, tuple[Block, ...]]] | None:
        """Tenants with the blocks that hold all rows of a piece and maybe more; None where they are not for here.

        Args:
            days: files of the piece's tier by day and tenant.
        """
        units = _units(piece)
        if units is None:
            return None
        found = []
        try:
            for tenant in tenants:
                mine = [self._block(piece.tier, tenant, start_us, days) for start_us in units]
                found.append((tenant, tuple(one for one in mine if one is not None)))
        except (OSError, pa.ArrowException):
            # Compacted away meanwhile: whoever plans anew finds the files of now.
            return None
        return found

    def _block(
        self, tier: str, tenant: str, start_us: int, days: Mapping[int, Mapping[str, Sequence[str]]]
    ) -> Block | None:
        paths = tuple(days.get(start_us // DAY_US * DAY_US, {}).get(tenant, ()))
        key = (tier, tenant, start_us, paths)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            reading = self._reading.get(key)
            mine = reading is None
            if reading is None:
                reading = self._reading[key] = Future()
        # Those who miss the same unit at one time wait for one reader: a board asks seven questions of one range.
        if mine:
            self._read(key, reading)
        return reading.result()

    def _read(self, key: _Key, reading: Future[Block | None]) -> None:
        tier, _, start_us, paths = key
        try:
            tables = [read_span(path, start_us, start_us + _UNIT_US[tier]) for path in paths]
            rows = [table for table in tables if table.num_rows]
            made = block(pa.concat_tables(rows, promote_options="permissive"), self._names) if rows else None
        # Whatever it is, everybody who waits is told.
        except BaseException as error:
            with self._lock:
                del self._reading[key]
            reading.set_exception(error)
            return
        with self._lock:
            del self._reading[key]
            self._kept[key] = made
            self._used_bytes += _size(made)
            while self._used_bytes > self._memory_bytes and len(self._kept) > 1:
                _, oldest = self._kept.popitem(last=False)
                self._used_bytes -= _size(oldest)
        reading.set_result(made)


def _units(piece: Piece) -> range | None:
    unit_us = _UNIT_US.get(piece.tier)
    if unit_us is None:
        return None
    units = range(piece.span.from_us // unit_us * unit_us, piece.span.to_us, unit_us)
    return units if len(units) <= _UNITS_MAX else None


def _size(one: Block | None) -> int:
    # A unit without rows is worth remembering as well, and takes its key.
    return 500 + (one.size_bytes if one is not None else 0)
