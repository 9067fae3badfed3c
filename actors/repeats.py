"""Events that are in the table twice: found by their ids, taken out exactly, roll-ups and account with them.

A shard drops what repeats one of the ids it remembers (HUB_SEEN_LIMIT). What comes after them is taken, and found here:
between commits, whatever came is compared with the rows of its day whose minutes it touches. Equal ids are one event
(docs/decisions/0008); the row that was received first stays. The minutes that lose a row are rolled up anew from the
rows that stay, since sketches and extremes cannot be subtracted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import structlog

from actors.corrections import Correction
from actors.retelling import Day, retold
from actors.rollover import partition_of
from cluster.clock import Clock
from cluster.lake.changes import Partition, arrivals, day_start_us
from cluster.lake.commit import TableWriter
from cluster.lake.files import replace
from cluster.lake.idkeys import Keys, Minutes, groups, minutes_of, span_of, touches
from cluster.lake.tables import ANCHOR, MINUTES
from cluster.settings import Settings

log = structlog.get_logger("repeats")

DAY_US: Final = 86_400_000_000
# Rows that are compared at once, and ids that are taken out at once: bound the memory to some 100 MB.
_ROWS: Final = 4_000_000
_REPEATED: Final = 500_000
# The search takes no more than this part of the time of one core, however large a day is.
_SHARE: Final = 50
# A partition whose roll-ups do not tell its events is looked at again: a restart may be between two commits.
_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Moment:
    """The tables as they stood when a search began.

    Attributes:
        days: active files of each partition.
        floors: by tenant, the first day since 1970 of which nothing left because of its age.
    """

    version: int
    began_s: float
    days: dict[Partition, Day]
    floors: dict[str, int]


@dataclass(frozen=True, slots=True)
class Found:
    """Repeats of one partition, and the correction that takes them out."""

    partition: Partition
    paths: tuple[str, ...]
    correction: Correction
    rows: int


@dataclass(slots=True)
class _Compared:
    """Keys of rows that came, ascending, and how often each is in the table."""

    keys: Keys
    minutes: Minutes
    times: npt.NDArray[np.int64]

    @classmethod
    def of(cls, keys: list[Keys], minutes: list[Minutes]) -> _Compared:
        """Rows as if all of them were in the table."""
        # numpy.unique takes ten times as long: it hashes.
        ordered = np.sort(np.concatenate([np.empty(0, np.uint64), *keys]))
        starts = np.flatnonzero(np.concatenate([np.ones(min(ordered.size, 1), np.bool_), ordered[1:] != ordered[:-1]]))
        times = np.diff(np.append(starts, ordered.size))
        return cls(ordered[starts], np.unique(np.concatenate([np.empty(0, np.int64), *minutes])), times)

    def add(self, keys: Keys, times: int) -> None:
        """Count keys of rows that are in the table, or are not."""
        if not self.keys.size or not keys.size:
            return
        # Looked up in their order: a tenth of the time it takes in any.
        keys = np.sort(keys)
        places = np.searchsorted(self.keys, keys)
        places[places == self.keys.size] = 0
        self.times += times * np.bincount(places[self.keys[places] == keys], minlength=self.keys.size)

    def repeated(self) -> Keys:
        """Keys that are there more than once."""
        return self.keys[self.times > 1]


@dataclass(slots=True)
class _Left:
    paths: set[str] = field(default_factory=set)
    tries: int = 0


class Finder:
    """Follows the events table. `choose` is called with the table handles held, all else without."""

    def __init__(self, settings: Settings, writers: dict[str, TableWriter], *, clock: Clock) -> None:
        self._settings = settings
        self._writers = writers
        self._clock = clock
        self._kept = settings.lake / "repeats.json"
        # Version up to which all rows were compared; lost with the file, all are compared again.
        self._known: int = orjson.loads(self._kept.read_bytes())["version"] if self._kept.exists() else 0
        self._left: dict[Partition, _Left] = defaultdict(_Left)
        # Version up to which the search under way looks.
        self._reached = self._known
        self._next_s = clock.monotonic_s() + settings.repeats_s
        self.removed = 0

    def choose(self) -> Moment | None:
        """The tables as they stand, if it is time for a search and anything came."""
        now_s = self._clock.monotonic_s()
        version = self._writers[ANCHOR].version
        if not self._settings.repeats_s or now_s < self._next_s or (version == self._known and not self._left):
            return None
        # Also where the search fails: what cannot be read now is not tried again at once.
        self._next_s = now_s + self._settings.repeats_s
        days: dict[Partition, Day] = defaultdict(Day)
        floors: dict[str, int] = {}
        for name in (ANCHOR, MINUTES):
            for file in self._writers[name].active_files():
                days[partition_of(file)].add(name, file)
            for tenant, floor in self._writers[name].expired().floors.items():
                floors[tenant] = max(floor, floors.get(tenant, 0))
        return Moment(version, now_s, dict(days), floors)

    def find(self, moment: Moment) -> Iterator[Found]:
        """The repeats of each partition that has some."""
        for partition, paths in self._arrived(moment).items():
            day = moment.days[partition]
            keys, minutes, all_of_them = self._repeated(paths, day)
            left = self._left.pop(partition, _Left())
            if not keys.size:
                continue
            correction = self._correction(partition, day, (keys, minutes))
            if correction is None:
                if left.tries < _TRIES:
                    self._left[partition] = _Left(set(paths), left.tries + 1)
                continue
            if not all_of_them:
                self._left[partition] = _Left(set(paths))
            yield Found(partition, paths, correction, sum(correction.repeats.values()))

    def leave(self, found: Found) -> None:
        """A file was taken from under a correction: the partition is looked at again."""
        self._left[found.partition].paths.update(found.paths)

    def count(self, found: Found) -> None:
        """A correction is in the tables."""
        self.removed += found.rows
        tenant, day = found.partition
        log.info("repeats_removed", tenant=tenant, day=day, rows=found.rows)

    def end(self, moment: Moment) -> None:
        """The search is over; the next one waits, longer where this one took long."""
        now_s = self._clock.monotonic_s()
        self._next_s = now_s + max(self._settings.repeats_s, _SHARE * (now_s - moment.began_s))
        self._known = self._reached
        if not self._left:
            replace(self._kept, orjson.dumps({"version": self._reached}))

    def _arrived(self, moment: Moment) -> dict[Partition, tuple[str, ...]]:
        """Files of events that brought rows since the last search, of days that are whole."""
        came = self._came(moment)
        paths: dict[Partition, set[str]] = defaultdict(set)
        for partition, path in came or ():
            paths[partition].add(path)
        for partition, left in self._left.items():
            paths[partition] |= left.paths
        for partition, day in moment.days.items():
            if came is None or not all((self._root / path).exists() for path in paths.get(partition, ())):
                # The log, or a file of it, is gone: the rows are somewhere among all.
                paths[partition] = set(day.paths(ANCHOR))
        # Only the minutes of a whole day can be rolled anew.
        return {
            one: tuple(sorted(found))
            for one, found in paths.items()
            if found and one in moment.days and day_start_us(one[1]) // DAY_US >= moment.floors.get(one[0], 0)
        }

    def _came(self, moment: Moment) -> list[tuple[Partition, str]] | None:
        """Files that brought rows, of so many versions as one search looks at; None where the log does not tell."""
        self._reached = moment.version
        # A table that stands at an earlier version was restored: nothing is known of it.
        if self._known > moment.version:
            return None
        found: list[tuple[Partition, str]] = []
        rows = 0
        for version in range(self._known + 1, moment.version + 1):
            told = arrivals(self._root, version, version)
            if told is None:
                return None
            found += told
            rows += sum(_row_count(self._root / path) for _, path in told)
            if rows >= _ROWS:
                # The rest waits for the next search: rolling up and compacting come in between.
                self._reached = version
                break
        return found

    def _repeated(self, paths: tuple[str, ...], day: Day) -> tuple[Keys, Minutes, bool]:
        """Keys of ids that are there twice, ascending, the minutes in which they may be, and whether these are all."""
        found: list[Keys] = []
        minutes: list[Minutes] = []
        for part in _parts(self._root, paths):
            compared = self._compared(part, day)
            keys = compared.repeated()
            if keys.size:
                found.append(keys)
                minutes.append(compared.minutes)
        if not found:
            return np.empty(0, np.uint64), np.empty(0, np.int64), True
        keys = np.unique(np.concatenate(found))
        return keys[:_REPEATED], np.unique(np.concatenate(minutes)), keys.size <= _REPEATED

    def _compared(self, paths: list[str], day: Day) -> _Compared:
        active, read = frozenset(day.paths(ANCHOR)), frozenset(paths)
        own: list[Keys] = []
        gone: list[Keys] = []
        minutes: list[Minutes] = []
        for path in paths:
            for group in groups(self._root / path, None, ("event_id", "occurred_at")):
                own.append(group.keys)
                minutes.append(np.unique(minutes_of(group.rows.column("occurred_at"))))
                if path not in active:
                    gone.append(group.keys)
        compared = _Compared.of(own, minutes)
        for keys in gone:
            # Compacted since: they are counted where they are now.
            compared.add(keys, -1)
        for file in day.events:
            path = str(file["path"])
            if path not in read and touches(compared.minutes, *span_of(file, "occurred_at")):
                for group in groups(self._root / path, compared.minutes):
                    compared.add(group.keys, 1)
        return compared

    def _correction(self, partition: Partition, day: Day, repeated: tuple[Keys, Minutes]) -> Correction | None:
        """What takes them out; None where no id is really there twice, or the roll-ups do not tell the events."""
        lost = self._later(day, repeated)
        if not lost:
            return None
        identity = f"repeats-{uuid4().hex}"
        staged = retold(self._settings.lake, partition, day, lost, token=identity)
        if staged is None:
            log.warning("repeats_left", tenant=partition[0], day=partition[1], reason="roll-ups and events differ")
            return None
        files, minutes = staged
        rows = sum(rows.size for rows in lost.values())
        return Correction(identity, tuple(lost), tuple(files), {}, tuple(minutes), {partition[0]: rows})

    def _later(self, day: Day, repeated: tuple[Keys, Minutes]) -> dict[str, npt.NDArray[np.int64]]:
        """By path, the places of rows whose id an earlier row has."""
        keys, minutes = repeated
        parts: list[pa.Table] = []
        # Of rows received at the same time the one in the older file is the first.
        ordered = sorted(day.events, key=lambda file: (str(file["modification_time"]), str(file["path"])))
        for number, file in enumerate(ordered):
            if not touches(minutes, *span_of(file, "occurred_at")):
                continue
            for group in groups(self._root / str(file["path"]), minutes, ("event_id", "received_at")):
                rows = np.flatnonzero(_among(group.keys, keys))
                if rows.size:
                    part = group.rows.take(pa.array(rows))
                    part = part.append_column("file", pa.array(np.full(rows.size, number, np.int64)))
                    parts.append(part.append_column("row", pa.array(rows + group.first)))
        if not parts:
            return {}
        told = pa.concat_tables(parts).combine_chunks()
        order = [(name, "ascending") for name in ("event_id", "received_at", "file", "row")]
        told = told.sort_by(order).combine_chunks()
        ids = told.column("event_id").combine_chunks()
        again = np.concatenate([[False], np.asarray(pc.equal(ids[1:], ids[:-1]))]).astype(np.bool_)
        files, rows = (told.column(name).to_numpy()[again] for name in ("file", "row"))
        return {str(ordered[number]["path"]): np.sort(rows[files == number]) for number in np.unique(files).tolist()}

    @property
    def _root(self) -> Path:
        return self._writers[ANCHOR].root


def _among(keys: Keys, sorted_keys: Keys) -> npt.NDArray[np.bool_]:
    places = np.searchsorted(sorted_keys, keys)
    places[places == sorted_keys.size] = 0
    found: npt.NDArray[np.bool_] = sorted_keys[places] == keys
    return found


def _row_count(path: Path) -> int:
    """Rows of a file; 0 where it is gone."""
    return int(pq.read_metadata(path).num_rows) if path.exists() else 0


def _parts(root: Path, paths: tuple[str, ...]) -> Iterator[list[str]]:
    """The files, so many at a time that their keys fit the bound."""
    part: list[str] = []
    rows = 0
    for path in paths:
        more = pq.read_metadata(root / path).num_rows
        if part and rows + more > _ROWS:
            yield part
            part, rows = [], 0
        part.append(path)
        rows += more
    if part:
        yield part
