"""Take old days out of the tables, between commits: events and minutes first, then hours, then days.

A day leaves a table once it is older than the tenant keeps it there and nothing has come for it for as long: what was
imported late stays its full time. Whole partitions go, in one commit that also marks how far each tenant's rows reach
back and how many have gone (cluster/lake/expired.py), so a repeat finds nothing left to do. Minutes go only when hours
and days have taken them in. Vacuum frees the disk later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from actors.rollover import Rollover, partition_of
from cluster.clock import Clock
from cluster.lake.changes import Partition, day_start_us
from cluster.lake.commit import TableWriter
from cluster.lake.expired import EXPIRED, Expired, keep
from cluster.lake.tables import ANSWERS, MINUTES, TABLES
from cluster.retention import Retention, kept_days

log = structlog.get_logger("expiry")

# Days leave once a day; more often only so that a hub that was down, or a new retention, does not wait for long.
LOOK_EVERY_S: Final = 600.0
# Files of one commit; what is left goes with the next.
_FILES_MAX: Final = 2_000
_DAY_US: Final = 86_400_000_000

# What each tenant keeps; tenants that are not there keep what the hub keeps.
Retentions = Callable[[], Mapping[str, Retention]]


@dataclass(frozen=True, slots=True)
class Old:
    """Files of one table whose time is over, as its log lists them."""

    table: str
    files: tuple[dict[str, object], ...]


class Expiry:
    """Finds what is too old, at most every `LOOK_EVERY_S`; the caller holds the table handles."""

    def __init__(
        self,
        writers: Mapping[str, TableWriter],
        rollover: Rollover,
        retentions: Retentions,
        *,
        default: Retention,
        clock: Clock,
        answer_days: int,
    ) -> None:
        """
        Args:
            default: what tenants keep that `retentions` does not name.
            answer_days: how long the answers of jobs stay, of any tenant.
        """
        self._writers = writers
        self._rollover = rollover
        self._retentions = retentions
        self._default = default
        self._answer_days = answer_days
        self._clock = clock
        self._looked_s = float("-inf")

    def is_due(self) -> bool:
        """Whether it is time to look."""
        return self._clock.monotonic_s() - self._looked_s >= LOOK_EVERY_S

    def retentions(self) -> Mapping[str, Retention]:
        """What tenants keep; it may wait for the metadata store, so no handle is needed."""
        return self._retentions()

    def expire(self, retentions: Mapping[str, Retention]) -> int:
        """Remove what is too old from every table; files removed."""
        self._looked_s = self._clock.monotonic_s()
        count = 0
        for name in TABLES:
            while (old := self._old(name, retentions)) is not None:
                self._commit(old)
                count += len(old.files)
        return count

    def _old(self, name: str, retentions: Mapping[str, Retention]) -> Old | None:
        today = self._clock.now_us() // _DAY_US
        groups: dict[Partition, list[dict[str, object]]] = {}
        for file in self._writers[name].active_files():
            groups.setdefault(partition_of(file), []).append(file)
        over = {
            partition: files
            for partition, files in groups.items()
            if (kept := self._kept_days(name, retentions.get(partition[0], self._default)))
            and day_start_us(partition[1]) // _DAY_US < today - kept
            and max(map(_arrived_day, files)) < today - kept
        }
        if over and name == MINUTES:
            lacking = self._rollover.lacking()
            over = {} if lacking is None else {key: files for key, files in over.items() if key not in lacking}
        chosen: list[dict[str, object]] = []
        for _, files in sorted(over.items(), key=lambda item: item[0][1]):
            if chosen and len(chosen) + len(files) > _FILES_MAX:
                break
            chosen += files
        return Old(name, tuple(chosen)) if chosen else None

    def _kept_days(self, name: str, retention: Retention) -> int:
        # A copy of what may be asked again need not outlive its rows.
        return (
            min(self._answer_days, retention.hot_days or self._answer_days)
            if name == ANSWERS
            else kept_days(name, retention)
        )

    def _commit(self, old: Old) -> None:
        writer = self._writers[old.table]
        before = writer.expired()
        floors, gone = dict(before.floors), dict(before.rows)
        for file in old.files:
            tenant, day = partition_of(file)
            floors[tenant] = max(floors.get(tenant, 0), day_start_us(day) // _DAY_US + 1)
            gone[tenant] = gone.get(tenant, 0) + int(str(file["num_records"]))
        after = Expired(before.number + 1, floors, gone)
        keep(writer.root, after)
        writer.append((), {EXPIRED: after.number}, removed=old.files)
        log.info("expired", table=old.table, files=len(old.files), number=after.number)


def _arrived_day(file: dict[str, object]) -> int:
    """Day, since 1970, on which a file became part of its table."""
    at = file["modification_time"]
    seconds = at.timestamp() if isinstance(at, datetime) else int(str(at)) / 1_000
    return int(seconds * 1_000_000) // _DAY_US
