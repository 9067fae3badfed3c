"""What became of recorded events: every one of them is in exactly one of these numbers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of a batch that the hub answered: the sum is its rows."""

    acknowledged: int = 0
    repeated: int = 0
    refused: int = 0

    def __add__(self, other: Settlement) -> Settlement:
        return Settlement(
            self.acknowledged + other.acknowledged, self.repeated + other.repeated, self.refused + other.refused
        )


@dataclass(slots=True)
class Counts:
    """recorded = acknowledged + repeated + refused + spooled + dropped + pending, at any moment.

    Attributes:
        recorded: handed to `record`, and found in the spool at the start.
        acknowledged: the hub has them, for the first time.
        repeated: the hub had them before: an earlier try arrived though its answer did not.
        refused: the hub will never take them, or they have no form in JSON; `on_refused` heard of them.
        spooled: on disk, not yet sent.
        dropped: given up, by reason in `dropped_for`.
        pending: in memory, or being sent.
        recovered: of `recorded`, those found in the spool at the start.
        dropped_for: reason -> events: "queue_full", "spool_full", "spool_damaged", "spool_failed", "closed".
    """

    recorded: int = 0
    acknowledged: int = 0
    repeated: int = 0
    refused: int = 0
    spooled: int = 0
    dropped: int = 0
    pending: int = 0
    recovered: int = 0
    dropped_for: dict[str, int] = field(default_factory=dict)

    @property
    def settled(self) -> bool:
        """Nothing waits, neither in memory nor on disk."""
        return not (self.pending or self.spooled)

    @property
    def accounted(self) -> int:
        """The right side of the law."""
        return self.acknowledged + self.repeated + self.refused + self.spooled + self.dropped + self.pending

    def recover(self, rows: int) -> None:
        """Count rows found in the spool at the start."""
        self.recorded += rows
        self.recovered += rows
        self.spooled += rows

    def settle(self, settlement: Settlement) -> None:
        """Count an answered batch; the caller takes it out of where it was."""
        self.acknowledged += settlement.acknowledged
        self.repeated += settlement.repeated
        self.refused += settlement.refused

    def drop(self, rows: int, reason: str) -> None:
        """Count rows as given up; the caller takes them out of where they were."""
        self.dropped += rows
        self.dropped_for[reason] = self.dropped_for.get(reason, 0) + rows

    def copy(self) -> Counts:
        """As it is now."""
        return replace(self, dropped_for=dict(self.dropped_for))
