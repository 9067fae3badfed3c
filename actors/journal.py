"""The write-ahead journal of one shard: checksummed records, one segment for each seal, group-committed fsync.

Layout: `<root>/<journal id>/<sequence>.wal`. A segment holds exactly the rows of the seal of that sequence, so a
replay cuts the same seals in the same order. Beside it `<sequence>.keys` remembers event ids after the segment is
gone. The folder is locked: of two incarnations of a shard only one can write.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyarrow as pa

from cluster.errors import JournalCorrupt, JournalFailed
from cluster.lake.files import make_folder, sync_folder

_MAGIC: Final = 0x4C4D4A31  # "LMJ1"
# magic, kind, tenant length, rows, payload length, crc32 of everything after the crc field and of the fields before it
_HEADER: Final = struct.Struct("<IBBIIQ")
_CRC: Final = struct.Struct("<I")
RECORD_BYTES_MAX: Final = 1 << 30

EVENTS: Final = 1
DEAD_LETTERS: Final = 2
SEALED: Final = 3
OPENED: Final = 4


@dataclass(frozen=True, slots=True)
class Record:
    """One admitted batch: its kind, its tenant, its rows: events packed, dead letters as an Arrow IPC message."""

    kind: int
    tenant: str
    rows: int
    payload: pa.Buffer


@dataclass(slots=True)
class Segment:
    """What one segment file holds.

    Attributes:
        opening: what `open_segment` was given, empty in segments that were begun without.
        cut_bytes: bytes of a torn tail that were dropped; they were never acknowledged.
    """

    sequence: int
    records: list[Record] = field(default_factory=list)
    sealed: bool = False
    opening: bytes = b""
    cut_bytes: int = 0


class Journal:
    """The open journal of one shard. `append` is called under the shard's lock; `sync` from many threads."""

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self.folder = folder
        self.identity = folder.name
        self._lock_file = (folder / "lock").open("w")
        # Waits for a dying predecessor; the kernel drops the lock with its last thread.
        fcntl.flock(self._lock_file, fcntl.LOCK_EX)
        self.sequence = 0
        self._file = -1
        self._written = 0
        self._synced = 0
        self._syncing = False
        self._failed = False
        self._turn = threading.Condition()

    @property
    def position(self) -> int:
        """Position behind the last record written."""
        return self._written

    def open_segment(self, sequence: int, opening: bytes = b"") -> None:
        """Begin the segment of this sequence; the one before has been sealed.

        Args:
            opening: kept durably as its first record, for whoever cannot read the segments before it any more.

        Raises:
            JournalFailed: the disk refused.
        """
        path = segment_path(self.folder, sequence)
        try:
            self._file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
            sync_folder(self.folder)
        except OSError as error:
            raise JournalFailed(f"journal {self.identity}: no new segment: {error.strerror}") from error
        self.sequence = sequence
        if opening:
            self.sync(self.append(Record(OPENED, "", 0, pa.py_buffer(opening))))

    def append(self, record: Record) -> int:
        """Write a record behind the others, not yet durable.

        Returns:
            Position to hand to `sync`.

        Raises:
            JournalFailed: the disk refused; the segment is closed for good and nothing is acknowledged from it.
        """
        if self._failed:
            raise JournalFailed(f"journal {self.identity} failed before and takes no more records")
        parts = encode(record)
        size = sum(len(part) for part in parts)
        try:
            written = os.writev(self._file, parts)
            if written != size:
                _write_rest(self._file, b"".join(parts)[written:])
        except OSError as error:
            self._failed = True
            raise JournalFailed(f"journal {self.identity}: append failed: {error.strerror}") from error
        with self._turn:
            self._written += size
            return self._written

    def sync(self, position: int) -> None:
        """Return once everything up to `position` is on disk; callers that wait together share one fsync.

        Raises:
            JournalFailed: fsync failed. It is never tried again on this file: the kernel may have dropped the pages.
        """
        with self._turn:
            while self._synced < position:
                if self._failed:
                    raise JournalFailed(f"journal {self.identity}: fsync failed, the batch is not acknowledged")
                if self._syncing:
                    self._turn.wait()
                    continue
                self._syncing = True
                target, descriptor = self._written, self._file
                self._turn.release()
                failure = _datasync(descriptor)
                self._turn.acquire()
                self._syncing = False
                if failure is None:
                    self._synced = max(self._synced, target)
                else:
                    self._failed = True
                self._turn.notify_all()

    def seal_segment(self) -> None:
        """Mark the open segment as complete, make it durable and close it. Called under the shard's lock."""
        self.append(Record(SEALED, "", 0, pa.py_buffer(b"")))
        with self._turn:
            position = self._written
        self.sync(position)
        with self._turn:
            os.close(self._file)
            self._file = -1

    def close(self) -> None:
        """Give the folder free."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._lock_file.close()


def encode(record: Record) -> list[bytes | memoryview]:
    """The record's bytes, payload not copied."""
    tenant = record.tenant.encode()
    header = _HEADER.pack(_MAGIC, record.kind, len(tenant), record.rows, 0, record.payload.size)
    payload = memoryview(record.payload)
    checksum = zlib.crc32(payload, zlib.crc32(tenant, zlib.crc32(header)))
    return [header, _CRC.pack(checksum), tenant, payload]


