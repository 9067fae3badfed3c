"""Rates that tenants keep to: token buckets for events, bytes and questions, refused with the quota and the remedy.

Serve hands requests to replicas one by one, so each replica grants its share of a quota: the quota divided by the
replicas. Together they never grant more than the quota and its burst; a tenant whose requests fall unevenly gets less,
at worst one replica's share. A replica that starts again begins with full buckets.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from cluster.clock import Clock
from cluster.errors import RateLimited
from cluster.metadata.tenants import TENANTS_MAX
from cluster.settings import Settings
from cluster.telemetry import Telemetry
from serving.auth.principal import Principal

EVENTS: Final = "events_per_s"
BYTES: Final = "bytes_per_s"
QUESTIONS: Final = "questions_per_s"

_HINTS: Final = {
    EVENTS: "Send it again after Retry-After, or ask the operator for more: `llmhub tenants quota`.",
    BYTES: "Send it again after Retry-After, compress bodies, or ask the operator for more: `llmhub tenants quota`.",
    QUESTIONS: "Ask again after Retry-After, in fewer questions, or ask the operator for more: `llmhub tenants quota`.",
}
# A whole token, less what adding up many small flows may round away.
_ONE: Final = 1 - 1e-6
# A wait of nothing would invite a sender to come again at once.
_WAIT_MIN_S: Final = 0.05


@dataclass(slots=True)
class _Bucket:
    """Tokens at an instant; below 0 is what was granted ahead of time."""

    tokens: float
    at_s: float


class Quotas:
    """The quotas of all tenants at one replica; used from its event loop only.

    A request is granted whole while its bucket holds a token, and what it takes beyond that is paid back before the
    next: a batch larger than the burst still passes, and the rate holds. So what is refused is refused before it is
    read, except where several requests at once empty a bucket.
    """

    def __init__(self, settings: Settings, *, clock: Clock, telemetry: Telemetry) -> None:
        self._settings = settings
        self._replicas = max(1, settings.ingress_replicas)
        self._clock = clock
        self._refused = telemetry.quota_refusals
        # Only of tenants with a limit, and no more than there may be tenants; the longest unused goes first.
        self._buckets: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()

    def enter(self, principal: Principal, size_bytes: int) -> None:
        """Take the announced bytes of a body that is not read yet.

        Raises:
            RateLimited: the tenant's events or bytes are used up; nothing is taken.
        """
        self._check(principal, EVENTS)
        self._check(principal, BYTES)
        self._take(principal, BYTES, size_bytes)

    def take_bytes(self, principal: Principal, size_bytes: int) -> None:
        """Take bytes beyond those announced; they were read, so they are paid even into the red."""
        self._take(principal, BYTES, size_bytes)

    def take_events(self, principal: Principal, rows: int) -> None:
        """Take decoded rows that are not journaled yet.

        Raises:
            RateLimited: others of the tenant's requests were quicker.
        """
        self._check(principal, EVENTS)
        self._take(principal, EVENTS, rows)

    def take_question(self, principal: Principal) -> None:
        """Take one question.

        Raises:
            RateLimited: the tenant's questions are used up.
        """
        self._check(principal, QUESTIONS)
        self._take(principal, QUESTIONS, 1)

    def limit(self, principal: Principal, quota: str) -> int:
        """What the tenant may use of a quota in a second over all replicas; 0 is no limit."""
        own: int | None = getattr(principal.quota, quota)
        default: int = getattr(self._settings, f"quota_{quota}")
        return default if own is None else own

    def _check(self, principal: Principal, quota: str) -> None:
        bucket = self._filled(principal, quota)
        if bucket is None or bucket.tokens >= _ONE:
            return
        self._refused.labels(quota).inc()
        limit = self.limit(principal, quota)
        wait_s = max(_WAIT_MIN_S, (1 - bucket.tokens) * self._replicas / limit)
        message = f"tenant {principal.tenant!r} has used up its quota {quota} of {limit}"
        raise RateLimited(message, retry_after_s=wait_s, hint=_HINTS[quota])

    def _take(self, principal: Principal, quota: str, count: int) -> None:
        bucket = self._filled(principal, quota)
        if bucket is not None:
            bucket.tokens -= count

    def _filled(self, principal: Principal, quota: str) -> _Bucket | None:
        """The tenant's bucket with what flowed in until now; None where there is no limit."""
        key = (principal.tenant, quota)
        limit = self.limit(principal, quota)
        if not limit:
            self._buckets.pop(key, None)
            return None
        burst_s = self._settings.quota_burst_s if principal.quota.burst_s is None else principal.quota.burst_s
        rate = limit / self._replicas
        # At least one request of the smallest sort passes, however small the rate.
        capacity = max(1.0, rate * burst_s)
        now_s = self._clock.monotonic_s()
        bucket = self._buckets.setdefault(key, _Bucket(capacity, now_s))
        self._buckets.move_to_end(key)
        bucket.tokens = min(capacity, bucket.tokens + (now_s - bucket.at_s) * rate)
        bucket.at_s = now_s
        if len(self._buckets) > 3 * TENANTS_MAX:
            self._buckets.popitem(last=False)
        return bucket
