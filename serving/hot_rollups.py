"""Roll-ups in memory: minutes of the newest days, hours and days of all, each tier one in-memory table.

A tier is loaded from its own Delta table and the minute partials that are not rolled into that yet; from then on it
takes in the minute partials of each commit as they are, and makes windows of its own length of them when they pile up.
So every tier stands for the same version of the minute partials at any moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import duckdb

from cluster.lake.changes import Changes, changes, day_start_us
from cluster.lake.scan import Snapshot
from cluster.lake.tables import MINUTES, uri
from cluster.tenancy import TenantScope
from models.query.plan import Piece
from models.query.sql import Fragment, joined
from models.query.times import DAY_US
from serving.hot_table import HotTable
from serving.relations import owned
from serving.rolled import RolledFile, active_files, rolled_files

# Coarse tiers first: they are small and answer the long ranges. Each may fill memory up to its share of the limit
# when it is loaded, so that there is room to grow.
_LOAD_SHARES: Final = {"rollup_1d": 0.2, "rollup_1h": 0.5, MINUTES: 0.7}
_DAYS_MAX: Final = 400


@dataclass(frozen=True, slots=True)
class Tier:
    """What is in memory of one tier.

    Attributes:
        covered_from_us: every row of that instant or later is in memory.
        days: starts of the days that hold rows, newest first.
    """

    covered_from_us: int = 0
    days: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class HotState:
    """What is in memory, as of one version of the minute partials."""

    version: int = -1
    tiers: Mapping[str, Tier] = field(default_factory=dict)


class HotRollups:
    """Follows the roll-up tables in a DuckDB connection of its own; one thread updates, many read."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, lake: Path, *, memory_bytes: int, merge_rows: int | None = None
    ) -> None:
        """
        Args:
            lake: folder of the tables.
            memory_bytes: older days are left to the files once in-memory tables take more.
            merge_rows: new partials of a day that are merged at once; None for each tier's own.
        """
        self._cursor = connection.cursor()
        self._root = Path(uri(lake, MINUTES)).absolute()
        self._memory_bytes = memory_bytes
        self._tables = {name: HotTable(self._cursor, name, merge_rows=merge_rows) for name in _LOAD_SHARES}
        self._days_most = dict.fromkeys(_LOAD_SHARES, _DAYS_MAX)
        # Set until the first load, and after one that failed.
        self._torn = True
        self.state = HotState()

    def covers(self, name: str, from_us: int) -> bool:
        """Whether a tier holds all rows from that instant on."""
        tier = self.state.tiers.get(name)
        return tier is not None and from_us >= tier.covered_from_us

    def rows(self, scope: TenantScope, pieces: Sequence[Piece], columns: Iterable[str]) -> Fragment:
        """SELECT of the scope's partials in the pieces, which `covers` has said are here.

        Args:
            columns: of the roll-ups; those of the scope are added. Planning forty unread ones takes 1 ms.
        """
        listed = ", ".join(sorted({"tenant_id", "project_id", *columns}))
        arms = [
            self._tables[name].rows(listed, [piece.span for piece in pieces if piece.tier == name])
            for name in _LOAD_SHARES
            if any(piece.tier == name for piece in pieces)
        ]
        return owned(scope, joined(arms, " UNION ALL "))

    def update(self, snapshots: Mapping[str, Snapshot]) -> None:
        """Take in what the minute table gained; afterwards questions see exactly that version.

        Args:
            snapshots: of all roll-up tables, the minutes' no older than what the others have rolled in.

        Raises:
            duckdb.Error: a file could not be read; memory stays at the version it had.
        """
        while snapshots[MINUTES].version != self.state.version:
            try:
                self._cursor.begin()
                try:
                    state = self._moved(snapshots)
                    self._narrow(state)
                    self._cursor.commit()
                except BaseException:
                    self._cursor.rollback()
                    # The tables are as before, what they count of themselves is not.
                    self._torn = True
                    raise
                self.state, self._torn = state, False
            except duckdb.OutOfMemoryException:
                if not self._gave_way():
                    raise

    def _moved(self, snapshots: Mapping[str, Snapshot]) -> HotState:
        known, version = self.state, snapshots[MINUTES].version
        gained = None if self._torn else changes(self._root, known.version + 1, version)
        if gained is None:
            return HotState(version, {name: self._loaded(name, snapshots) for name in _LOAD_SHARES})
        return HotState(
            version, {name: self._grown(name, tier, gained, snapshots) for name, tier in known.tiers.items()}
        )

    def _narrow(self, state: HotState) -> None:
        """Promise no more than both states hold, before the new one is there: questions may begin in between."""
        promised = {
            name: replace(tier, covered_from_us=max(tier.covered_from_us, state.tiers[name].covered_from_us))
            for name, tier in self.state.tiers.items()
        }
        self.state = HotState(self.state.version, promised)

    def _loaded(self, name: str, snapshots: Mapping[str, Snapshot]) -> Tier:
        """The tier anew, newest days first until its share of the memory is full."""
        table = self._tables[name]
        table.clear()
        files = _by_day(rolled_files(name, snapshots, self._root))
        kept: list[int] = []
        for start_us in sorted(files, reverse=True):
            full = kept and self._memory_used() > self._memory_bytes * _LOAD_SHARES[name]
            if full or len(kept) >= self._days_most[name]:
                return Tier(start_us + DAY_US, tuple(kept))
            table.load(start_us, files[start_us])
            kept.append(start_us)
        return Tier(0, tuple(kept))

    def _grown(self, name: str, tier: Tier, gained: Changes, snapshots: Mapping[str, Snapshot]) -> Tier:
        table, days = self._tables[name], set(tier.days)
        appended: dict[int, list[str]] = {}
        for (_, event_date), path in gained.appended:
            appended.setdefault(day_start_us(event_date), []).append(str(self._root / path))
        rewritten = {day_start_us(event_date) for _, event_date in gained.rewritten}
        for start_us in rewritten:
            # The minute files alone are surely right for a day that lost rows.
            table.drop(start_us)
            active = _by_day(active_files(snapshots[MINUTES])).get(start_us, [])
            if start_us >= tier.covered_from_us and active:
                table.load(start_us, active)
                days.add(start_us)
        for start_us, paths in appended.items():
            if start_us >= tier.covered_from_us and start_us not in rewritten:
                table.load(start_us, paths)
                days.add(start_us)
        table.sweep()
        grown = replace(tier, days=tuple(sorted(days, reverse=True)))
        return self._shrunk(name, grown) if self._memory_used() > self._memory_bytes else grown

    def _shrunk(self, name: str, tier: Tier) -> Tier:
        """Without its older half of days; coarser tiers give way only when minutes have no more to give."""
        if len(tier.days) < 2 or (name != MINUTES and len(self.state.tiers[MINUTES].days) > 1):
            return tier
        kept = tier.days[: len(tier.days) // 2]
        for start_us in tier.days[len(kept) :]:
            self._tables[name].drop(start_us)
        return Tier(tier.days[len(kept)] + DAY_US, kept)

    def _gave_way(self) -> bool:
        """Load fewer days next time, minutes first; False when nothing is left to give.

        Questions hold the memory, or a day is larger than the limit: the files answer for the older days.
        """
        for name in reversed(_LOAD_SHARES):
            if self._days_most[name] > 0:
                held = len(self.state.tiers[name].days) if self.state.tiers else _DAYS_MAX
                self._days_most[name] = min(self._days_most[name], max(1, held)) // 2
                return True
        return False

    def _memory_used(self) -> int:
        told = self._cursor.execute("SELECT sum(memory_usage_bytes) FROM duckdb_memory()").fetchall()
        return int(told[0][0] or 0)


def _by_day(files: Iterable[RolledFile]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for one in files:
        found.setdefault(one.start_us, []).append(one.path)
    return found
