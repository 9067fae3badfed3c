"""Sends the oldest batch of an outbox and tells what became of it. What cannot be sent now stays where it is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import msgspec

from cluster.clock import Clock
from cluster.sdk.answers import Answer, NoAnswer, Receipt, receipt, refusal
from cluster.sdk.batches import Batch, event_id, pack, recoded, rows_of
from cluster.sdk.counts import Settlement
from cluster.sdk.outbox import Outbox
from cluster.sdk.recording import Refused
from cluster.sdk.requests import NDJSON, Hub, Request
from cluster.sdk.retry import AGAIN, Backoff, Trouble, retry_after_s

LOG: Final = logging.getLogger("llmhub.sdk")
# Wrong key or wrong address: that says nothing about the events, so they are kept until somebody mends it.
_NOT_THE_EVENTS: Final = frozenset({401, 403, 404, 407, 408})
# The hub fails at this batch and at no other: after so many tries it is halved, until the event that does it is found.
_FAILURES_MAX: Final = 8
_TOLD_MAX: Final = 100


class Away(Exception):
    """The hub took nothing now.

    Attributes:
        reason: short, and without anything that was sent.
        asked_s: what its Retry-After asks for.
        failed: the hub itself failed at the batch.
    """

    def __init__(self, reason: str, asked_s: float = 0.0, *, failed: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.asked_s = asked_s
        self.failed = failed


class Courier:
    """The only sender of one outbox.

    Args:
        send: one try of one request.
        refused: hears of at most a hundred refused events of a body.
        dropped: hears of events whose bytes on disk are damaged.
    """

    def __init__(
        self,
        outbox: Outbox,
        hub: Hub,
        send: Callable[[Request], Answer],
        *,
        clock: Clock,
        backoff: Backoff,
        trouble: Trouble,
        refused: Callable[[Refused], None],
        dropped: Callable[[int, str], None],
    ) -> None:
        self._outbox = outbox
        self._hub = hub
        self._send = send
        self._clock = clock
        self._backoff = backoff
        self._trouble = trouble
        self._refused = refused
        self._dropped = dropped
        self._failures = 0
        self._away_since_s: float | None = None

    def deliver(self) -> float | None:
        """Send the oldest batch once; seconds to wait before the next, None where there is none."""
        found = self._outbox.oldest()
        if found is None:
            return None
        item, batch = found
        if batch is None:
            if rows := self._outbox.drop(item, "spool_damaged"):
                self._dropped(rows, "spool_damaged")
            return 0.0
        try:
            settlement, refused = self._sent(batch)
        except Away as away:
            self._outbox.put_back(item)
            self._failures = self._failures + 1 if away.failed else 0
            self._told_away(away.reason)
            return self._backoff.next_s(away.asked_s)
        # Told before it counts: who flushes has heard of every refusal when the wait ends.
        self._tell(settlement.refused, refused)
        self._outbox.settle(item, settlement)
        self._failures = 0
        self._backoff.reset()
        self._told_back()
        return 0.0

    def _sent(self, batch: Batch) -> tuple[Settlement, list[Refused]]:
        """What the hub says of the batch, sent in pieces where it must be.

        Raises:
            Away: it took nothing, or not all pieces; the whole is sent again, and repeats are recognised.
        """
        answer = self._answer(batch)
        if answer.status < 300:
            return self._taken(batch, answer)
        if answer.status == 415 and batch.encoding == "zstd":
            self._outbox.compression = "gzip"
            return self._sent(recoded(batch, "gzip"))
        broken = answer.status >= 500 and self._failures >= _FAILURES_MAX
        if answer.status in AGAIN or answer.status in _NOT_THE_EVENTS or (answer.status >= 500 and not broken):
            self._trouble.count(answer.status)
            asked_s = retry_after_s(answer.retry_after, self._clock.now_us())
            failed = answer.status >= 500 and answer.status not in AGAIN
            raise Away(f"HTTP {answer.status} {refusal(answer).code}", asked_s, failed=failed)
        if (answer.status == 413 or broken) and batch.rows > 1:
            return self._in_halves(batch)
        reason = refusal(answer)
        rows = rows_of(batch)[:_TOLD_MAX]
        refused = [Refused(index, reason.code, reason.message, event_id(row)) for index, row in enumerate(rows)]
        return Settlement(refused=batch.rows), refused

    def _answer(self, batch: Batch) -> Answer:
        request = self._hub.packed_events(batch.body, NDJSON, encoding=batch.encoding, module=None)
        try:
            return self._send(request)
        except NoAnswer as error:
            self._trouble.count(0)
            raise Away(error.message.partition(":")[0]) from None
        except Exception as error:
            # Whatever it is, the thread must live and the batch be kept.
            self._trouble.count(0)
            raise Away(type(error).__name__) from error

    def _taken(self, batch: Batch, answer: Answer) -> tuple[Settlement, list[Refused]]:
        try:
            told = receipt(answer)
        except msgspec.MsgspecError:
            told = Receipt()
        if told.rows != batch.rows:
            # Somebody else answers in the hub's place: a login page, another service.
            raise Away(f"HTTP {answer.status}, no receipt for these rows")
        refused: list[Refused] = []
        if told.errors:
            rows = rows_of(batch)
            refused = [
                Refused(error.index, error.code, error.message, event_id(rows[error.index]))
                for error in told.errors[:_TOLD_MAX]
                if 0 <= error.index < len(rows)
            ]
        return Settlement(told.accepted, told.repeated, told.refused), refused

    def _in_halves(self, batch: Batch) -> tuple[Settlement, list[Refused]]:
        rows = rows_of(batch)
        middle = len(rows) // 2
        sum_of, all_refused = Settlement(), list[Refused]()
        for first, part in ((0, rows[:middle]), (middle, rows[middle:])):
            settlement, refused = self._sent(pack(batch.sequence, part, batch.encoding))
            sum_of += settlement
            all_refused += [replace(one, index=one.index + first) for one in refused]
        return sum_of, all_refused

    def _tell(self, rows: int, refused: list[Refused]) -> None:
        if not rows:
            return
        LOG.warning("%d events were refused: %s", rows, ", ".join(sorted({one.code for one in refused})))
        for one in refused:
            self._refused(one)

    def _told_away(self, reason: str) -> None:
        if self._away_since_s is None:
            self._away_since_s = self._clock.monotonic_s()
            LOG.warning("the hub takes no events, they wait: %s", reason)

    def _told_back(self) -> None:
        if self._away_since_s is not None:
            LOG.warning("the hub takes events again after %.1f s", self._clock.monotonic_s() - self._away_since_s)
            self._away_since_s = None
