"""What a shard finds on its disk at start: journals to go on with, rows to seal again, ids to remember."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import uuid4

import orjson
import pyarrow as pa
import structlog

from actors.intake import Buffer, Counts, Totals
from actors.journal import DEAD_LETTERS, Journal, Record, Segment, read_segment, segment_path, sequences
from actors.keys import recall
from actors.memory import Memory
from cluster.contract.columns import DEAD_LETTER_SCHEMA
from cluster.contract.packing import unpack
from cluster.errors import JournalCorrupt
from cluster.lake.files import make_folder, replace
from cluster.tenancy import TenantId

log = structlog.get_logger("recovery")

_TOTALS: Final = "totals.json"


@dataclass(slots=True)
class Recovered:
    """One journal as found.

    Attributes:
        buffers: segments on disk in order, to be sealed unless their sequence is committed.
        totals: counts at the end of the last segment.
        base: counts at `base_sequence`, the last trimmed seal.
        damaged: whether a committed segment could not be read; the ids it held are only in the tables.
        corrupt: what is damaged, None when all segments were read.
    """

    journal: Journal
    buffers: list[Buffer] = field(default_factory=list)
    totals: Totals = field(default_factory=dict)
    base: Totals = field(default_factory=dict)
    base_sequence: int = 0
    next_sequence: int = 1
    cut_bytes: int = 0
    damaged: bool = False
    corrupt: JournalCorrupt | None = None


def shard_folders(root: Path, number: int, shards: int) -> list[Path]:
    """Journal folders this shard answers for on this node, oldest first: its own and those of shards no more there."""
    found: list[Path] = []
    for folder in root.glob("shard-*"):
        if int(folder.name.removeprefix("shard-")) % shards == number:
            found.extend(path for path in folder.iterdir() if path.is_dir())
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))


def new_folder(root: Path, number: int) -> Path:
    """Folder of a journal that begins now; its name is the journal's identity for ever."""
    folder = root / f"shard-{number:05d}" / f"{number:05d}-{uuid4().hex[:16]}"
    make_folder(folder)
    return folder


def recover(folder: Path, memory: Memory, *, committed: Callable[[str], int]) -> Recovered:
    """Read one journal folder, wait for its lock, and teach `memory` what it has taken.

    Args:
        committed: last committed sequence of a journal; asked only when a segment is damaged, since damage to rows
            that are in the tables costs nothing.
    """
    found = Recovered(Journal(folder))
    recall(folder, memory)
    base, found.totals = read_totals(folder)
    found.base = _copied(found.totals)
    found.base_sequence = base
    found.next_sequence = base + 1
    unread: list[Buffer] = []
    for sequence in sequences(folder):
        try:
            segment = read_segment(folder, sequence)
        except JournalCorrupt as error:
            if sequence > committed(folder.name):
                found.corrupt = error
                log.error("journal_corrupt", journal=folder.name, sequence=sequence, detail=error.message)
                break
            log.warning("journal_damage_harmless", journal=folder.name, sequence=sequence, detail=error.message)
            unread.append(Buffer(sequence, totals=_copied(found.totals)))
            found.buffers.append(unread[-1])
            found.damaged = True
            found.next_sequence = max(found.next_sequence, sequence + 1)
            continue
        found.cut_bytes += segment.cut_bytes
        if segment.opening and sequence > base:
            # The counts with which the segments before it ended, those that cannot be read among them.
            found.totals = totals_in(segment.opening)
            for buffer in unread:
                buffer.totals = _copied(found.totals)
            unread = []
        if not segment.records and not segment.sealed:
            # Opened and never written to: its number is used again, and no empty seal is committed.
            segment_path(folder, sequence).unlink()
            break
        buffer = _buffer(segment, memory)
        if sequence > base:
            _add(found.totals, buffer)
        buffer.totals = _copied(found.totals)
        found.buffers.append(buffer)
        found.next_sequence = max(found.next_sequence, sequence + 1)
    if found.cut_bytes:
        log.warning("journal_tail_cut", journal=folder.name, cut_bytes=found.cut_bytes)
    return found


def read_totals(folder: Path) -> tuple[int, Totals]:
    """Sequence and totals written when segments were last trimmed."""
    path = folder / _TOTALS
    if not path.exists():
        return 0, {}
    content = orjson.loads(path.read_bytes())
    return int(content["sequence"]), _counts(content["totals"])


def write_totals(folder: Path, sequence: int, totals: Totals) -> None:
    """Remember the counts of a journal at a committed sequence, durably, before its segments go."""
    replace(folder / _TOTALS, orjson.dumps({"sequence": sequence, "totals": _told(totals)}))


def opening_of(totals: Totals) -> bytes:
    """What a segment begins with: the counts of its journal up to there."""
    return orjson.dumps(_told(totals))


def totals_in(opening: bytes) -> Totals:
    """The counts that `opening_of` told."""
    return _counts(orjson.loads(opening))


def _told(totals: Totals) -> dict[str, dict[str, int]]:
    return {tenant: counts.as_dict() for tenant, counts in totals.items()}


def _counts(told: dict[str, dict[str, int]]) -> Totals:
    return {tenant: Counts(**counts) for tenant, counts in told.items()}


def _copied(totals: Totals) -> Totals:
    return {tenant: counts.copy() for tenant, counts in totals.items()}


def _add(totals: Totals, buffer: Buffer) -> None:
    for tenant, batches in buffer.events.items():
        totals.setdefault(tenant, Counts()).accepted += sum(batch.num_rows for batch in batches)
    for tenant, batches in buffer.dead_letters.items():
        totals.setdefault(tenant, Counts()).dead_letters += sum(batch.num_rows for batch in batches)


def readable(folder: Path, sequence: int) -> Iterator[Record]:
    """Records of one segment.

    Raises:
        JournalCorrupt: the segment is damaged; none of it was given.
    """
    yield from read_segment(folder, sequence).records


def batch_of(record: Record) -> pa.RecordBatch:
    """The rows of a record, views of its bytes."""
    if record.kind == DEAD_LETTERS:
        return pa.ipc.read_record_batch(record.payload, DEAD_LETTER_SCHEMA)
    return unpack(record.payload)


def _buffer(segment: Segment, memory: Memory) -> Buffer:
    buffer = Buffer(segment.sequence)
    for record in segment.records:
        batch, dead = batch_of(record), record.kind == DEAD_LETTERS
        recall_rows = memory.recall_dead_letters if dead else memory.recall_events
        keys = recall_rows(batch, TenantId(record.tenant))
        buffer.add(record.tenant, batch, keys, dead=dead, size_bytes=record.payload.size, now_s=0.0)
    return buffer
