"""Senders of a chaos run: they retry, repeat, mix and re-order what they sent, and remember what they were told."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx2

from cluster.sdk.client import utc
from tests.journeys.local_hub import LocalHub

SENDERS = 2
BATCH_ROWS = 100
PACE_S = 0.05
# Part of new batches that hold a row no door can read, and part of sendings that repeat acknowledged rows.
_BAD_SHARE, _REPEAT_SHARE = 0.1, 0.15
_TIMEOUT_S = 5.0


@dataclass
class Told:
    """What senders were told; `changed` guards it."""

    sent: int = 0
    acknowledged: set[str] = field(default_factory=set)
    # Names in rows that were refused for good, and that the hub promised to keep.
    refused: set[str] = field(default_factory=set)
    answers: Counter[str] = field(default_factory=Counter)
    # What no sender should be told, at most a few.
    wrong: list[str] = field(default_factory=list)
    # When the sending of the latest acknowledged batch began, monotonic seconds.
    latest_began_s: float = 0.0
    changed: threading.Condition = field(default_factory=threading.Condition)


@dataclass(frozen=True)
class Batch:
    """Rows of one body: name of each event, its line, and whether a door can read it."""

    rows: tuple[tuple[str, bytes, bool], ...]


class Senders:
    """Threads that send until stopped; each with its own random choices, drawn from the seed."""

    def __init__(self, hub: LocalHub, seed: int) -> None:
        self.told = Told()
        # Seconds by which the clocks of all senders are wrong.
        self.clock_offset_s = 0.0
        self._hub = hub
        self._pending: list[Batch] = []
        self._known: list[Batch] = []
        self._paused = threading.Event()
        self._stopped = threading.Event()
        self._busy = SENDERS
        self._threads = [threading.Thread(target=self._run, args=(Random(f"{seed}-{n}"),)) for n in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    def wait_acknowledged(self, since_s: float, *, deadline_s: float) -> float:
        """Seconds from `since_s` until a batch was acknowledged whose sending began after it.

        Raises:
            TimeoutError: none was.
        """
        with self.told.changed:
            if not self.told.changed.wait_for(lambda: self.told.latest_began_s >= since_s, deadline_s):
                raise TimeoutError(f"no batch was acknowledged for {deadline_s:.0f} s")
        return time.monotonic() - since_s

    def wait_refused(self, before: int, *, deadline_s: float) -> bool:
        """Whether a batch is refused or unanswered beyond the `before` there were."""
        with self.told.changed:
            return self.told.changed.wait_for(lambda: self.unanswered() > before, deadline_s)

    def unanswered(self) -> int:
        """Sendings that ended without an acknowledgement."""
        return sum(count for answer, count in self.told.answers.items() if answer != "202")

    def pause(self, *, deadline_s: float) -> None:
        """Send what is not acknowledged until it is, then nothing.

        Raises:
            TimeoutError: something stays unacknowledged.
        """
        self._paused.set()
        with self.told.changed:
            if not self.told.changed.wait_for(lambda: self._busy == 0, deadline_s):
                raise TimeoutError(f"{len(self._pending)} batches were not acknowledged in {deadline_s:.0f} s")

    def resume(self) -> None:
        with self.told.changed:
            self._busy = SENDERS
            self._paused.clear()
            self.told.changed.notify_all()

    def stop(self) -> None:
        self._stopped.set()
        self.resume()
        for thread in self._threads:
            thread.join()

    def _run(self, random: Random) -> None:
        with httpx2.Client(timeout=_TIMEOUT_S, headers={"authorization": f"Bearer {self._hub.key}"}) as client:
            while not self._stopped.is_set():
                batch = self._next(random)
                if batch is None:
                    self._rest()
                else:
                    self._send(client, batch)
                    self._stopped.wait(PACE_S * random.random() * 2)

    def _rest(self) -> None:
        with self.told.changed:
            self._busy -= 1
            self.told.changed.notify_all()
            self.told.changed.wait_for(lambda: not self._paused.is_set() or self._stopped.is_set())

    def _next(self, random: Random) -> Batch | None:
        """A batch that was not acknowledged, in another order; rows known to the hub among others; or a new one."""
        with self.told.changed:
            paused = self._paused.is_set()
            if self._pending and (paused or random.random() < 0.5):
                batch = self._pending.pop(random.randrange(len(self._pending)))
                return Batch(tuple(random.sample(batch.rows, len(batch.rows))))
            if paused:
                return None
            if self._known and random.random() < _REPEAT_SHARE:
                known = random.choice(self._known).rows
                rows = [*random.sample(known, len(known) // 2), *self._new(random).rows[: BATCH_ROWS // 2]]
                return Batch(tuple(random.sample(rows, len(rows))))
            return self._new(random)

    def _new(self, random: Random) -> Batch:
        name = f"{random.getrandbits(64):016x}"
        at = utc(int((time.time() + self.clock_offset_s) * 1e6))
        rows = [(f"{name}-{row}", line(f"{name}-{row}", at, row), True) for row in range(BATCH_ROWS)]
        if random.random() < _BAD_SHARE:
            rows[0] = (f"{name}-bad", line(f"{name}-bad", "never", 0), False)
        return Batch(tuple(rows))

    def _send(self, client: httpx2.Client, batch: Batch) -> None:
        began_s = time.monotonic()
        try:
            answer = client.post(
                f"{self._hub.url}/api/v1/events",
                content=b"\n".join(text for _, text, _ in batch.rows),
                headers={"content-type": "application/x-ndjson"},
            )
            status, body = str(answer.status_code), answer.content
        except (httpx2.TransportError, OSError, AssertionError) as error:
            # The hub's state file names its address; while it starts again there may be none.
            status, body = type(error).__name__, b""
        with self.told.changed:
            self.told.answers[status] += 1
            self.told.sent += len(batch.rows)
            if status == "202":
                self._acknowledged(batch, json.loads(body), began_s)
            else:
                self._pending.append(batch)
                if status.isdigit() and status not in ("429", "503"):
                    self._wrong(f"{status}: {body[:200]!r}")
            self.told.changed.notify_all()
        if status != "202":
            self._stopped.wait(0.2)

    def _acknowledged(self, batch: Batch, receipt: dict[str, Any], began_s: float) -> None:
        good = {name for name, _, is_good in batch.rows if is_good}
        bad = {name for name, _, is_good in batch.rows if not is_good}
        told = self.told
        if receipt["refused"] != len(bad) or receipt["accepted"] + receipt["repeated"] != len(good):
            self._wrong(f"of {len(good)} good and {len(bad)} bad rows: {receipt}")
        if receipt["accepted"] > len(good - told.acknowledged):
            self._wrong(f"{receipt['accepted']} accepted, {len(good - told.acknowledged)} were not acknowledged before")
        told.acknowledged |= good
        told.refused |= bad
        told.latest_began_s = max(told.latest_began_s, began_s)
        self._known.append(batch)
        del self._known[:-200]

    def _wrong(self, what: str) -> None:
        if len(self.told.wrong) < 20:
            self.told.wrong.append(what)


def line(name: str, at: str, row: int) -> bytes:
    """One event as NDJSON; `at` may be no instant."""
    fields: dict[str, Any] = {
        "event_id": name,
        "occurred_at": at,
        "module": "gateway",
        "kind": "gateway.request",
        "operation": "chat",
        "model": f"model-{row % 3}",
        "status": "ok",
        "request_id": name,
        "latency_ms": 10.0 + row,
        "input_tokens": row,
        "output_tokens": 1,
    }
    return json.dumps(fields).encode()
