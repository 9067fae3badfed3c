"""Bounded memory of keys: which event ids a shard has taken, and which parts of a call were already told.

Open addressing in two arrays, probed by compiled loops. Two generations: when the young one is full it becomes the old
one, so at least `limit` of the latest keys are remembered and at most twice as many.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cluster.compiled import compiled
from cluster.hashing import frozen

Keys = npt.NDArray[np.uint64]
Bits = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]

_SMALLEST: Final = 1 << 12
_NO_BOUND: Final = 1 << 62
_NEW: Final = np.uint8(0x80)  # top bit of a slot's bits: it is used
_TOLD: Final = np.uint8(0x7F)
_ONE: Final = np.uint64(1)


class _Slots(NamedTuple):
    """Open addressing: a key lies at the slot that its first word says, or behind it with no free slot between.

    Attributes:
        keys: (slots, 2); slots are a power of two and half of them at least are free, so every probe ends.
        bits: (slots,), 0 where free; apart from the keys, so that it stays near the processor.
    """

    keys: Keys
    bits: Bits


class _Batch(NamedTuple):
    """Keys to add, and what is answered.

    Attributes:
        keys, bits: (n, 2) and (n,), frozen.
        found, before: (n,), written.
    """

    keys: Keys
    bits: Bits
    found: Flags
    before: Bits


class _Tellers(NamedTuple):
    """Keys by the row that they belong to, and what each row tells.

    Attributes:
        keys, owners, before: (m, 2), (m,), (m,), frozen: row numbers, ascending, and bits that the key had elsewhere.
        told: (n,), in: what the row tells; out: what nobody told before it.
    """

    keys: Keys
    owners: Rows
    before: Bits
    told: Bits


class SeenTable:
    """A map from 128-bit keys to seven bits, grown fourfold."""

    def __init__(self) -> None:
        self.size = 0
        self._slots = _free(_SMALLEST)

    def find(self, keys: Keys) -> tuple[Flags, Bits]:
        """Whether each key (n, 2) is here, and its bits (0 where it is not)."""
        found, bits = np.zeros(len(keys), np.bool_), np.zeros(len(keys), np.uint8)
        self.look(keys, found, bits)
        return found, bits

    def look(self, keys: Keys, found: Flags, bits: Bits) -> None:
        """As `find`, joined into what stands in `found` and `bits`, (n,) each."""
        if self.size:
            _look(self._slots, frozen(keys), found, bits)

    def exchange(self, keys: Keys, bits: Bits) -> tuple[Flags, Bits]:
        """Add keys or join bits into those here; what was known before is returned as `find` would.

        Args:
            keys: (n, 2), taken in order: one that comes again is known.
            bits: (n,) below 128.
        """
        batch = _Batch(frozen(keys), frozen(bits), np.zeros(len(keys), np.bool_), np.zeros(len(keys), np.uint8))
        self.add(batch, _NO_BOUND)
        return batch.found, batch.before

    def add(self, batch: _Batch, limit: int) -> int:
        """Exchange keys while fewer than `limit` are here, one at least; how many were taken."""
        self._reserve(len(batch.keys), limit)
        taken, self.size = _exchange(self._slots, batch, self.size, limit)
        return int(taken)

    def tell(self, tellers: _Tellers, limit: int) -> int:
        """Rows tell of their keys, while no more than `limit` are here, one row at least; how many keys were taken."""
        self._reserve(len(tellers.keys), limit)
        taken, self.size = _tell(self._slots, tellers, self.size, limit)
        return int(taken)

    def _reserve(self, more: int, limit: int) -> None:
        size = min(self.size + more, max(limit, more))
        slots = len(self._slots.bits)
        if size * 2 <= slots:
            return
        while size * 2 > slots:
            slots *= 4
        grown = _free(slots)
        _move(self._slots, grown)
        self._slots = grown


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
        self._old.look(keys, found, bits)
        return found, bits

    def exchange(self, keys: Keys, bits: Bits | None = None) -> tuple[Flags, Bits]:
        """Remember keys, in order; what was known before each is returned as `find` would."""
        size = len(keys)
        batch = _Batch(
            frozen(keys),
            frozen(np.zeros(size, np.uint8) if bits is None else bits),
            np.zeros(size, np.bool_),
            np.zeros(size, np.uint8),
        )
        found, before = batch.found, batch.before
        while True:
            taken = self._young.add(batch, self._limit)
            self._old.look(batch.keys[:taken], batch.found[:taken], batch.before[:taken])
            if taken == len(batch.keys):
                return found, before
            batch = _Batch(batch.keys[taken:], batch.bits[taken:], batch.found[taken:], batch.before[taken:])
            self._turn()

    def tell(self, keys: Keys, owners: Rows, told: Bits) -> Bits:
        """What each row tells that nobody told before, rows taken in order.

        A row's keys name one thing: each of them then has the bits that any of them had, and what the row told.

        Args:
            keys, owners: (m, 2) and (m,), the keys of a row next to each other, with its number, ascending.
            told: (n,) below 128.

        Raises:
            ValueError: an owner is none of the n rows.
        """
        if len(owners) and (owners.min() < 0 or owners.max() >= len(told)):
            raise ValueError(f"keys belong to rows {owners.min()} to {owners.max()} of {len(told)}")
        first = told.copy()
        keys, owners = frozen(keys), frozen(owners)
        while len(keys):
            _, before = self._old.find(keys)
            taken = self._young.tell(_Tellers(keys, owners, frozen(before), first), self._limit)
            keys, owners = keys[taken:], owners[taken:]
            if len(keys):
                self._turn()
        return first

    def _turn(self) -> None:
        self._old, self._young = self._young, SeenTable()
        self.turns += 1


def first_of_each(keys: Keys) -> Flags:
    """True for the first row of each distinct key.

    Args:
        keys: (n, 2) uint64.
    """
    found, _ = SeenTable().exchange(keys, np.zeros(len(keys), np.uint8))
    return ~found


def _free(slots: int) -> _Slots:
    return _Slots(np.zeros((slots, 2), np.uint64), np.zeros(slots, np.uint8))


@compiled
def _place(keys: Keys, bits: Bits, high: np.uint64, low: np.uint64) -> np.uint64:
    """The slot of a key, or the free one where it belongs."""
    last = np.uint64(bits.size) - _ONE
    slot = high & last
    while bits[slot] and (keys[slot, 0] != high or keys[slot, 1] != low):
        slot = (slot + _ONE) & last
    return slot


@compiled
def _look(slots: _Slots, wanted: Keys, found: Flags, before: Bits) -> None:
    keys, bits = slots
    for row in range(len(wanted)):
        held = bits[_place(keys, bits, wanted[row, 0], wanted[row, 1])]
        if held:
            found[row] = True
            before[row] |= held & _TOLD


@compiled
def _exchange(slots: _Slots, batch: _Batch, size: int, limit: int) -> tuple[int, int]:
    """Keys taken, and the table's size then."""
    keys, bits = slots
    wanted, told, found, before = batch
    for row in range(len(wanted)):
        if size >= limit and size:
            return row, size
        high, low = wanted[row, 0], wanted[row, 1]
        slot = _place(keys, bits, high, low)
        if bits[slot]:
            found[row] = True
            before[row] |= bits[slot] & _TOLD
        else:
            keys[slot, 0], keys[slot, 1] = high, low
            size += 1
        bits[slot] |= told[row] | _NEW
    return len(wanted), size


