"""Keys on disk: event ids and told calls of trimmed segments, so that a restart recognises repeats.

Two generations of one append-only file, as in memory: `keys-<n>.bin`, 24 bytes a key (high, low, purpose and bits).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import numpy as np

from actors.seen import Bits, Keys, Seen, first_of_each

_WORDS: Final = 3
_EVENT: Final = np.uint64(0)
_CALL: Final = np.uint64(1 << 8)


class KeyFile:
    """Append-only memory of one journal's keys; at most two generations lie on disk."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        numbers = _numbers(folder)
        self._number = numbers[-1] if numbers else 1
        self._file = os.open(self._path(self._number), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        self._size = os.fstat(self._file).st_size // (8 * _WORDS)

    def append(self, events: Keys, calls: Keys, bits: Bits) -> None:
        """Write keys; durable after `sync`."""
        rows = np.zeros((len(events) + len(calls), _WORDS), np.uint64)
        rows[: len(events), :2] = events
        rows[: len(events), 2] = _EVENT
        rows[len(events) :, :2] = calls
        rows[len(events) :, 2] = _CALL | bits.astype(np.uint64)
        if self._size and self._size + len(rows) > 2 * self._limit:
            self._turn()
        os.write(self._file, rows.tobytes())
        self._size += len(rows)

    def sync(self) -> None:
        """fsync; afterwards the segments whose keys were appended may be removed."""
        os.fdatasync(self._file)

    def close(self) -> None:
        os.close(self._file)

    def _turn(self) -> None:
        self.sync()
        os.close(self._file)
        for number in _numbers(self._folder)[:-1]:
            self._path(number).unlink()
        self._number += 1
        self._file = os.open(self._path(self._number), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        self._size = 0

    def _path(self, number: int) -> Path:
        return self._folder / f"keys-{number:06d}.bin"


def recall(folder: Path, events: Seen, calls: Seen) -> int:
    """Teach `events` and `calls` what the key files of a journal folder hold; a torn last row is left out.

    Returns:
        Keys read.
    """
    total = 0
    for number in _numbers(folder):
        content = (folder / f"keys-{number:06d}.bin").read_bytes()
        rows = np.frombuffer(content[: len(content) // (8 * _WORDS) * 8 * _WORDS], np.uint64).reshape(-1, _WORDS)
        total += len(rows)
        for start in range(0, len(rows), 65_536):
            _teach(rows[start : start + 65_536], events, calls)
    return total


def _teach(rows: Keys, events: Seen, calls: Seen) -> None:
    is_call = rows[:, 2] >= _CALL
    keys = np.ascontiguousarray(rows[~is_call, :2])
    events.exchange(keys[first_of_each(keys)])
    keys, bits = np.ascontiguousarray(rows[is_call, :2]), (rows[is_call, 2] & np.uint64(0x7F)).astype(np.uint8)
    while len(keys):
        # A call told of twice stands here twice; bits of both are joined.
        first = first_of_each(keys)
        calls.exchange(keys[first], bits[first])
        keys, bits = keys[~first], bits[~first]


def _numbers(folder: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("keys-")) for path in folder.glob("keys-*.bin"))
