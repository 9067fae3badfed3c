"""Roll-ups in memory: minutes of the newest days, hours and days of all, as columns that `tally` adds up.

A tier is loaded from its own Delta table and the minute partials that are not rolled into that yet; from then on it
takes in the minute partials of each commit as they are, and merges them into windows of its own length as they pile
up. So every tier stands for the same version of the minute partials at any moment. What was published never changes:
a question goes on with the state it began with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cluster.lake.changes import Changes, changes, day_start_us
from cluster.lake.scan import Snapshot, read_rows
from cluster.lake.tables import MINUTES, uri
from cluster.tenancy import TenantScope
from models.query.partials import Dictionaries, Partials, block, dictionaries, gathered
from models.query.plan import Plan
from models.query.times import DAY_US, Range
from serving.hot_edges import Edges
from serving.hot_tier import BLOCKS_MAX, Blocks, Tier, merged
from serving.rolled import RolledFiles

# Coarse tiers first: they are small and answer the long ranges. Each may fill memory up to its share of the limit
# when it is loaded, so that there is room to grow.
_LOAD_SHARES: Final = {"rollup_1d": 0.2, "rollup_1h": 0.5, MINUTES: 0.7}
# Of the limit, beside the tiers.
_EDGES_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class HotState:
    """What is in memory, as of one version of the minute partials.

    Attributes:
        files: of that version.
        edges: what was read of days before those of the tiers.
    """

    version: int = -1
    tiers: Mapping[str, Tier] = field(default_factory=dict)
    names: Dictionaries = field(default_factory=dict)
    files: RolledFiles | None = None
    edges: Edges | None = None


class HotRollups:
    """Follows the roll-up tables; one thread updates, many read."""

    def __init__(self, lake: Path, *, memory_bytes: int, blocks_max: int = BLOCKS_MAX) -> None:
        """
        Args:
            lake: folder of the tables.
            memory_bytes: older days are left to the files once the blocks take more; the newest day stays.
            blocks_max: blocks of one tenant's day that stay unmerged, >= 1.
        """
        self._root = Path(uri(lake, MINUTES)).absolute()
        self._memory_bytes = memory_bytes
        self._blocks_max = blocks_max
        self.state = HotState()

    def partials(self, scope: TenantScope, plan: Plan, span: Range) -> Partials | None:
        """The partials that answer a plan over a range; None when memory does not reach back so far."""
        state = self.state
        found = []
        for piece in plan.pieces(span):
            tier = state.tiers.get(piece.tier)
            if tier is None or state.files is None or state.edges is None:
                return None
            if piece.span.from_us < tier.covered_from_us:
                edge = state.edges.blocks(piece, state.files.by_day(piece.tier), [str(one) for one in scope.tenants])
                if edge is None:
                    return None
                found += gathered(edge, piece.span)
                continue
            first, end = piece.span.from_us // DAY_US * DAY_US, piece.span.to_us
            for start_us, of_day in tier.days.items():
                if first <= start_us < end:
                    mine = [(str(tenant), of_day[tenant]) for tenant in scope.tenants if tenant in of_day]
                    found += gathered(mine, piece.span)
        return Partials(state.names, tuple(found), scope.project_id)

    def update(self, snapshots: Mapping[str, Snapshot], files: RolledFiles) -> None:
        """Take in what the minute table gained; questions that begin afterwards see exactly that version.

        Args:
            snapshots: of all roll-up tables, the minutes' no older than what the others have rolled in.
            files: of these snapshots.

        Raises:
            OSError, pyarrow.ArrowException: a file could not be read; memory stays at the version it had.
        """
        state, minutes = self.state, snapshots[MINUTES]
        if minutes.version == state.version:
            return
        gained = changes(self._root, state.version + 1, minutes.version) if state.tiers else None
        if gained is None:
            self.state = self._loaded(minutes.version, files)
        else:
            tiers = self._aged(self._grown(state, gained, minutes), snapshots)
            tiers = self._shrunk(tiers)
            self.state = HotState(minutes.version, tiers, state.names, files, state.edges)

    def _loaded(self, version: int, files: RolledFiles) -> HotState:
        """Everything anew, newest days first until each tier's share of the memory is full."""
        names = dictionaries()
        tiers: dict[str, Tier] = {}
        used = 0
        for name, share in _LOAD_SHARES.items():
            by_day = files.by_day(name)
            days: dict[int, dict[str, Blocks]] = {}
            covered_from_us = 0
            for start_us in sorted(by_day, reverse=True):
                if days and used > self._memory_bytes * share:
                    covered_from_us = start_us + DAY_US
                    break
                days[start_us] = {
                    tenant: (merged(name, [read_rows(path) for path in paths], names),)
                    for tenant, paths in by_day[start_us].items()
                }
                used += sum(one.size_bytes for blocks in days[start_us].values() for one in blocks)
            tiers[name] = Tier(name, covered_from_us, days)
        edges = Edges(names, memory_bytes=int(self._memory_bytes * _EDGES_SHARE))
        return HotState(version, tiers, names, files, edges)

    def _grown(self, state: HotState, gained: Changes, minutes: Snapshot) -> dict[str, Tier]:
        fresh: dict[tuple[str, int], Blocks] = {}
        for (tenant, day), path in gained.appended:
            # One block for all tiers: a partial of a minute is one of its hour and its day as well.
            key = (tenant, day_start_us(day))
            fresh[key] = (*fresh.get(key, ()), block(read_rows(self._root / path), state.names))
        anew = {(tenant, day_start_us(day)) for tenant, day in gained.rewritten}
        for tenant, start_us in anew:
            # The minute files alone are surely right for a day that lost rows.
            active = [one for one in minutes.by_tenant.get(tenant, ()) if day_start_us(one.event_date) == start_us]
            if active:
                tables = [read_rows(one.path) for one in active]
                fresh[(tenant, start_us)] = (merged(MINUTES, tables, state.names),)
        blocks = [(tenant, start_us, several) for (tenant, start_us), several in fresh.items()]
        return {
            name: tier.without(anew).grown(blocks, state.names, blocks_max=self._blocks_max)
            for name, tier in state.tiers.items()
        }

    def _aged(self, tiers: dict[str, Tier], snapshots: Mapping[str, Snapshot]) -> dict[str, Tier]:
        """Without the days that left a tier's table because of their age."""
        kept = dict(tiers)
        for name, tier in tiers.items():
            floors = snapshots[name].floors
            old = {
                (tenant, start_us)
                for start_us, of_day in tier.days.items()
                for tenant in of_day
                if start_us < floors.get(tenant, 0)
            }
            if old:
                # What came late is in the minutes before it is in the others.
                old -= _days_of(snapshots[name]) | _days_of(snapshots[MINUTES])
                kept[name] = tier.without(old)
        return kept

    def _shrunk(self, tiers: dict[str, Tier]) -> dict[str, Tier]:
        """Without the older half of the days of a tier while all take too much: minutes first, days last."""
        for name in reversed(_LOAD_SHARES):
            limit = self._memory_bytes * (1 - _EDGES_SHARE)
            while sum(tier.size_bytes for tier in tiers.values()) > limit and len(tiers[name].days) > 1:
                tiers[name] = tiers[name].newest(len(tiers[name].days) // 2)
        return tiers


def _days_of(snapshot: Snapshot) -> set[tuple[str, int]]:
    return {(tenant, day_start_us(one.event_date)) for tenant, found in snapshot.by_tenant.items() for one in found}