@compiled
def _tell(slots: _Slots, tellers: _Tellers, size: int, limit: int) -> tuple[int, int]:
    """Keys taken, and the table's size then."""
    keys, bits = slots
    wanted, owners, before, told = tellers
    start, count = 0, len(wanted)
    while start < count:
        owner, end, known = owners[start], start, np.uint8(0)
        while end < count and owners[end] == owner:
            known |= before[end] | bits[_place(keys, bits, wanted[end, 0], wanted[end, 1])]
            end += 1
        if size + end - start > limit and size:
            return start, size
        for one in range(start, end):
            slot = _place(keys, bits, wanted[one, 0], wanted[one, 1])
            if not bits[slot]:
                keys[slot, 0], keys[slot, 1] = wanted[one, 0], wanted[one, 1]
                size += 1
            bits[slot] |= known | told[owner] | _NEW
        told[owner] &= ~known
        start = end
    return count, size


@compiled
def _move(slots: _Slots, grown: _Slots) -> None:
    keys, bits = slots
    for slot in range(bits.size):
        if bits[slot]:
            place = _place(grown.keys, grown.bits, keys[slot, 0], keys[slot, 1])
            grown.keys[place, 0], grown.keys[place, 1] = keys[slot, 0], keys[slot, 1]
            grown.bits[place] = bits[slot]
