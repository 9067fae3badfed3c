"""Taking turns: what several owners wait for is handed out to each in turn, however much one of them waits for."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class RoundRobin(Generic[Item]):
    """Waiting items by owner. Each owner's own come in their order; owners with items take turns, one item each."""

    def __init__(self) -> None:
        # The first owner is the next; no owner is kept without an item, so this is bounded by what waits.
        self._queues: dict[str, deque[Item]] = {}

    def __bool__(self) -> bool:
        return bool(self._queues)

    def add(self, owner: str, item: Item) -> None:
        """Wait behind the owner's other items."""
        self._queues.setdefault(owner, deque()).append(item)

    def first(self) -> Item:
        """The item that `take` would give; there must be one."""
        return next(iter(self._queues.values()))[0]

    def take(self) -> Item:
        """The next item, its owner then being the last in turn; there must be one."""
        owner = next(iter(self._queues))
        queue = self._queues.pop(owner)
        item = queue.popleft()
        if queue:
            self._queues[owner] = queue
        return item
