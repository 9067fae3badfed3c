"""What a new incarnation of a shard goes on with: its last journal, or a new one that knows what went before.

The committer knows which journal a shard wrote last. If that lies on this node, the shard goes on with it. If not,
the shard's past is on a node that is gone: it begins a new journal, learns the ids of the rows committed last from
the table, and rows that older journals of this node hold are admitted again, so that repeats among them are told.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import structlog

from actors.intake import CommitPort
from actors.journal import Journal, Record, segment_path, sequences
from actors.memory import Memory
from actors.recovery import Recovered, new_folder, readable, recover, shard_folders
from cluster.errors import JournalCorrupt
from cluster.lake.recent import recent_identities
from cluster.settings import Settings
from cluster.topology import shard_of, slots

log = structlog.get_logger("inheritance")


@dataclass(slots=True)
class Inheritance:
    """What a shard starts with.

    Attributes:
        epoch: number of this incarnation; the committer takes seals of no earlier one any more.
        older: other journals of this node whose uncommitted rows are to be admitted again.
        corrupt: why the shard may not serve, None when it may.
    """

    epoch: int
    current: Recovered
    older: list[Journal] = field(default_factory=list)
    corrupt: JournalCorrupt | None = None


def inherit(
    settings: Settings, root: Path, *, number: int, shards: int, commits: CommitPort, memory: Memory
) -> Inheritance:
    """Find what this shard owns on this node, make it known to the committer, and fill `memory`."""
    folders = shard_folders(root, number, shards)
    own = [folder for folder in folders if folder.parent.name == f"shard-{number:05d}"]
    registration = commits.register(number, own[-1].name if own else "")
    if own and registration.previous in ("", own[-1].name):
        current = recover(own[-1], memory, committed=commits.last_sequence)
        folders.remove(own[-1])
        if current.damaged:
            _learn_from_table(settings, memory, number=number, shards=shards)
    else:
        if registration.previous:
            _learn_from_table(settings, memory, number=number, shards=shards)
        current = Recovered(Journal(new_folder(root, number)))
        registration = commits.register(number, current.journal.identity)
    older = [Journal(folder) for folder in folders if sequences(folder)]
    return Inheritance(registration.epoch, current, older, current.corrupt)


def journal_root(settings: Settings) -> Path:
    """Folder of this node's journals; a node may keep them on its own disk, elsewhere than the shared data folder."""
    return Path(os.environ.get("HUB_JOURNAL_DIR", str(settings.journals)))


def left_behind(journal: Journal, commits: CommitPort) -> Iterator[Record]:
    """Records of an older journal that were never committed under its own name.

    Raises:
        JournalCorrupt: a segment is damaged; those before it were given.
    """
    last = commits.last_sequence(journal.identity)
    for sequence in sequences(journal.folder):
        if sequence > last:
            yield from readable(journal.folder, sequence)


def close_behind(journal: Journal) -> None:
    """Remove the segments of an older journal whose rows are durable elsewhere; its keys stay for the memory."""
    for sequence in sequences(journal.folder):
        segment_path(journal.folder, sequence).unlink()
    log.info("journal_adopted", journal=journal.identity)
    journal.close()


def _learn_from_table(settings: Settings, memory: Memory, *, number: int, shards: int) -> None:
    rows = 0
    for tenant, batch in recent_identities(settings.lake, rows_max=settings.seen_limit * shards):
        mine = np.flatnonzero(shard_of(slots(batch, tenant), shards) == number)
        if mine.size:
            memory.recall_events(batch.take(mine), tenant)
            rows += mine.size
    log.info("learned_from_table", shard=number, rows=rows)
