"""One day of a tenant without some of its rows: files of events without them, and their minutes rolled up anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from actors.compaction import read_file
from cluster.contract.columns import EVENT_SCHEMA
from cluster.lake.changes import Partition
from cluster.lake.idkeys import Minutes, groups, minutes_of, span_of, touches
from cluster.lake.stage import StagedFile, stage
from cluster.lake.tables import ANCHOR, MINUTES, TABLES
from models.aggregate.rollup import MINUTE_US, ROLLED_COLUMNS, merge, roll

Places = npt.NDArray[np.int64]

# Partials that are gathered before they are merged; bounds the memory of one day.
_GATHERED_ROWS: Final = 200_000
_ROLLED: Final = pa.schema([EVENT_SCHEMA.field(name) for name in ROLLED_COLUMNS])


@dataclass(slots=True)
class Day:
    """Active files of one partition, as the logs list them."""

    events: list[dict[str, object]] = field(default_factory=list)
    minutes: list[dict[str, object]] = field(default_factory=list)

    def add(self, table: str, file: dict[str, object]) -> None:
        """A file of one of the two tables."""
        (self.events if table == ANCHOR else self.minutes).append(file)

    def paths(self, table: str) -> list[str]:
        """Where the files of a table lie below it."""
        return [str(file["path"]) for file in (self.events if table == ANCHOR else self.minutes)]


def retold(
    lake: Path, partition: Partition, day: Day, lost: Mapping[str, Places], *, token: str
) -> tuple[list[StagedFile], list[str]] | None:
    """The day without the lost rows.

    Args:
        lost: places of rows that go, ascending, by file of events.

    Returns:
        Files to commit in place of those of `lost` and of the files of minutes that are named; None where the stored
        minutes do not count the rows that are there, lost ones included: then they are of another moment, or faulty.
    """
    again = _Again(lake, partition[0], token)
    windows = again.leave_out(lost)
    counted: Counter[int] = Counter()
    again.roll(day, windows, lost, counted)
    removed = again.keep_others(day, windows, counted)
    if any(counted.values()):
        return None
    again.stage_minutes()
    return again.files, removed


class _Again:
    """Files being written. Minutes are counted up by stored partials and down by rows: at the end all are 0."""

    def __init__(self, lake: Path, tenant: str, token: str) -> None:
        self._lake = lake
        self._tenant = tenant
        self._token = token
        self._partials: list[pa.Table] = []
        self._rows = 0
        self.files: list[StagedFile] = []

    def leave_out(self, lost: Mapping[str, Places]) -> Minutes:
        """Write files of events without the lost rows; the minutes that lose one."""
        table = TABLES[ANCHOR]
        windows: list[Minutes] = []
        for number, (path, places) in enumerate(lost.items()):
            rows = read_file(self._lake / ANCHOR, table, path)
            mask = np.ones(rows.num_rows, np.bool_)
            mask[places] = False
            windows.append(np.unique(minutes_of(rows.column("occurred_at").take(pa.array(places)))))
            kept = rows.filter(pa.array(mask))
            name = f"{self._token}-{number:06d}"
            self.files += stage(self._lake, table, kept, tenant_id=self._tenant, token=name)
        return np.unique(np.concatenate(windows))

    def roll(self, day: Day, windows: Minutes, lost: Mapping[str, Places], counted: Counter[int]) -> None:
        """Roll up the rows of these minutes that stay."""
        for file in day.events:
            path = str(file["path"])
            if not touches(windows, *span_of(file, "occurred_at")):
                continue
            gone = lost.get(path, np.empty(0, np.int64))
            for group in groups(self._lake / ANCHOR / path, windows, ("event_id", *ROLLED_COLUMNS)):
                minutes = minutes_of(group.rows.column("occurred_at"))
                mask = np.isin(minutes, windows)
                _count(counted, minutes[mask], -1)
                places = gone - group.first
                mask[places[(places >= 0) & (places < mask.size)]] = False
                self._gather(roll(group.rows.filter(pa.array(mask)).select(ROLLED_COLUMNS).cast(_ROLLED), MINUTE_US))

    def keep_others(self, day: Day, windows: Minutes, counted: Counter[int]) -> list[str]:
        """Keep partials of other minutes that lie in files with these; the files, which go."""
        removed = []
        for file in day.minutes:
            path = str(file["path"])
            if not touches(windows, *span_of(file, "window_start")):
                continue
            rows = read_file(self._lake / MINUTES, TABLES[MINUTES], path)
            minutes = minutes_of(rows.column("window_start"))
            mask = np.isin(minutes, windows)
            if mask.any():
                removed.append(path)
                counts = rows.column("event_count").to_numpy()
                for minute in np.unique(minutes[mask]).tolist():
                    counted[minute] += int(counts[minutes == minute].sum())
                self._gather(rows.filter(pa.array(~mask)))
        return removed

    def stage_minutes(self) -> None:
        """Write the partials as one file."""
        table = TABLES[MINUTES]
        rows = merge(self._partials).sort_by([(name, "ascending") for name in table.sort])
        self.files += stage(self._lake, table, rows, tenant_id=self._tenant, token=self._token)

    def _gather(self, partials: pa.Table) -> None:
        self._partials.append(partials)
        self._rows += partials.num_rows
        if self._rows > _GATHERED_ROWS:
            self._partials = [merge(self._partials)]
            self._rows = 0


def _count(counted: Counter[int], minutes: Minutes, sign: int) -> None:
    values, times = np.unique(minutes, return_counts=True)
    for minute, count in zip(values.tolist(), times.tolist(), strict=True):
        counted[minute] += sign * count
