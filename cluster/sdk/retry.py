"""When to send again: which answers invite to, how long to wait, when to give up. All that sends to a hub asks here."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from typing import Final

from cluster.clock import Clock, Deadline
from cluster.sdk.answers import Answer, HubUnreachable, refusal

# The statuses that invite to send the same again; 502 and 504 are a proxy whose hub is being restarted.
AGAIN: Final = frozenset({429, 502, 503, 504})
_FIRST_S: Final = 0.1
_LAST_S: Final = 5.0
# A hub that asks for more is heard, but checked on at this pace.
_RETRY_AFTER_MAX_S: Final = 30.0


@dataclass(slots=True)
class Trouble:
    """Answers that made the client wait, counted since it was made."""

    busy: int = 0
    unavailable: int = 0
    unreachable: int = 0

    @property
    def retries(self) -> int:
        return self.busy + self.unavailable + self.unreachable

    def count(self, status: int) -> None:
        """One more answer of this status; 0 where there was none."""
        if status == 429:
            self.busy += 1
        elif status:
            self.unavailable += 1
        else:
            self.unreachable += 1


class Backoff:
    """Waits that double up to 5 s while nothing goes well.

    Args:
        chance: gives the jitter, in [0, 1).
    """

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._ceiling_s = _FIRST_S

    def next_s(self, asked_s: float = 0.0) -> float:
        """Seconds to wait now.

        Args:
            asked_s: what the hub asked for, as `retry_after_s` reads it.
        """
        # Full jitter on top of what the hub asked for, so that refused senders do not come back together.
        wait_s = asked_s + self._ceiling_s * self._chance()
        self._ceiling_s = min(2 * self._ceiling_s, _LAST_S)
        return wait_s

    def reset(self) -> None:
        """It went well: the next wait is short again."""
        self._ceiling_s = _FIRST_S


class Attempts:
    """The tries of one request within one deadline. It does not send: it hears what came and tells how long to wait."""

    def __init__(self, what: str, deadline_s: float, *, clock: Clock, trouble: Trouble, backoff: Backoff) -> None:
        self._what = what
        self._deadline_s = deadline_s
        self._deadline = Deadline.after(clock, deadline_s)
        self._clock = clock
        self._trouble = trouble
        self._backoff = backoff

    def answered(self, answer: Answer) -> float:
        """Seconds to wait after an answer that is no success.

        Raises:
            HubRefused: the same request will not succeed later.
            HubUnreachable: the deadline would be over.
        """
        reason = refusal(answer)
        if answer.status not in AGAIN:
            raise reason
        self._trouble.count(answer.status)
        return self._wait_s(retry_after_s(answer.retry_after, self._clock.now_us()), str(reason))

    def failed(self, error: Exception) -> float:
        """Seconds to wait after no answer at all.

        Raises:
            HubUnreachable: the deadline would be over.
        """
        self._trouble.count(0)
        return self._wait_s(0.0, str(error))

    def _wait_s(self, asked_s: float, reason: str) -> float:
        wait_s = self._backoff.next_s(asked_s)
        if wait_s >= self._deadline.left_s():
            raise HubUnreachable(f"{self._what}: not acknowledged in {self._deadline_s:.0f} s; {reason}")
        return wait_s


def retry_after_s(header: str, now_us: int) -> float:
    """Seconds that a Retry-After header asks for, in [0, 30]; 0 where it cannot be read."""
    try:
        seconds = float(header)
    except ValueError:
        # Few answers carry a date, and its reader brings half of the e-mail package.
        from email.utils import parsedate_to_datetime  # noqa: PLC0415

        try:
            at = parsedate_to_datetime(header)
        except ValueError:
            return 0.0
        seconds = at.replace(tzinfo=at.tzinfo or UTC).timestamp() - now_us / 1e6
    return min(max(0.0, seconds), _RETRY_AFTER_MAX_S) if seconds == seconds else 0.0
