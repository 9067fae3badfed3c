"""Rows that were recorded and are in no batch yet. Not locked: its owner is."""

from __future__ import annotations

from collections import deque
from typing import Final

from cluster.sdk.recording import Recording

NEVER: Final = float("inf")


class RowQueue:
    """Rows in the order they came, and when the next batch of them is due.

    Attributes:
        size_bytes: of all rows.
        added, taken: rows ever put in and ever taken out or dropped; the difference is its length.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._rows: deque[bytes] = deque()
        self._since_s = 0.0
        self._cut_upto = 0
        self.size_bytes = 0
        self.added = 0
        self.taken = 0

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: bytes, now_s: float) -> bool:
        """Put a row in; whether somebody who waits for a batch should look again."""
        first = not self._rows
        if first:
            self._since_s = now_s
        self._rows.append(row)
        self.size_bytes += len(row)
        self.added += 1
        return first or self._large()

    def cut_now(self) -> int:
        """What is in it is due at once; the number of `added` that is meant."""
        self._cut_upto = max(self._cut_upto, self.added)
        return self.added

    def due_s(self, now_s: float) -> float:
        """Seconds until a batch should be cut, 0 or less when now."""
        if not self._rows:
            return NEVER
        if self._large() or self.taken < self._cut_upto:
            return 0.0
        return self._since_s + self._recording.batch_age_s - now_s

    def take(self, now_s: float) -> list[bytes]:
        """The rows of one batch: at least one, whatever its size."""
        rows: list[bytes] = []
        size = 0
        limits = self._recording
        while self._rows and len(rows) < limits.batch_events:
            # The line break counts as well.
            size += len(self._rows[0]) + 1
            if rows and size > limits.batch_bytes:
                break
            rows.append(self._rows.popleft())
        self.taken += len(rows)
        self.size_bytes -= sum(map(len, rows))
        self._since_s = now_s
        return rows

    def drop_oldest(self) -> int:
        """Give the oldest row up; its bytes."""
        row = self._rows.popleft()
        self.taken += 1
        self.size_bytes -= len(row)
        return len(row)

    def _large(self) -> bool:
        return len(self._rows) >= self._recording.batch_events or self.size_bytes >= self._recording.batch_bytes
