"""When each tenant's days last changed: an answer stays right until the days it was read from do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cluster.lake.changes import changes, day_start_us
from cluster.tenancy import TenantScope
from models.query.times import DAY_US, Range

# Days of tenants that are told apart; beyond, everything counts as changed once more.
_DAYS_MAX: Final = 200_000


@dataclass(frozen=True, slots=True)
class ChangedDays:
    """The days of one table, as of one version.

    Attributes:
        version: -1 before the first.
        floor: every day counts as changed at this version, unless `days` says later.
        days: (tenant, start of the day in microseconds) -> version that changed it last.
    """

    version: int = -1
    floor: int = -1
    days: Mapping[tuple[str, int], int] = field(default_factory=dict)

    def last(self, scope: TenantScope, span: Range) -> int:
        """A version since which none of the scope's rows in the range changed; equal as long as none does."""
        first, end = span.from_us // DAY_US * DAY_US, span.to_us
        days = self.days
        if (end - first) // DAY_US < len(days):
            found = (days.get((t, at), -1) for t in scope.tenants for at in range(first, end, DAY_US))
        else:
            found = (told for (t, at), told in days.items() if t in scope.tenants and first <= at < end)
        return max(self.floor, max(found, default=-1))

    def gained(self, version: int) -> ChangedDays:
        """What somebody lacks who knows a version."""
        if version < self.floor:
            return self
        return ChangedDays(self.version, self.floor, {key: at for key, at in self.days.items() if at > version})

    def plus(self, gained: ChangedDays) -> ChangedDays:
        """This with what it lacked; as it is when that is older."""
        if gained.version <= self.version:
            return self
        days = gained.days if gained.floor > self.version else {**self.days, **gained.days}
        return ChangedDays(gained.version, gained.floor, days)


class LastChanges:
    """Follows the log of one table; one thread follows, many ask."""

    def __init__(self, root: Path) -> None:
        """
        Args:
            root: folder of the table.
        """
        self._root = root
        self.state = ChangedDays()

    def follow(self, version: int) -> None:
        """Note what changed up to a version; call it once questions see that version, never before."""
        state = self.state
        if version == state.version:
            return
        found = changes(self._root, state.version + 1, version) if state.version >= 0 else None
        if found is None or len(state.days) > _DAYS_MAX:
            self.state = ChangedDays(version, version)
        else:
            days = {(tenant, day_start_us(day)): version for tenant, day in found.partitions}
            self.state = ChangedDays(version, state.floor, {**state.days, **days})
