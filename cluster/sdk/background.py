"""What both clients do in the background: events that were recorded go out in batches, by threads of their own."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

from cluster.clock import Clock, SystemClock
from cluster.errors import RequestInvalid
from cluster.sdk.answers import Answer
from cluster.sdk.counts import Counts
from cluster.sdk.lifetimes import watch
from cluster.sdk.recording import Recording
from cluster.sdk.requests import Compression, Hub, Request
from cluster.sdk.retry import Attempts, Backoff, Trouble


class _Recorder(Protocol):
    """`cluster.sdk.recorder.Recorder`, which is imported with the first event."""

    def record(self, event: Mapping[str, Any]) -> bool: ...

    def counts(self) -> Counts: ...

    def flush(self, timeout_s: float) -> Counts: ...

    def close(self, timeout_s: float) -> Counts: ...

    def after_fork(self) -> None: ...


class _Connection(Protocol):
    """`cluster.sdk.connection.Connection`, which is imported with the first request."""

    def send(self, request: Request) -> Answer: ...

    def close(self) -> None: ...


class Background:
    """One hub, one key: the part that both clients share. For any number of threads.

    Args:
        url: base, e.g. http://127.0.0.1:8000.
        tenant: another tenant that an admin key covers; the key's own by default.
        deadline_s: budget of one request that is sent at once, retries included.
        timeout_s: budget of one try.
        recording: how `record` works.
        transport, clock, pause, chance: for tests; chance gives the jitter, in [0, 1).

    Raises:
        SpoolInUse, SpoolForeign: the spool of `recording` cannot be used.
        RequestInvalid: `recording` would block an event loop.
    """

    # Whether `record` may wait for room.
    _may_block: ClassVar = True

    def __init__(
        self,
        url: str,
        key: str,
        *,
        tenant: str | None = None,
        compression: Compression = "zstd",
        deadline_s: float = 120.0,
        timeout_s: float = 30.0,
        recording: Recording | None = None,
        transport: Any = None,
        clock: Clock | None = None,
        pause: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.url = url.rstrip("/")
        self.trouble = Trouble()
        self._key = key
        self._hub = Hub(self.url, tenant, compression)
        self._deadline_s = deadline_s
        self._timeout_s = timeout_s
        self._recording = recording or Recording()
        self._transport = transport
        self._clock = clock or SystemClock()
        self._pause = pause
        self._chance = chance
        if self._recording.when_full == "block" and not self._may_block:
            raise RequestInvalid("when_full='block' would block the event loop", hint="Use HubClient in a thread.")
        self._making = threading.Lock()
        self._connection: _Connection | None = None
        self._recorder: _Recorder | None = None
        watch(self)
        if self._recording.spool is not None:
            self._recorder = self._make_recorder()

    def record(self, event: Mapping[str, Any]) -> bool:
        """Hand an event over; it is sent in the background, in a batch with others.

        An event without an id gets one here, and one without a time gets this moment's, so that it is the same event
        however often it is sent. The event is written down before this returns; it may be changed afterwards.

        Returns:
            False where it was dropped for want of room, or refused because something in it has no form in JSON.

        Raises:
            ClientForked: this process was forked from the one that holds the spool.
        """
        recorder = self._recorder or self._make_recorder()
        return recorder.record(event)

    @property
    def counts(self) -> Counts:
        """What became of recorded events, now."""
        return self._recorder.counts() if self._recorder else Counts()

    def close_at_exit(self) -> None:
        """The program ends: what was recorded is sent, spooled, or counted as dropped."""
        self._close_background(None)

    def _close_background(self, timeout_s: float | None) -> Counts:
        wait_s = self._recording.close_s if timeout_s is None else timeout_s
        counts = self._recorder.close(wait_s) if self._recorder else Counts()
        if self._connection is not None:
            self._connection.close()
        return counts

    def after_fork(self) -> None:
        """This is a child: connections, threads and what waits belong to the parent."""
        self._making = threading.Lock()
        self._connection = None
        if self._recorder is not None:
            self._recorder.after_fork()

    def _attempts(self, request: Request) -> Attempts:
        """The tries of a request that is sent at once."""
        return Attempts(
            request.what, self._deadline_s, clock=self._clock, trouble=self.trouble, backoff=Backoff(self._chance)
        )

    def _send(self, request: Request) -> Answer:
        """One try."""
        connection = self._connection or self._make_connection()
        return connection.send(request)

    def _make_connection(self) -> _Connection:
        from cluster.sdk.connection import Connection  # noqa: PLC0415 - a third of a second, not before it is needed

        with self._making:
            if self._connection is None:
                self._connection = Connection(self.url, self._key, timeout_s=self._timeout_s, transport=self._transport)
            return self._connection

    def _make_recorder(self) -> _Recorder:
        from cluster.sdk.recorder import Recorder  # noqa: PLC0415 - many clients only read

        with self._making:
            if self._recorder is None:
                self._recorder = Recorder(
                    self._hub,
                    self._send,
                    self._recording,
                    clock=self._clock,
                    backoff=Backoff(self._chance),
                    trouble=self.trouble,
                )
            return self._recorder
