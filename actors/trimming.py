"""Segments of committed seals: what they tell of ids and counts is kept, and after a grace they go."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import structlog

from actors.intake import Buffer
from actors.journal import segment_path
from actors.keys import KeyFile
from actors.recovery import write_totals

log = structlog.get_logger("trimming")


class Trimming:
    """The committed segments of one journal. Not thread-safe; the shard's lock guards it."""

    def __init__(self, folder: Path, *, key_limit: int, grace_s: float) -> None:
        self._folder = folder
        self._grace_s = grace_s
        self._keys = KeyFile(folder, key_limit)
        self._waiting: deque[tuple[float, Buffer]] = deque()

    def take(self, buffer: Buffer, now_s: float) -> None:
        """Keep the keys of a committed buffer; its segment may go after the grace.

        Raises:
            OSError: the disk refused the keys.
        """
        for keys in buffer.keys:
            self._keys.append(keys)
        # Without its rows: what trimming needs.
        self._waiting.append((now_s + self._grace_s, Buffer(buffer.sequence, totals=buffer.totals)))

    def trim(self, now_s: float) -> None:
        """Remove segments committed long enough ago; counts and keys are durable first."""
        done = [buffer for due_s, buffer in self._waiting if due_s <= now_s]
        if not done:
            return
        try:
            self._keys.sync()
            write_totals(self._folder, done[-1].sequence, done[-1].totals)
        except OSError as error:
            # No room for the counts: the segments stay for the next call.
            log.error("trim_failed", journal=self._folder.name, error=error.strerror)
            return
        for buffer in done:
            segment_path(self._folder, buffer.sequence).unlink(missing_ok=True)
            self._waiting.popleft()

    def close(self) -> None:
        self._keys.close()
