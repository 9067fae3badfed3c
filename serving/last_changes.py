"""When each tenant's days last changed: an answer stays right until the days it was read from do."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cluster.lake.changes import changes, day_start_us
from cluster.tenancy import TenantScope
from models.query.times import DAY_US, Range

# Days of tenants that are told apart; beyond, everything counts as changed once more.
_DAYS_MAX: Final = 200_000


class LastChanges:
    """Follows the log of one table; one thread follows, many ask."""

    def __init__(self, root: Path) -> None:
        """
        Args:
            root: folder of the table.
        """
        self._root = root
        self._version = -1
        # Every day counts as changed at this version, unless `_days` says later.
        self._floor = -1
        self._days: dict[tuple[str, int], int] = {}

    def follow(self, version: int) -> None:
        """Note what changed up to a version; call it once questions see that version, never before."""
        if version == self._version:
            return
        found = changes(self._root, self._version + 1, version) if self._version >= 0 else None
        if found is None or len(self._days) > _DAYS_MAX:
            self._floor, self._days = version, {}
        else:
            partitions = {partition for partition, _ in found.appended} | found.rewritten
            self._days = self._days | {(tenant, day_start_us(day)): version for tenant, day in partitions}
        self._version = version

    def version(self, scope: TenantScope, span: Range) -> int:
        """A version since which none of the scope's rows in the range changed; equal as long as none does."""
        first, end = span.from_us // DAY_US * DAY_US, span.to_us
        days = self._days
        if (end - first) // DAY_US < len(days):
            found = (days.get((t, at), -1) for t in scope.tenants for at in range(first, end, DAY_US))
        else:
            found = (told for (t, at), told in days.items() if t in scope.tenants and first <= at < end)
        return max(self._floor, max(found, default=-1))
