"""Batches on disk while the hub is away: bounded, checksummed, oldest first, one process for each folder.

Layout: `<folder>/<number>.spool`, each a row of records; a segment is removed when all its records are settled. `lock`
is held while a process uses the folder, `tenant` says whose events lie there. A record is settled by one byte in
place; should that byte be lost, the batch is sent again and the hub recognises the ids.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cluster.errors import HubError
from cluster.lake.files import make_folder, sync_folder
from cluster.sdk.batches import Batch
from cluster.sdk.recording import SpoolSync
from cluster.sdk.spool_records import (
    HEADER_BYTES,
    SETTLED,
    STATE_AT,
    Header,
    find_header,
    header_of,
    intact,
    read_header,
)

# Room is made by whole segments: the oldest sixteenth goes at once.
_SEGMENTS: Final = 16


class SpoolInUse(HubError):
    """Another process, or another client of this one, holds the spool."""

    code = "spool_in_use"
    hint = "Give each process a spool folder of its own."


class SpoolForeign(HubError):
    """Events of another tenant wait in the folder."""

    code = "spool_foreign"
    hint = "Give each tenant a spool folder of its own."


class SpoolFull(HubError):
    """The batch would take the spool beyond its bound; nothing was written."""

    code = "spool_full"


class SpoolFailed(HubError):
    """The disk refused the batch, or what was written of it may not last."""

    code = "spool_failed"


@dataclass(slots=True)
class Segment:
    """One file of records.

    Attributes:
        waiting: records in it that are not settled.
        removed: its file is closed or gone; nothing more is done to it.
    """

    number: int
    path: Path
    file: int
    size_bytes: int = 0
    waiting: int = 0
    removed: bool = False


@dataclass(slots=True, eq=False)
class Entry:
    """One batch on disk.

    Attributes:
        sequence: its place among the batches of this process; those found at the start come first.
        open: not yet accounted for; belongs to whoever counts, not to the spool.
    """

    sequence: int
    header: Header
    segment: Segment
    offset: int
    settled: bool = False
    open: bool = True

    @property
    def rows(self) -> int:
        return self.header.rows


@dataclass(slots=True)
class Found:
    """What a folder held when it was opened.

    Attributes:
        cut_bytes: a torn record at the end of a segment: its process ended while writing it.
        skipped_bytes: damage before intact records.
    """

    entries: list[Entry] = field(default_factory=list)
    cut_bytes: int = 0
    skipped_bytes: int = 0


class Spool:
    """An open spool folder; for any number of threads.

    Args:
        bytes_max: bound of all segments together.
        sync: as `Recording.spool_sync`.
        tenant: whose events these are; "" is the key's own.

    Raises:
        SpoolInUse: somebody else has it open.
        SpoolForeign: it holds events of another tenant.
    """

    def __init__(self, folder: Path, *, bytes_max: int, sync: SpoolSync, tenant: str = "") -> None:
        fresh = not folder.exists()
        make_folder(folder)
        if fresh:
            # The events in it may quote prompts.
            folder.chmod(0o700)
        self._folder = folder
        self._bytes_max = bytes_max
        self._sync = sync
        self._turn = threading.Lock()
        self._lock_file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock_file)
            raise SpoolInUse(f"the spool {folder} is in use") from None
        self._segments: list[Segment] = []
        self._writable = False
        self.found = self._open_segments()
        try:
            self._claim(tenant)
        except SpoolForeign:
            self.close()
            raise

    @property
    def size_bytes(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size_bytes for segment in self._segments)

    def fits(self, batch: Batch) -> bool:
        """Whether an empty spool would have room for it."""
        return HEADER_BYTES + len(batch.body) <= self._bytes_max

    def append(self, batch: Batch) -> Entry:
        """Write a batch behind the others; durable on return where `sync` says so.

        Raises:
            SpoolFull: no room within the bound.
            SpoolFailed: the disk refused.
        """
        content = header_of(batch.rows, batch.body, batch.encoding) + batch.body
        with self._turn:
            if self.size_bytes + len(content) > self._bytes_max:
                raise SpoolFull(f"the spool {self._folder} holds {self.size_bytes} of {self._bytes_max} bytes")
            try:
                segment = self._tail(len(content))
                offset = segment.size_bytes
                self._write(segment, content)
            except OSError as error:
                # What fsync failed on may or may not be there; a later segment does not depend on it.
                self._writable = False
                raise SpoolFailed(f"the spool {self._folder} cannot be written: {error.strerror}") from error
            segment.size_bytes += len(content)
            segment.waiting += 1
            header = read_header(content)
            assert header is not None
            return Entry(batch.sequence, header, segment, offset)

    def read(self, entry: Entry) -> Batch | None:
        """The batch of an entry; None where its bytes are damaged, or it was dropped meanwhile."""
        with self._turn:
            if entry.settled or entry.segment.removed:
                return None
            header = entry.header
            try:
                body = os.pread(entry.segment.file, header.length, entry.offset + HEADER_BYTES)
            except OSError:
                return None
        return Batch(entry.sequence, header.rows, body, header.encoding) if intact(header, body) else None

    def settle(self, entry: Entry) -> None:
        """The batch need not be kept; doing so again changes nothing."""
        with self._turn:
            if entry.settled or entry.segment.removed:
                return
            entry.settled = True
            segment = entry.segment
            segment.waiting -= 1
            # A disk that refuses costs no more than a second sending, which the hub recognises.
            with contextlib.suppress(OSError):
                if segment.waiting == 0:
                    self._remove(segment)
                else:
                    os.pwrite(segment.file, SETTLED, entry.offset + STATE_AT)

    def drop_oldest(self) -> Segment | None:
        """Remove the oldest segment with all it holds; None where there is none."""
        with self._turn:
            if not self._segments:
                return None
            segment = self._segments[0]
            self._remove(segment)
            return segment

    def close(self) -> None:
        """Give the folder free."""
        with self._turn:
            self.abandon()

    def abandon(self) -> None:
        """Close the files and nothing else: in a forked child the lock stays with the parent."""
        for segment in self._segments:
            segment.removed = True
            os.close(segment.file)
        self._segments = []
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1

    def _claim(self, tenant: str) -> None:
        path = self._folder / "tenant"
        if self.found.entries and path.exists() and (owner := path.read_text()) != tenant:
            raise SpoolForeign(f"the spool {self._folder} holds events of tenant {owner!r}, not {tenant!r}")
        path.write_text(tenant)

    def _tail(self, size_bytes: int) -> Segment:
        limit = self._bytes_max // _SEGMENTS
        if self._writable and self._segments and self._segments[-1].size_bytes + size_bytes <= limit:
            return self._segments[-1]
        number = self._segments[-1].number + 1 if self._segments else 1
        path = self._folder / f"{number:012d}.spool"
        # Not appending: a write that failed half-way is written over.
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._segments.append(Segment(number, path, file))
        self._writable = True
        if self._sync == "batch":
            sync_folder(self._folder)
        return self._segments[-1]

    def _write(self, segment: Segment, content: bytes) -> None:
        rest, offset = memoryview(content), segment.size_bytes
        try:
            while rest:
                written = os.pwrite(segment.file, rest, offset)
                rest, offset = rest[written:], offset + written
            if self._sync == "batch":
                os.fdatasync(segment.file)
        except OSError:
            os.ftruncate(segment.file, segment.size_bytes)
            raise

    def _remove(self, segment: Segment) -> None:
        segment.removed = True
        # Nothing is written behind records of which some may be torn: after the tail comes a new segment.
        self._writable = self._writable and segment is not self._segments[-1]
        self._segments.remove(segment)
        os.close(segment.file)
        segment.path.unlink(missing_ok=True)

    def _open_segments(self) -> Found:
        found = Found()
        for path in sorted(self._folder.glob("[0-9]*.spool")):
            segment = Segment(int(path.stem), path, os.open(path, os.O_RDWR), path.stat().st_size)
            self._segments.append(segment)
            for offset, header in _headers(segment, found):
                if not header.settled:
                    segment.waiting += 1
                    found.entries.append(Entry(len(found.entries) + 1, header, segment, offset))
            if segment.waiting == 0:
                self._remove(segment)
        return found


def _headers(segment: Segment, found: Found) -> Iterator[tuple[int, Header]]:
    """Records of a segment by offset; what is damaged is counted."""
    offset = 0
    while offset < segment.size_bytes:
        header = read_header(os.pread(segment.file, HEADER_BYTES, offset))
        if header is not None and offset + header.size <= segment.size_bytes:
            yield offset, header
            offset += header.size
            continue
        rest = os.pread(segment.file, segment.size_bytes - offset, offset)
        ahead = find_header(rest, 1)
        if ahead is None:
            found.cut_bytes += len(rest)
            return
        found.skipped_bytes += ahead
        offset += ahead
