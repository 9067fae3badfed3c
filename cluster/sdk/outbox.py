"""Everything recorded and not yet settled: rows in memory, batches in memory, batches on disk, and the counts of all.

It has no thread of its own. The application adds rows; a packer cuts them into batches and moves those to disk that
wait too long; a courier asks for the oldest batch and tells what became of it. `turn` guards it all, and is never held
while something is compressed, written or sent.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from dataclasses import dataclass
from typing import Final

from cluster.clock import Clock
from cluster.sdk.batches import Batch, pack
from cluster.sdk.counts import Counts, Settlement
from cluster.sdk.recording import Recording
from cluster.sdk.requests import Compression
from cluster.sdk.row_queue import NEVER, RowQueue
from cluster.sdk.spool import Entry, Spool, SpoolFailed, SpoolFull

QUEUE_FULL: Final = "queue_full"
# A spool that has no room, or whose disk refuses, is asked again at this pace.
_SPOOL_AGAIN_S: Final = 1.0


@dataclass(slots=True, eq=False)
class Waiting:
    """A batch in memory.

    Attributes:
        entry: where it is on disk, once it went there; the courier may be sending it meanwhile.
        open: not yet accounted for.
        sending: the courier has it, so it is not the one to drop.
    """

    batch: Batch
    since_s: float
    entry: Entry | None = None
    open: bool = True
    sending: bool = False


class Outbox:
    """What waits, and the counts.

    Args:
        spool: open, with what was found in it.
    """

    def __init__(
        self, recording: Recording, *, clock: Clock, compression: Compression = "zstd", spool: Spool | None = None
    ) -> None:
        # The lock itself is quicker to take than its condition, and `add` is what an application waits for.
        self._lock = threading.Lock()
        self.turn = threading.Condition(self._lock)
        self.closed = False
        self.compression: Compression = compression
        self.counts = Counts()
        self._recording = recording
        self._clock = clock
        self._spool = spool
        self._rows = RowQueue(recording)
        self._held_bytes = 0
        self._packing = 0
        self._waiting: deque[Waiting] = deque()
        self._stored: deque[Entry] = deque(spool.found.entries if spool else ())
        self._sequence = len(self._stored)
        self._spool_again_s = 0.0
        self.counts.recover(sum(entry.rows for entry in self._stored))

    # The application's side.

    def add(self, row: bytes) -> tuple[bool, int, str]:
        """Take a row in; O(1), and waits only where `when_full` is "block".

        Returns:
            Whether it was taken, how many events were dropped over it (itself or older ones), and why.
        """
        with self._lock:
            dropped = self._make_room(row) if self._full(row) else 0
            self.counts.recorded += 1
            if self.closed or self._full(row):
                reason = "closed" if self.closed else QUEUE_FULL
                self.counts.drop(1, reason)
                return False, dropped + 1, reason
            self._held_bytes += len(row)
            self.counts.pending += 1
            if self._rows.add(row, self._clock.monotonic_s()):
                self.turn.notify_all()
            return True, dropped, QUEUE_FULL

    def refuse_one(self) -> None:
        """Count an event that has no form in JSON."""
        with self.turn:
            self.counts.recorded += 1
            self.counts.refused += 1

    def snapshot(self) -> Counts:
        """The counts at one moment."""
        with self._lock:
            return self.counts.copy()

    def wait_settled(self, timeout_s: float) -> bool:
        """Cut what was recorded before this call, and wait until it is acknowledged, refused or dropped."""
        deadline_s = self._clock.monotonic_s() + timeout_s
        with self.turn:
            upto = self._rows.cut_now()
            self.turn.notify_all()
            if not self.turn.wait_for(lambda: self._rows.taken >= upto, timeout_s):
                return False
            last = self._sequence
            left_s = max(0.0, deadline_s - self._clock.monotonic_s())
            return self.turn.wait_for(lambda: self._oldest_sequence() > last, left_s)

    # The packer's side.

    def wait_due(self) -> None:
        """Return when there is something to pack or to spool, or the outbox was closed."""
        with self.turn:
            while not self.closed:
                now_s = self._clock.monotonic_s()
                due_s = min(self._rows.due_s(now_s), self._spool_due_s(now_s))
                if due_s <= 0:
                    return
                self.turn.wait(None if due_s == NEVER else due_s)

    def pack(self, *, everything: bool = False) -> list[tuple[int, str]]:
        """Cut one batch if one is due, and spool what waited too long; or cut and spool everything now.

        Returns:
            How many events were dropped to make room on disk, and why.
        """
        while self._cut(everything) and everything:
            pass
        return self._spill(everything)

    def _cut(self, everything: bool) -> bool:
        with self.turn:
            now_s = self._clock.monotonic_s()
            if not self._rows or (not everything and self._rows.due_s(now_s) > 0):
                return False
            rows = self._rows.take(now_s)
            self._sequence += 1
            self._packing = self._sequence
        batch = pack(self._packing, rows, self.compression)
        with self.turn:
            self._waiting.append(Waiting(batch, now_s))
            self._packing = 0
            self.turn.notify_all()
        return True

    def _spill(self, everything: bool) -> list[tuple[int, str]]:
        if self._spool is None:
            return []
        with self.turn:
            due = everything or self._spool_due_s(self._clock.monotonic_s()) <= 0
            items = list(self._waiting) if due else []
        dropped: list[tuple[int, str]] = []
        for item in items:
            entry = self._store(item.batch, dropped)
            if entry is None:
                break
            with self.turn:
                kept = item.open
                if kept:
                    item.entry = entry
                    self._waiting.remove(item)
                    self._stored.append(entry)
                    self._held_bytes -= item.batch.held_bytes
                    self.counts.pending -= item.batch.rows
                    self.counts.spooled += item.batch.rows
                    self.turn.notify_all()
            if not kept:
                self._spool.settle(entry)
        return dropped

    def _store(self, batch: Batch, dropped: list[tuple[int, str]]) -> Entry | None:
        """The batch on disk; None where it has to stay in memory."""
        assert self._spool is not None
        while True:
            try:
                return self._spool.append(batch)
            except SpoolFull:
                if self._recording.when_full == "drop_oldest" and self._spool.fits(batch):
                    dropped.append((self._drop_segment(), "spool_full"))
                    continue
            except SpoolFailed:
                pass
            with self.turn:
                self._spool_again_s = self._clock.monotonic_s() + _SPOOL_AGAIN_S
            return None

    def _drop_segment(self) -> int:
        assert self._spool is not None
        segment = self._spool.drop_oldest()
        rows = 0
        with self.turn:
            while self._stored and self._stored[0].segment is segment:
                entry = self._stored.popleft()
                if entry.open:
                    entry.open = False
                    rows += entry.rows
            self.counts.spooled -= rows
            if rows:
                self.counts.drop(rows, "spool_full")
            self.turn.notify_all()
        return rows

    # The courier's side.

    def wait_oldest(self) -> None:
        """Return when there is a batch to send, or the outbox was closed."""
        with self.turn:
            self.turn.wait_for(lambda: self.closed or self._waiting or self._stored)

    def wait_closed(self, seconds: float) -> None:
        """Return after this time, or once the outbox was closed."""
        with self.turn:
            self.turn.wait_for(lambda: self.closed, seconds)

    def oldest(self) -> tuple[Waiting | Entry, Batch | None] | None:
        """The batch that waits longest, without its content where its bytes on disk are damaged."""
        with self.turn:
            if self._stored:
                # What is on disk is older than what is in memory.
                entry = self._stored[0]
            elif self._waiting:
                self._waiting[0].sending = True
                return self._waiting[0], self._waiting[0].batch
            else:
                return None
        assert self._spool is not None
        return entry, self._spool.read(entry)

    def put_back(self, item: Waiting | Entry) -> None:
        """The hub is away: the batch stays where it is."""
        if isinstance(item, Waiting):
            with self.turn:
                item.sending = False

    def settle(self, item: Waiting | Entry, settlement: Settlement) -> None:
        """The hub answered: take the batch out."""
        with self.turn:
            if not self._take_out(item):
                return
            self.counts.settle(settlement)
            self.turn.notify_all()
        self._forget(item)

    def drop(self, item: Waiting | Entry, reason: str) -> int:
        """Give a batch up; how many events that were."""
        with self.turn:
            if not self._take_out(item):
                return 0
            rows = item.batch.rows if isinstance(item, Waiting) else item.rows
            self.counts.drop(rows, reason)
            self.turn.notify_all()
        self._forget(item)
        return rows

    def stop(self) -> None:
        """Take nothing more in, and let everybody who waits go."""
        with self.turn:
            self.closed = True
            self.turn.notify_all()

    def close(self) -> int:
        """Spool what is in memory, drop what finds no room; how many events were dropped.

        After `stop`, when the packer has ended. What the courier tells afterwards is ignored.
        """
        dropped = sum(rows for rows, _ in self.pack(everything=True))
        with self.turn:
            items = list(self._waiting)
        dropped += sum(self.drop(item, "closed") for item in items)
        with self.turn:
            for entry in self._stored:
                # They stay on disk and stay counted as spooled.
                entry.open = False
        if self._spool is not None:
            self._spool.close()
        return dropped

    # Under `turn`.

    def _full(self, row: bytes) -> bool:
        limits = self._recording
        return self.counts.pending >= limits.queue_events or self._held_bytes + len(row) > limits.queue_bytes

    def _make_room(self, row: bytes) -> int:
        """What the policy asks for; how many events were dropped."""
        if self._recording.when_full == "drop_newest" or len(row) > self._recording.queue_bytes:
            return 0
        if self._recording.when_full == "block":
            self.turn.wait_for(lambda: self.closed or not self._full(row))
            return 0
        dropped = 0
        while self._full(row) and not self.closed:
            idle = next((item for item in itertools.islice(self._waiting, 2) if not item.sending), None)
            if idle is not None:
                self._take_out(idle)
                rows = idle.batch.rows
            elif self._rows:
                self._held_bytes -= self._rows.drop_oldest()
                self.counts.pending -= 1
                rows = 1
            else:
                break
            self.counts.drop(rows, QUEUE_FULL)
            dropped += rows
        return dropped

    def _spool_due_s(self, now_s: float) -> float:
        if self._spool is None or not self._waiting:
            return NEVER
        return max(self._waiting[0].since_s + self._recording.spool_after_s, self._spool_again_s) - now_s

    def _oldest_sequence(self) -> float:
        if self._stored:
            return self._stored[0].sequence
        if self._waiting:
            return self._waiting[0].batch.sequence
        return self._packing or NEVER

    def _take_out(self, item: Waiting | Entry) -> bool:
        if not item.open:
            return False
        item.open = False
        stored = item.entry if isinstance(item, Waiting) else item
        if stored is None:
            assert isinstance(item, Waiting)
            self._waiting.remove(item)
            self._held_bytes -= item.batch.held_bytes
            self.counts.pending -= item.batch.rows
            return True
        if isinstance(item, Waiting) and not stored.open:
            return False
        stored.open = False
        if stored in self._stored:
            self._stored.remove(stored)
        self.counts.spooled -= stored.rows
        return True

    def _forget(self, item: Waiting | Entry) -> None:
        stored = item.entry if isinstance(item, Waiting) else item
        if stored is not None and self._spool is not None:
            self._spool.settle(stored)
