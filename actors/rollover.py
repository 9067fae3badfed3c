"""Roll the minute partials into hours and days, between commits: each commit of minutes is taken into each once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import pyarrow as pa
import structlog

from actors.compaction import read_file
from cluster.clock import Clock
from cluster.lake.changes import Changes, Partition, changes, day_start_us
from cluster.lake.commit import TableWriter
from cluster.lake.stage import StagedFile, stage
from cluster.lake.tables import MINUTES, ROLLUPS, TABLES
from cluster.settings import Settings
from models.aggregate.rollup import coarsen, merge

log = structlog.get_logger("rollover")

COARSE: Final = tuple(name for name in ROLLUPS if name != MINUTES)
DAY_US: Final = 86_400_000_000
# Partials that are gathered before they are merged; bounds the memory of one partition.
_GATHERED_ROWS: Final = 200_000


@dataclass(frozen=True, slots=True)
class Due:
    """What one coarse table lacks.

    Attributes:
        version: the version of the minute partials that the table will hold when this is committed.
        sources: paths of the minute files to take in, by partition.
        removed: files of the coarse table, as its log lists them, that are told anew: their partition lost rows.
    """

    table: str
    version: int
    sources: dict[Partition, list[str]]
    removed: tuple[dict[str, object], ...]


class Rollover:
    """Finds what the coarse tables lack, at most every `rollover_s` for each."""

    def __init__(self, settings: Settings, writers: dict[str, TableWriter], *, clock: Clock) -> None:
        self._settings = settings
        self._writers = writers
        self._clock = clock
        self._looked_s = dict.fromkeys(COARSE, float("-inf"))

    def choose(self) -> Due | None:
        """What to roll next, if a table is behind and its time has come; the caller holds the table handles."""
        now_s = self._clock.monotonic_s()
        for name in COARSE:
            if now_s - self._looked_s[name] < self._settings.rollover_s:
                continue
            self._looked_s[name] = now_s
            due = self._due(name)
            if due is not None:
                return due
        return None

    def lacking(self) -> frozenset[Partition] | None:
        """Partitions of minutes that a coarse table has not taken in yet; None where the log does not tell them."""
        minutes = self._writers[MINUTES]
        found: frozenset[Partition] = frozenset()
        for name in COARSE:
            told = changes(minutes.root, self._writers[name].last_sequence(MINUTES) + 1, minutes.version)
            if told is None:
                return None
            found |= told.partitions
        return found

    def merge(self, due: Due) -> list[StagedFile]:
        """Write the rolled partials, not yet part of the table; needs no handle."""
        lake, table = self._settings.lake, TABLES[due.table]
        token = f"roll-{uuid4().hex}"
        staged: list[StagedFile] = []
        for (tenant, _), paths in sorted(due.sources.items()):
            rows = self._rolled(paths, ROLLUPS[due.table])
            rows = rows.sort_by([(name, "ascending") for name in table.sort])
            staged += stage(lake, table, rows, tenant_id=tenant, token=token)
        return staged

    def commit(self, due: Due, staged: list[StagedFile]) -> None:
        """Make the rolled partials part of the table, in one commit; the caller holds the table handles."""
        self._writers[due.table].append(staged, {MINUTES: due.version}, removed=due.removed)
        log.info("rolled", table=due.table, version=due.version, rows=sum(file.row_count for file in staged))

    def _due(self, name: str) -> Due | None:
        minutes, coarse = self._writers[MINUTES], self._writers[name]
        version, known = minutes.version, coarse.last_sequence(MINUTES)
        if version <= known:
            return None
        found = changes(minutes.root, known + 1, version)
        sources: dict[Partition, list[str]] = {}
        rewritten = _partitions(minutes, coarse) if found is None else found.rewritten
        # Days whose minutes left because of their age cannot be told anew; what was rolled from them stays.
        floors = minutes.expired().floors
        rewritten = frozenset(one for one in rewritten if day_start_us(one[1]) >= floors.get(one[0], 0) * DAY_US)
        for partition, path in (found or Changes()).appended:
            sources.setdefault(partition, []).append(path)
        for file in minutes.active_files() if rewritten else ():
            if partition_of(file) in rewritten:
                sources.setdefault(partition_of(file), []).append(str(file["path"]))
        told = [file for file in coarse.active_files() if partition_of(file) in rewritten] if rewritten else []
        return Due(name, version, sources, tuple(told))

    def _rolled(self, paths: Iterable[str], window_us: int) -> pa.Table:
        root, table = self._writers[MINUTES].root, TABLES[MINUTES]
        gathered: list[pa.Table] = []
        rows = 0
        for path in paths:
            gathered.append(coarsen(read_file(root, table, path), window_us))
            rows += gathered[-1].num_rows
            if rows > _GATHERED_ROWS:
                gathered = [merge(gathered)]
                rows = 0
        return merge(gathered)


def _partitions(*writers: TableWriter) -> frozenset[Partition]:
    return frozenset(partition_of(file) for writer in writers for file in writer.active_files())


def partition_of(file: dict[str, object]) -> Partition:
    """Tenant and day of a file, as the log lists it."""
    return str(file["partition.tenant_id"]), str(file["partition.event_date"])
