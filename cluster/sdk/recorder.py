"""The background of `record`: one thread that packs, one that sends, and how they end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from cluster.clock import Clock
from cluster.errors import HubError
from cluster.sdk.answers import Answer
from cluster.sdk.batches import Encoder
from cluster.sdk.counts import Counts
from cluster.sdk.courier import LOG, Courier
from cluster.sdk.outbox import Outbox
from cluster.sdk.recording import Recording, Refused
from cluster.sdk.requests import Hub, Request
from cluster.sdk.retry import Backoff, Trouble
from cluster.sdk.spool import Spool

# After `close` a request under way may end within this time; what it tells then is not counted.
_JOIN_S: Final = 1.0
# Drops are told to the log with the first and then each time their number has doubled.
_FIRST_TOLD: Final = 1


class ClientForked(HubError):
    """This process was forked from the one that made the client, and its spool belongs to that one."""

    code = "client_forked"
    hint = "Make the client after the fork, each process with a spool folder of its own."


class Recorder:
    """Takes events and sees to the rest.

    Args:
        send: one try of one request; called by one thread.

    Raises:
        SpoolInUse, SpoolForeign: the spool cannot be used.
    """

    def __init__(
        self,
        hub: Hub,
        send: Callable[[Request], Answer],
        recording: Recording,
        *,
        clock: Clock,
        backoff: Backoff,
        trouble: Trouble,
    ) -> None:
        self._trouble = trouble
        self._hub = hub
        self._send = send
        self._recording = recording
        self._clock = clock
        self._backoff = backoff
        self._spool = _open(recording.spool, recording, hub.tenant or "") if recording.spool else None
        self._begin()
        if self._spool is not None:
            # What an earlier process left is sent though nothing is recorded.
            self._start()

    def _begin(self) -> None:
        self._forked = False
        self._threads: list[threading.Thread] = []
        self._starting = threading.Lock()
        self._dropped_told = _FIRST_TOLD
        self._encoder = Encoder(self._clock)
        self._outbox = Outbox(self._recording, clock=self._clock, compression=self._hub.compression, spool=self._spool)
        self._courier = Courier(
            self._outbox,
            self._hub,
            self._send,
            clock=self._clock,
            backoff=self._backoff,
            trouble=self._trouble,
            refused=self._told_refused,
            dropped=self._told_dropped,
        )

    def record(self, event: Mapping[str, Any]) -> bool:
        """Take an event in; False where it was refused or dropped at once."""
        if self._forked:
            raise ClientForked("this client's spool belongs to the process that forked this one")
        try:
            row = self._encoder.row(event)
        except (TypeError, ValueError, AttributeError) as error:
            self._outbox.refuse_one()
            LOG.warning("an event has no form in JSON: %s", type(error).__name__)
            self._told_refused(Refused(0, "not_encodable", str(error), ""))
            return False
        taken, dropped, reason = self._outbox.add(row)
        if dropped:
            self._told_dropped(dropped, reason)
        if not self._threads:
            self._start()
        return taken

    def counts(self) -> Counts:
        """What became of everything, now."""
        return self._outbox.snapshot()

    def flush(self, timeout_s: float) -> Counts:
        """Send what was recorded so far; returns when the hub has answered for it, or after the time."""
        if not self._forked:
            self._outbox.wait_settled(timeout_s)
        return self.counts()

    def close(self, timeout_s: float) -> Counts:
        """Flush, spool what is left, stop. Closing again changes nothing."""
        if self._forked or self._outbox.closed:
            return self.counts()
        if self._threads:
            self._outbox.wait_settled(timeout_s)
        self._outbox.stop()
        for thread in self._threads:
            # The packer ends with the batch at hand; only a request may take its time.
            thread.join(_JOIN_S)
        dropped = self._outbox.close()
        if dropped:
            self._told_dropped(dropped, "closed")
        return self.counts()

    def after_fork(self) -> None:
        """In the child: what waits belongs to the parent, which sends it; here it begins anew."""
        if self._spool is None:
            self._begin()
            return
        self._forked = True
        self._spool.abandon()

    def _start(self) -> None:
        with self._starting:
            if self._threads or self._outbox.closed:
                return
            self._threads = [
                threading.Thread(target=work, name=f"llmhub-{name}", daemon=True)
                for name, work in (("packer", self._pack), ("courier", self._deliver))
            ]
            for thread in self._threads:
                thread.start()

    def _pack(self) -> None:
        outbox = self._outbox
        while not outbox.closed:
            outbox.wait_due()
            for rows, reason in outbox.pack():
                self._told_dropped(rows, reason)

    def _deliver(self) -> None:
        outbox = self._outbox
        while not outbox.closed:
            wait_s = self._courier.deliver()
            if wait_s is None:
                outbox.wait_oldest()
            elif wait_s:
                outbox.wait_closed(wait_s)

    def _told_dropped(self, rows: int, reason: str) -> None:
        counts = self._outbox.counts
        if counts.dropped >= self._dropped_told:
            self._dropped_told = 2 * counts.dropped
            LOG.warning("%d events dropped so far, the last for %s", counts.dropped, reason)
        _call(self._recording.on_dropped, rows, reason)

    def _told_refused(self, refused: Refused) -> None:
        _call(self._recording.on_refused, refused)


def _open(folder: Path, recording: Recording, tenant: str) -> Spool:
    spool = Spool(folder, bytes_max=recording.spool_bytes, sync=recording.spool_sync, tenant=tenant)
    found = spool.found
    if found.entries:
        LOG.info("%d batches of an earlier process wait in the spool", len(found.entries))
    if found.cut_bytes or found.skipped_bytes:
        LOG.warning("spool: %d torn bytes cut, %d damaged bytes skipped", found.cut_bytes, found.skipped_bytes)
    return spool


def _call(callback: Callable[..., None] | None, *what: object) -> None:
    """Tell the application; its errors are its own and end nothing here."""
    if callback is None:
        return
    try:
        callback(*what)
    except Exception as error:
        LOG.warning("a callback of the application raised %s", type(error).__name__)
