"""Keys on disk: event ids and told calls of trimmed segments, so that a restart recognises repeats.

Two generations of one append-only file, as in memory: `keys-<n>.bin`, 24 bytes a key (high, low, purpose and bits).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import numpy as np

from actors.memory import Keys, Memory

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
        # A torn last row would put every later one out of step.
        self._cut()

    def append(self, keys: Keys) -> None:
        """Write keys; durable after `sync`.

        Raises:
            OSError: the disk refused; none of them is in the file.
        """
        ids = len(keys.ids)
        rows = np.zeros((ids + len(keys.calls), _WORDS), np.uint64)
        rows[:ids, :2] = keys.ids
        rows[:ids, 2] = _EVENT
        rows[ids:, :2] = keys.calls
        rows[ids:, 2] = _CALL | keys.bits.astype(np.uint64)
        if self._size and self._size + len(rows) > 2 * self._limit:
            self._turn()
        rest = rows.tobytes()
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            self._cut()
            raise
        self._size += len(rows)

    def sync(self) -> None:
        """fsync; afterwards the segments whose keys were appended may be removed."""
        os.fdatasync(self._file)

    def close(self) -> None:
        os.close(self._file)

    def _cut(self) -> None:
        os.ftruncate(self._file, self._size * 8 * _WORDS)

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


def recall(folder: Path, memory: Memory) -> int:
    """Teach `memory` what the key files of a journal folder hold; a torn last row is left out.

    Returns:
        Keys read.
    """
    total = 0
    for number in _numbers(folder):
        content = (folder / f"keys-{number:06d}.bin").read_bytes()
        rows = np.frombuffer(content[: len(content) // (8 * _WORDS) * 8 * _WORDS], np.uint64).reshape(-1, _WORDS)
        total += len(rows)
        for start in range(0, len(rows), 65_536):
            part = rows[start : start + 65_536]
            is_call = part[:, 2] >= _CALL
            bits = (part[is_call, 2] & np.uint64(0x7F)).astype(np.uint8)
            ids, calls = part[~is_call, :2], part[is_call, :2]
            memory.learn(Keys(np.ascontiguousarray(ids), np.ascontiguousarray(calls), bits))
    return total


def _numbers(folder: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("keys-")) for path in folder.glob("keys-*.bin"))
