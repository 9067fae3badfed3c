"""Bounded memory of keys: which event ids a shard has taken, and which parts of a call were already told.

Open addressing in NumPy arrays, probed for a whole batch at a time. Two generations: when the young one is full it
becomes the old one, so at least `limit` of the latest keys are remembered and at most twice as many.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
Bits = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]

_SMALLEST: Final = 1 << 12
_NEW: Final = np.uint8(0x80)  # top bit of `_bits`: the slot is used


class SeenTable:
    """A map from 128-bit keys to seven bits, grown by doubling."""

    def __init__(self) -> None:
        self.size = 0
        self._slots = _SMALLEST
        self._clear()

    def _clear(self) -> None:
        self._high = np.zeros(self._slots, np.uint64)
        self._low = np.zeros(self._slots, np.uint64)
        self._bits = np.zeros(self._slots, np.uint8)

    def find(self, keys: Keys) -> tuple[Flags, Bits]:
        """Whether each key (n, 2) is here, and its bits (0 where it is not)."""
        found = np.zeros(len(keys), np.bool_)
        bits = np.zeros(len(keys), np.uint8)
        high, low = keys[:, 0], keys[:, 1]
        pending = np.arange(len(keys))
        slot = self._home(high)
        while pending.size:
            here = slot[pending]
            held = self._bits[here]
            used = held != 0
            same = used & (self._high[here] == high[pending]) & (self._low[here] == low[pending])
            hits = pending[same]
            found[hits] = True
            bits[hits] = held[same] & ~_NEW
            pending = pending[used & ~same]
            slot[pending] = (slot[pending] + 1) & (self._slots - 1)
        return found, bits

    def exchange(self, keys: Keys, bits: Bits) -> tuple[Flags, Bits]:
        """Add keys or join bits into those here; what was known before is returned as `find` would.

        Args:
            keys: (n, 2), distinct among themselves.
            bits: (n,) below 128.
        """
        self._reserve(self.size + len(keys))
        found = np.zeros(len(keys), np.bool_)
        before = np.zeros(len(keys), np.uint8)
        high, low = keys[:, 0], keys[:, 1]
        pending = np.arange(len(keys))
        slot = self._home(high)
        while pending.size:
            here = slot[pending]
            held = self._bits[here]
            free = held == 0
            # Several keys may want one free slot: the last to write wins it, the others probe on.
            claim, claimed = pending[free], here[free]
            self._high[claimed] = high[claim]
            self._low[claimed] = low[claim]
            self._bits[claimed] = _NEW
            same = (self._high[here] == high[pending]) & (self._low[here] == low[pending])
            known = same & ~free
            hits = pending[known]
            found[hits] = True
            before[hits] = held[known] & ~_NEW
            self._bits[here[same]] |= bits[pending[same]]
            self.size += int(same.sum()) - int(known.sum())
            pending = pending[~same]
            slot[pending] = (slot[pending] + 1) & (self._slots - 1)
        return found, before

    def _home(self, high: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        return (high & np.uint64(self._slots - 1)).astype(np.int64)

    def _reserve(self, size: int) -> None:
        if size * 2 <= self._slots:
            return
        used = self._bits != 0
        keys = np.column_stack([self._high[used], self._low[used]])
        bits = self._bits[used] & ~_NEW
        while size * 2 > self._slots:
            self._slots *= 4
        self._clear()
        self.size = 0
        for start in range(0, len(keys), 65_536):
            self.exchange(keys[start : start + 65_536], bits[start : start + 65_536])


class Seen:
    """The latest `limit` keys at least, twice as many at most."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._young = SeenTable()
        self._old = SeenTable()
        self.turns = 0

    def __len__(self) -> int:
        return self._young.size + self._old.size

    def find(self, keys: Keys) -> tuple[Flags, Bits]:
        """Whether each key (n, 2) was seen in the window, and the bits told for it."""
        found, bits = self._young.find(keys)
        if self._old.size:
            older, old_bits = self._old.find(keys)
            found |= older
            bits |= old_bits
        return found, bits

    def exchange(self, keys: Keys, bits: Bits | None = None) -> tuple[Flags, Bits]:
        """Remember keys, distinct among themselves; what was known before is returned as `find` would."""
        if bits is None:
            bits = np.zeros(len(keys), np.uint8)
        if self._young.size and self._young.size + len(keys) > self._limit:
            self._old, self._young = self._young, SeenTable()
            self.turns += 1
        found, before = self._young.exchange(keys, bits)
        if self._old.size:
            older, old_bits = self._old.find(keys)
            found |= older
            before |= old_bits
        return found, before


def first_of_each(keys: Keys) -> Flags:
    """True for the first row of each distinct key.

    Args:
        keys: (n, 2) uint64.
    """
    order = np.argsort(keys[:, 0], kind="stable")
    ranked = keys[order, 0]
    equal = ranked[1:] == ranked[:-1]
    first = np.ones(len(keys), np.bool_)
    if not equal.any():
        return first
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    sorted_keys = keys[order]
    again = (sorted_keys[1:] == sorted_keys[:-1]).all(axis=1)
    # lexsort is stable, so the first of each run is the earliest row.
    first[order[1:][again]] = False
    return first
