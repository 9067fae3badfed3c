"""Rows a shard holds between journal and commit, and the counts that make its ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from actors.memory import Keys
from cluster.lake.stage import StagedFile


@dataclass(slots=True)
class Counts:
    """Running totals of one tenant in one journal since the journal began."""

    accepted: int = 0
    repeated: int = 0
    dead_letters: int = 0

    def copy(self) -> Counts:
        return Counts(self.accepted, self.repeated, self.dead_letters)

    def as_dict(self) -> dict[str, int]:
        return {"accepted": self.accepted, "repeated": self.repeated, "dead_letters": self.dead_letters}


Totals = dict[str, Counts]


@dataclass(slots=True)
class Buffer:
    """Rows of one seal, by tenant.

    Attributes:
        sequence: number of the seal and of its journal segment.
        keys: what the key file will hold of the rows once they are committed.
        opened_at_s: monotonic time of the first row, None while empty.
        totals: totals of the journal at the end of this buffer, set when it is cut.
    """

    sequence: int
    events: dict[str, list[pa.RecordBatch]] = field(default_factory=dict)
    dead_letters: dict[str, list[pa.RecordBatch]] = field(default_factory=dict)
    size_bytes: int = 0
    rows: int = 0
    keys: list[Keys] = field(default_factory=list)
    opened_at_s: float | None = None
    totals: Totals = field(default_factory=dict)

    def add(self, tenant: str, batch: pa.RecordBatch, keys: Keys, *, dead: bool, size_bytes: int, now_s: float) -> None:
        """Take a journaled batch of that size in the journal, and the keys to remember it by."""
        self.keys.append(keys)
        rows = self.dead_letters if dead else self.events
        rows.setdefault(tenant, []).append(batch)
        self.size_bytes += size_bytes
        self.rows += batch.num_rows
        if self.opened_at_s is None:
            self.opened_at_s = now_s


@dataclass(frozen=True, slots=True)
class Seal:
    """Staged files of one seal on their way to the committer.

    Attributes:
        shard, epoch: the incarnation that sends it.
        accepted: events the journal accepted for each tenant up to and including this seal.
    """

    shard: int
    epoch: int
    journal: str
    sequence: int
    files: tuple[StagedFile, ...]
    accepted: dict[str, int]


@dataclass(frozen=True, slots=True)
class Registration:
    """The committer's answer to a new incarnation of a shard.

    Attributes:
        previous: journal the shard registered last, "" when it is new.
    """

    epoch: int
    previous: str


class CommitPort(Protocol):
    """What a shard needs of the committer. Calls block until answered, over restarts of the committer."""

    def register(self, shard: int, journal: str) -> Registration:
        """Begin an incarnation of a shard that writes this journal ("" when it has none yet); ends those before it."""

    def last_sequence(self, journal: str) -> int:
        """Last committed sequence of the journal, 0 when there is none."""

    def commit(self, seal: Seal) -> int:
        """Commit the seal unless it is in; the last committed sequence of its journal.

        Raises:
            Fenced: a later incarnation of the shard has registered.
            SequenceGap: the seal before this one was never committed.
        """
