"""One shard: admits batches of the slots it owns, drops repeats, journals, acknowledges, seals.

Admission may be called from many threads. A row is refused before the journal or owned after it: once journaled, it
ends in the Delta tables whatever happens to this process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Literal

import pyarrow as pa
import structlog

from actors.history import History
from actors.inheritance import Inheritance, close_behind, inherit, journal_root, left_behind
from actors.intake import Buffer, CommitPort, Counts
from actors.journal import DEAD_LETTERS, EVENTS, Journal, Record
from actors.lanes import Batch
from actors.memory import Keys, Memory
from actors.recovery import batch_of, opening_of
from actors.sealer import Sealer
from actors.trimming import Trimming
from cluster.clock import Clock
from cluster.contract.columns import DEAD_LETTER_SCHEMA
from cluster.contract.packing import pack, unpack
from cluster.contract.words import spared_bytes
from cluster.errors import Busy, HubError, JournalCorrupt, JournalFailed, ShardFull, Unavailable
from cluster.lake.files import free_bytes
from cluster.settings import Settings
from cluster.tenancy import TenantId

log = structlog.get_logger("shard")

State = Literal["serving", "draining", "stopped"]


class Shard:
    """Owner of a range of slots: the journal, the ids seen, the rows not yet committed."""

    def __init__(
        self,
        settings: Settings,
        number: int,
        *,
        shards: int,
        commits: CommitPort,
        clock: Clock,
        on_fatal: Callable[[HubError], None] = lambda error: None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._on_fatal = on_fatal
        self.number = number
        self.state: State = "serving"
        self.reason = ""
        self._stopping = False
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._memory = Memory(settings.seen_limit)
        self._history = History()
        self._held_bytes = 0
        self._committed_sequence = 0
        self._last_commit_s = clock.monotonic_s()
        self._commits = commits
        found = inherit(
            settings, journal_root(settings), number=number, shards=shards, commits=commits, memory=self._memory
        )
        self._sealer = Sealer(
            settings.lake, commits, shard=number, epoch=found.epoch, on_commit=self._committed, on_failure=self._fail
        )
        self._go_on(found)
        self._thread = threading.Thread(target=self._run, name=f"seal-{number}", daemon=True)
        self._thread.start()

    def _go_on(self, found: Inheritance) -> None:
        current = found.current
        self._journal, self._totals, self._recovered = current.journal, current.totals, current.buffers
        self._history.note(current.base_sequence, current.base)
        for buffer in current.buffers:
            self._history.note(buffer.sequence, buffer.totals)
            self._held_bytes += buffer.size_bytes
        self._trimming = Trimming(
            self._journal.folder, key_limit=self._settings.seen_limit, grace_s=self._settings.journal_grace_s
        )
        self._buffer = Buffer(current.next_sequence)
        if found.corrupt is not None:
            self.state, self.reason = "stopped", found.corrupt.message
            return
        self._journal.open_segment(current.next_sequence, opening_of(current.totals))
        try:
            for journal in found.older:
                self._adopt(journal)
        except JournalCorrupt as error:
            self.state, self.reason = "stopped", error.message

    def _adopt(self, journal: Journal) -> None:
        """Admit again what an older journal of this node left behind; ids tell what was taken elsewhere since."""
        for record in left_behind(journal, self._commits):
            batch, tenant = batch_of(record), TenantId(record.tenant)
            if record.kind == DEAD_LETTERS:
                self._take_dead_letters(batch, tenant)
            else:
                accepted = self._take_events(batch, tenant)
                self._counts(tenant).repeated += batch.num_rows - accepted
        self._journal.sync(self._journal.position)
        close_behind(journal)

    # Admission

    def admit(self, tenant: str, events: pa.Buffer | None, dead_letters: pa.Buffer | None) -> tuple[int, int]:
        """Take one batch, as `admit_many`; raises what is told there."""
        (answer,) = self.admit_many([(tenant, events, dead_letters)])
        if isinstance(answer, HubError):
            raise answer
        return answer

    def admit_many(self, batches: Sequence[Batch]) -> list[tuple[int, int] | HubError]:
        """Take batches; returns once all that was taken is durable as `HUB_ACK` says.

        Args:
            batches: tenant, events as `cluster.contract.packing` packs them, dead letters as an Arrow IPC message of
                DEAD_LETTER_SCHEMA rows; None for none.

        Returns:
            For each batch the events accepted and those recognised as repeats, or why nothing of it was taken:
            ShardFull, or Unavailable while the shard is stopped or draining.

        Raises:
            JournalFailed: the disk failed; what became of the batches is known after a restart.
        """
        answers: list[tuple[int, int] | HubError] = []
        for tenant, events, dead_letters in batches:
            with self._lock:
                try:
                    answers.append(self._take(TenantId(tenant), events, dead_letters))
                except Busy as refusal:
                    answers.append(refusal)
                # Repeats wait for the rows they repeat: those are in the open buffer, or in one cut before it.
                sequence = self._buffer.sequence - (0 if self._buffer.rows else 1)
                position = self._journal.position
        self._make_durable(position, sequence)
        return answers

    def _take(self, tenant: TenantId, events: pa.Buffer | None, dead_letters: pa.Buffer | None) -> tuple[int, int]:
        self._check((events.size if events else 0) + (dead_letters.size if dead_letters else 0))
        is_first = self._buffer.rows == 0
        accepted = repeated = 0
        if events is not None:
            batch = unpack(events, encode=True)
            accepted = self._take_events(batch, tenant)
            repeated = batch.num_rows - accepted
        if dead_letters is not None:
            self._take_dead_letters(pa.ipc.read_record_batch(dead_letters, DEAD_LETTER_SCHEMA), tenant)
        self._counts(tenant).repeated += repeated
        if is_first or self._buffer.size_bytes >= self._settings.seal_bytes:
            self._changed.notify_all()
        return accepted, repeated

    def _check(self, size: int) -> None:
        if self.state != "serving":
            raise Unavailable(f"shard {self.number} is {self.state}: {self.reason}", retry_after_s=5.0)
        if free_bytes(self._journal.folder) < self._settings.disk_reserve_bytes + size:
            raise Unavailable(
                f"the disk of shard {self.number} has less than {self._settings.disk_reserve_bytes} bytes left",
                retry_after_s=5.0,
                hint="Nothing of this batch was taken; make room and send it again.",
            )
        if self._held_bytes + size > self._settings.shard_buffer_bytes:
            raise ShardFull(
                f"shard {self.number} holds {self._held_bytes} bytes", retry_after_s=self._settings.seal_age_s
            )

    def _take_events(self, batch: pa.RecordBatch, tenant: TenantId) -> int:
        batch, keys = self._memory.take_events(batch, tenant)
        if batch.num_rows:
            self._journal_batch(EVENTS, tenant, batch, keys=keys)
            self._counts(tenant).accepted += batch.num_rows
        return int(batch.num_rows)

    def _take_dead_letters(self, batch: pa.RecordBatch, tenant: TenantId) -> None:
        batch, keys = self._memory.take_dead_letters(batch, tenant)
        if batch.num_rows:
            self._journal_batch(DEAD_LETTERS, tenant, batch, keys=keys)
            self._counts(tenant).dead_letters += batch.num_rows

    def _journal_batch(self, kind: int, tenant: str, batch: pa.RecordBatch, *, keys: Keys) -> None:
        """Append, then buffer what was written: the rows in memory are views of the journaled bytes."""
        dead = kind == DEAD_LETTERS
        payload = batch.serialize() if dead else pack(batch)
        try:
            self._journal.append(Record(kind, tenant, batch.num_rows, payload))
        except JournalFailed as error:
            # The rows are remembered and not journaled; a new incarnation knows only what is on the disk.
            self._fail(error)
            raise
        kept = pa.ipc.read_record_batch(payload, batch.schema) if dead else unpack(payload, encode=True)
        # A seal is staged in memory: its bound is on rows as they are written, however short they are held.
        size = payload.size + (0 if dead else spared_bytes(kept))
        self._buffer.add(tenant, kept, keys, dead=dead, size_bytes=size, now_s=self._clock.monotonic_s())
        self._held_bytes += size

    def _make_durable(self, position: int, sequence: int) -> None:
        try:
            self._journal.sync(position)
        except JournalFailed as error:
            # Rows of this segment may be on disk or not; only an incarnation that reads the disk can tell.
            self._fail(error)
            raise
        if self._settings.ack == "commit":
            with self._changed:
                while self._committed_sequence < sequence:
                    if self.state == "stopped":
                        raise Unavailable(f"shard {self.number} stopped before the commit", retry_after_s=2.0)
                    self._changed.wait()

    def _counts(self, tenant: str) -> Counts:
        return self._totals.setdefault(tenant, Counts())

    # Sealing

    def _run(self) -> None:
        try:
            self._seal_recovered()
            while (buffer := self._next_buffer()) is not None:
                self._seal(buffer)
        except HubError as error:
            self._fail(error)
        except OSError as error:
            self._fail(JournalFailed(f"the keys of committed rows could not be kept: {error.strerror}"))

    def _fail(self, error: HubError) -> None:
        """The journal's disk failed, or another incarnation took over. What is journaled stays there."""
        log.error("shard_stopped", shard=self.number, code=error.code, detail=error.message)
        with self._changed:
            self.state, self.reason = "stopped", error.message
            self._changed.notify_all()
        self._on_fatal(error)

    def _seal_recovered(self) -> None:
        last = self._commits.last_sequence(self._journal.identity)
        for buffer in self._recovered:
            if buffer.sequence <= last:
                self._committed(buffer)
            else:
                self._seal(buffer)
        self._recovered = []

    def _seal(self, buffer: Buffer) -> None:
        pause = threading.Event()
        for attempt in range(1_000_000):
            try:
                self._sealer.seal(self._journal.identity, buffer)
                return
            except OSError as error:
                # Disk full or failing: the rows stay journaled, intake refuses at its bound, and this goes on trying.
                log.error("seal_failed", shard=self.number, sequence=buffer.sequence, error=error.strerror)
                pause.wait(min(0.1 * 2**attempt, 5.0))

    def _next_buffer(self) -> Buffer | None:
        """Wait until the open buffer is due, cut it and open the next; None when drained."""
        with self._changed:
            while True:
                if self.state == "stopped":
                    if self._stopping:
                        return None
                    self._changed.wait()
                    continue
                due_s = self._due_s()
                if due_s <= 0:
                    return self._cut()
                if self._stopping:
                    return self._cut() if self._buffer.rows else None
                self._changed.wait(min(due_s, self._settings.seal_age_s))
                self._trimming.trim(self._clock.monotonic_s())

    def _due_s(self) -> float:
        if self._buffer.opened_at_s is None:
            return self._settings.seal_age_s
        if self._buffer.size_bytes >= self._settings.seal_bytes:
            return 0.0
        return self._settings.seal_age_s - (self._clock.monotonic_s() - self._buffer.opened_at_s)

    def _cut(self) -> Buffer:
        buffer = self._buffer
        buffer.totals = {tenant: counts.copy() for tenant, counts in self._totals.items()}
        self._history.note(buffer.sequence, buffer.totals)
        self._journal.seal_segment()
        self._journal.open_segment(buffer.sequence + 1, opening_of(buffer.totals))
        self._buffer = Buffer(buffer.sequence + 1)
        return buffer

    def _committed(self, buffer: Buffer) -> None:
        with self._changed:
            self._held_bytes -= buffer.size_bytes
            self._last_commit_s = self._clock.monotonic_s()
            self._committed_sequence = buffer.sequence
            self._trimming.take(buffer, self._last_commit_s)
            self._changed.notify_all()

    # Accounts

    def ledger(self) -> dict[str, object]:
        """Totals now, and accepted events at the end of each remembered seal, by journal and tenant."""
        with self._lock:
            return {
                "shard": self.number,
                "state": self.state,
                "reason": self.reason,
                "journal": self._journal.identity,
                "totals": {tenant: counts.as_dict() for tenant, counts in self._totals.items()},
                "history": {self._journal.identity: self._history.entries()},
                "buffered_events": self._buffer.rows,
                "held_bytes": self._held_bytes,
                "lag_s": self._lag_s(),
                "committed_sequence": self._committed_sequence,
            }

    def _lag_s(self) -> float:
        """Age of the oldest row that is not committed, 0 when there is none."""
        if self._held_bytes == 0:
            return 0.0
        opened = self._buffer.opened_at_s
        since = self._last_commit_s if opened is None else min(opened, max(self._last_commit_s, opened - 60.0))
        return max(0.0, self._clock.monotonic_s() - since)

    def drain(self) -> None:
        """Refuse new batches, commit everything, trim, and let the journal go."""
        with self._changed:
            self._stopping = True
            if self.state == "serving":
                self.state, self.reason = "draining", "the hub is stopping"
            self._changed.notify_all()
        self._thread.join()
        self._sealer.wait()
        with self._lock:
            self._trimming.trim(self._clock.monotonic_s())
            self._journal.close()
            self._trimming.close()