def segment_path(folder: Path, sequence: int) -> Path:
    """File of one seal."""
    return folder / f"{sequence:012d}.wal"


def sequences(folder: Path) -> list[int]:
    """Sequences of the segments in the folder, ascending."""
    return sorted(int(path.stem) for path in folder.glob("*.wal"))


def read_segment(folder: Path, sequence: int) -> Segment:
    """Read one segment, cutting a torn tail.

    Raises:
        JournalCorrupt: a record fails its checksum and an intact one follows, or the segment was sealed before.
    """
    path = segment_path(folder, sequence)
    content = pa.py_buffer(path.read_bytes())
    segment = Segment(sequence)
    offset = 0
    for record, end in scan(content):
        offset = end
        if record.kind == SEALED:
            segment.sealed = True
        elif record.kind == OPENED:
            segment.opening = record.payload.to_pybytes()
        else:
            segment.records.append(record)
    rest = content.size - offset
    if rest and (segment.sealed or find_record(content, offset + 1) is not None):
        raise JournalCorrupt(
            f"journal {folder.name}: segment {sequence} is damaged at byte {offset} of {content.size}; "
            f"{len(segment.records)} records before it can be read"
        )
    segment.cut_bytes = rest
    return segment


def scan(content: pa.Buffer, offset: int = 0) -> Iterator[tuple[Record, int]]:
    """Records from `offset` on, each with the offset behind it, up to the first that is not intact."""
    while (found := _record_at(content, offset)) is not None:
        yield found
        offset = found[1]


def find_record(content: pa.Buffer, offset: int) -> int | None:
    """Offset of the next intact record at or behind `offset`."""
    view = content.to_pybytes()
    magic = struct.pack("<I", _MAGIC)
    while (offset := view.find(magic, offset)) >= 0:
        if _record_at(content, offset) is not None:
            return offset
        offset += 1
    return None


def _record_at(content: pa.Buffer, offset: int) -> tuple[Record, int] | None:
    start = offset + _HEADER.size + _CRC.size
    if start > content.size:
        return None
    view = memoryview(content)
    header = view[offset : offset + _HEADER.size]
    magic, kind, tenant_length, rows, _, length = _HEADER.unpack(header)
    end = start + tenant_length + length
    if magic != _MAGIC or length > RECORD_BYTES_MAX or end > content.size:
        return None
    (checksum,) = _CRC.unpack(view[offset + _HEADER.size : start])
    if zlib.crc32(view[start:end], zlib.crc32(header)) != checksum:
        return None
    tenant = bytes(view[start : start + tenant_length]).decode()
    return Record(kind, tenant, rows, content.slice(start + tenant_length, length)), end


def _datasync(descriptor: int) -> OSError | None:
    try:
        os.fdatasync(descriptor)
    except OSError as error:
        return error
    return None


def _write_rest(descriptor: int, rest: bytes) -> None:
    while rest:
        rest = rest[os.write(descriptor, rest) :]
