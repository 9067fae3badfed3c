"""One tier of roll-ups in memory: days of tenants in a few blocks each, merged as they pile up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import pyarrow as pa

from cluster.lake.tables import MINUTES, ROLLUPS
from models.aggregate.rollup import coarsen, merge
from models.query.partials import Block, Dictionaries, block
from models.query.times import DAY_US

# Blocks of one tenant's day; with more, the newest are merged into one, and larger ones when that has grown so far.
BLOCKS_MAX: Final = 12

Blocks = tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Tier:
    """What is in memory of one tier; never changed, only replaced.

    Attributes:
        covered_from_us: every row of that instant or later is in memory.
        days: start of a day -> tenant -> blocks, oldest first.
    """

    name: str
    covered_from_us: int = 0
    days: Mapping[int, Mapping[str, Blocks]] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """Memory its blocks hold; a block that tiers share counts in each."""
        return sum(one.size_bytes for day in self.days.values() for blocks in day.values() for one in blocks)

    def grown(self, fresh: Iterable[tuple[str, int, Blocks]], names: Dictionaries, *, blocks_max: int) -> Tier:
        """With new blocks of (tenant, start of a day); those of days that it does not cover are left out."""
        days = dict(self.days)
        for tenant, start_us, blocks in fresh:
            if start_us >= self.covered_from_us:
                held = days.get(start_us, {})
                settled = self._settled((*held.get(tenant, ()), *blocks), names, blocks_max)
                days[start_us] = {**held, tenant: settled}
        return replace(self, days=days)

    def without(self, gone: Iterable[tuple[str, int]]) -> Tier:
        """Without the days of some tenants."""
        days = dict(self.days)
        for tenant, start_us in gone:
            days[start_us] = {one: blocks for one, blocks in days.get(start_us, {}).items() if one != tenant}
        return replace(self, days=days)

    def newest(self, count: int) -> Tier:
        """Only its newest days."""
        kept = sorted(self.days, reverse=True)[:count]
        if len(kept) == len(self.days):
            return self
        oldest = max(start_us for start_us in self.days if start_us not in kept)
        return Tier(self.name, oldest + DAY_US, {start_us: self.days[start_us] for start_us in kept})

    def _settled(self, blocks: Blocks, names: Dictionaries, most: int) -> Blocks:
        if len(blocks) <= most:
            return blocks
        first, rows = len(blocks) - 1, blocks[-1].row_count
        # A block is merged with the newer ones once they are half as large: each row is merged some ten times a day.
        while first > 0 and (len(blocks) - first < most // 2 or blocks[first - 1].row_count <= 2 * rows):
            first -= 1
            rows += blocks[first].row_count
        return (*blocks[:first], merged(self.name, [one.table for one in blocks[first:]], names))


def merged(name: str, tables: Sequence[pa.Table], names: Dictionaries) -> Block:
    """One block of windows of the tier's length.

    Args:
        tables: partials of windows of that length or shorter, with at least one row together.
    """
    if name == MINUTES:
        return block(tables[0] if len(tables) == 1 else merge(tables), names)
    return block(coarsen(pa.concat_tables(tables, promote_options="permissive"), ROLLUPS[name]), names)
