"""How `record` works: bounds, batches, the spool, what happens when there is no room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from cluster.errors import RequestInvalid

WhenFull = Literal["drop_newest", "drop_oldest", "block"]
SpoolSync = Literal["batch", "never"]

_POLICIES: Final = ("drop_newest", "drop_oldest", "block")
_SYNCS: Final = ("batch", "never")
_ABOVE_ZERO: Final = ("batch_events", "batch_bytes", "batch_age_s", "queue_events", "queue_bytes", "spool_bytes")


@dataclass(frozen=True, slots=True)
class Refused:
    """An event that will never be taken.

    Attributes:
        index: its place in the body it was sent in, from 0.
        code: as docs/api.md lists them, or "not_encodable" where it never left the program.
        message: may quote the event; not for logs that others read.
        event_id: "" where it cannot be told.
    """

    index: int
    code: str
    message: str
    event_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """How events that were recorded are kept and sent.

    Attributes:
        batch_events, batch_bytes, batch_age_s: a batch is cut when it reaches one of these; bytes before compression.
        queue_events, queue_bytes: bounds of what waits in memory.
        when_full: "drop_newest" drops the event being recorded, "drop_oldest" what waits longest, "block" makes
            `record` wait.
        spool: folder for what a hub that is away has not taken; one process and one tenant for each. Event text is
            written there, readable by its owner only.
        spool_bytes: bound of the files in it.
        spool_after_s: a batch not acknowledged by then goes to disk.
        spool_sync: "batch" makes every batch durable (fdatasync) before it counts as spooled; "never" survives the
            end of the process but not of the machine.
        close_s: what `close` waits for acknowledgements at most, at the end of the program too.
        on_refused, on_dropped: hear of refused events, and of the number of events dropped and why. They are called
            by threads of the client, or inside `record`; they should return quickly.
    """

    batch_events: int = 2_000
    # Bodies up to this size are never taken for a compression bomb, however repetitive they are.
    batch_bytes: int = 1024 * 1024
    batch_age_s: float = 1.0
    queue_events: int = 100_000
    queue_bytes: int = 64 * 1024 * 1024
    when_full: WhenFull = "drop_newest"
    spool: Path | None = None
    spool_bytes: int = 256 * 1024 * 1024
    spool_after_s: float = 2.0
    spool_sync: SpoolSync = "batch"
    close_s: float = 5.0
    on_refused: Callable[[Refused], None] | None = None
    on_dropped: Callable[[int, str], None] | None = None

    def __post_init__(self) -> None:
        for name in _ABOVE_ZERO:
            if not getattr(self, name) > 0:
                raise RequestInvalid(f"{name} must be above 0")
        for name in ("spool_after_s", "close_s"):
            if not getattr(self, name) >= 0:
                raise RequestInvalid(f"{name} must not be below 0")
        if self.when_full not in _POLICIES:
            raise RequestInvalid(f"when_full={self.when_full!r} is not one of {', '.join(_POLICIES)}")
        if self.spool_sync not in _SYNCS:
            raise RequestInvalid(f"spool_sync={self.spool_sync!r} is not one of {', '.join(_SYNCS)}")
