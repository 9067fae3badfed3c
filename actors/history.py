"""What a shard's journal had accepted at the end of each of its latest seals: the shard's side of the loss ledger."""

from __future__ import annotations

from collections import deque
from typing import Final

from actors.intake import Totals

# A reader's snapshot is never this many seals behind.
_SEALS: Final = 1024


class History:
    """Accepted events of each tenant, by seal."""

    def __init__(self) -> None:
        self._seals: deque[tuple[int, dict[str, int]]] = deque(maxlen=_SEALS)

    def note(self, sequence: int, totals: Totals) -> None:
        """Remember the totals at the end of a seal."""
        self._seals.append((sequence, {tenant: counts.accepted for tenant, counts in totals.items()}))

    def entries(self) -> list[tuple[int, dict[str, int]]]:
        """Seals from the oldest remembered one on."""
        return list(self._seals)
