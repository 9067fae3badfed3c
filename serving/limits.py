"""Bodies within bounds, of all tenants and of each: refused by their announced length, or while they stream."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.errors import BodyTooLarge, BodyUnreadable, Busy, RateLimited
from cluster.telemetry import Telemetry
from serving.auth.principal import Principal
from serving.quotas import Quotas

# A body that is not here by then is a slow sender or an attack; both hold a slot others need.
BODY_ARRIVES_WITHIN_S: Final = 60.0
_HELD_RETRY_AFTER_S: Final = 1.0


class BodyBudget:
    """Memory that the bodies in one replica may hold together; beyond it senders are told to come again.

    Without it, as many bodies of the largest size as requests may be open would fill the machine.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.held_bytes = 0

    def take(self, size_bytes: int) -> None:
        """Reserve before reading.

        Raises:
            Busy: the budget is used up.
        """
        if self.held_bytes + size_bytes > self._limit_bytes:
            raise Busy("the bodies being read fill the memory set aside for them", retry_after_s=_HELD_RETRY_AFTER_S)
        self.held_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        """Release what `take` reserved."""
        self.held_bytes -= size_bytes


class TenantShares:
    """What each tenant has in flight at one replica, bounded, so that one at its bound leaves room for the others.

    Only tenants with something in flight are kept.
    """

    def __init__(self, *, requests_max: int, bytes_max: int, telemetry: Telemetry) -> None:
        self._requests_max = requests_max
        self._bytes_max = bytes_max
        self._refused = telemetry.quota_refusals
        self._requests: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()

    @contextmanager
    def request(self, tenant: str, size_bytes: int) -> Iterator[None]:
        """One request with a body of that size, until it is answered.

        A tenant with nothing else in flight may always send one: the size of one body has its own limit.

        Raises:
            RateLimited: the tenant has its most in flight.
        """
        if self._requests[tenant] >= self._requests_max:
            raise self._at_bound(tenant, f"{self._requests_max} requests open")
        if self._bytes[tenant] and self._bytes[tenant] + size_bytes > self._bytes_max:
            raise self._at_bound(tenant, f"{self._bytes_max} bytes of bodies")
        self._requests[tenant] += 1
        self._bytes[tenant] += size_bytes
        try:
            yield
        finally:
            self._requests[tenant] -= 1
            self._bytes[tenant] -= size_bytes
            if not self._requests[tenant]:
                del self._requests[tenant], self._bytes[tenant]

    def _at_bound(self, tenant: str, bound: str) -> RateLimited:
        self._refused.labels("in_flight").inc()
        return RateLimited(
            f"tenant {tenant!r} has its share of this door in flight: {bound}",
            retry_after_s=_HELD_RETRY_AFTER_S,
            hint="Wait for answers before more is sent; HUB_TENANT_SHARE is the share of one tenant.",
        )


class Bodies:
    """Reads request bodies of one replica, each within `sent_max` bytes, its tenant's quotas and all budgets."""

    def __init__(self, *, sent_max: int, budget: BodyBudget, shares: TenantShares, quotas: Quotas) -> None:
        self._sent_max = sent_max
        self._budget = budget
        self._shares = shares
        self._quotas = quotas

    @asynccontextmanager
    async def events(self, request: Request, principal: Principal) -> AsyncIterator[bytes]:
        """The body of a door for events, held against the tenant's share and quotas until the block ends.

        Raises:
            RateLimited: the tenant has its most in flight, or has used up a quota.
            otherwise as `body`.
        """
        announced = _announced(request, self._sent_max)
        # A body without a length may become as long as any.
        counted = announced or self._sent_max
        with self._shares.request(principal.tenant, counted):
            self._quotas.enter(principal, announced)
            async with self.body(request) as body:
                self._quotas.take_bytes(principal, len(body) - announced)
                yield body

    @asynccontextmanager
    async def body(self, request: Request, *, sent_max: int | None = None) -> AsyncIterator[bytes]:
        """The body, held against the budget until the block ends.

        Args:
            sent_max: a lower limit than the replica's, in bytes.
        Raises:
            BodyTooLarge: announced or streamed beyond the limit; the rest stays unread.
            BodyUnreadable: cut off, late, or its length is not a number.
            Busy: too many bodies at once.
        """
        limit = min(self._sent_max, sent_max or self._sent_max)
        announced = _announced(request, limit)
        held = 0
        try:
            # The announced size at once, so that two half-read bodies cannot wait for each other's memory.
            self._budget.take(announced)
            held = announced
            chunks: list[bytes] = []
            size = 0
            try:
                async with asyncio.timeout(BODY_ARRIVES_WITHIN_S):
                    async for chunk in request.stream():
                        size += len(chunk)
                        if size > limit:
                            raise _too_large(limit)
                        if size > held:
                            self._budget.take(size - held)
                            held = size
                        chunks.append(chunk)
            except TimeoutError as error:
                raise BodyUnreadable(f"the body did not arrive within {BODY_ARRIVES_WITHIN_S:.0f} s") from error
            except ClientDisconnect as error:
                raise BodyUnreadable("the sender went away before the end of the body") from error
            yield b"".join(chunks)
        finally:
            self._budget.give_back(held)


def _announced(request: Request, limit: int) -> int:
    text = request.headers.get("content-length")
    if text is None:
        return 0
    # int() would take "+5", " 5" and "5_0", which another hop reads differently.
    if not (text.isascii() and text.isdigit()):
        raise BodyUnreadable("Content-Length is not a number")
    # Compared by length first: a number of a million digits costs quadratic time to parse.
    if len(text) > 18 or int(text) > limit:
        raise _too_large(limit)
    return int(text)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"the body is over {limit} bytes",
        hint="Send fewer rows in a request, or compress the body with Content-Encoding: zstd or gzip.",
    )


class SmallBodies:
    """ASGI middleware: bodies of every path but the doors for events stay under a small limit.

    The framework reads those whole before any route of ours runs.
    """

    def __init__(self, app: ASGIApp, *, limit_bytes: int, except_under: tuple[str, ...]) -> None:
        self._app = app
        self._limit_bytes = limit_bytes
        self._except_under = except_under

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(self._except_under):
            await self._app(scope, receive, send)
            return
        size = 0

        async def receive_within() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._limit_bytes:
                # The framework lets its own kind of error through and would make a 400 of any other.
                raise HTTPException(413, f"the body is over {self._limit_bytes} bytes", {"Connection": "close"})
            return message

        await self._app(scope, receive_within, send)
