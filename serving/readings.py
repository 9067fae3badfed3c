"""The state of the hub as its parts tell it, read at most twice a second however many ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from actors.accounts import Account
from cluster.clock import Clock
from cluster.errors import HubError
from serving.reception import Pool

KEEP_S: Final = 0.5
# What somebody asked for within this time is read again before they ask.
_WATCHED_S: Final = 10.0
# How much older it may be while it is read.
_LATE_S: Final = 1.0

Value = TypeVar("Value")


class _Reading(Generic[Value]):
    """One answer kept for a moment; many askers at once make one question."""

    def __init__(self, ask: Callable[[], Awaitable[Value]], clock: Clock, *, ahead: bool = False) -> None:
        """
        Args:
            ahead: an answer that takes tens of milliseconds is kept fresh while somebody looks.
        """
        self._ask = ask
        self._clock = clock
        self._ahead = ahead
        self._lock = asyncio.Lock()
        self._kept: tuple[Value, float] | None = None
        self._asked_s = float("-inf")
        self._renewing: asyncio.Task[None] | None = None

    async def value(self) -> Value:
        self._asked_s = self._clock.monotonic_s()
        if self._ahead and self._kept is not None and self._asked_s < self._kept[1] + _LATE_S:
            # It is being read again; a busy hub takes its time, and all who look would wait for it.
            value = self._kept[0]
        else:
            value = await self._value()
        if self._ahead and (self._renewing is None or self._renewing.done()):
            self._renewing = asyncio.get_running_loop().create_task(self._renew())
        return value

    async def _renew(self) -> None:
        while self._clock.monotonic_s() - self._asked_s < _WATCHED_S:
            await asyncio.sleep(KEEP_S)
            try:
                await self._value()
            except HubError:
                # Whoever asks next is told what is wrong.
                return

    async def _value(self) -> Value:
        async with self._lock:
            if self._kept is not None and self._clock.monotonic_s() < self._kept[1]:
                return self._kept[0]
            value = await self._ask()
            self._kept = (value, self._clock.monotonic_s() + KEEP_S)
            return value


class Readings:
    """Shards, committer and ledger, each kept for half a second; the ledger for a second and a half at most.

    Without it every probe, scrape and open page would be a call to every actor.
    """

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._shards: _Reading[Sequence[Mapping[str, Any]]] = _Reading(pool.status, clock)
        self._committer: _Reading[Mapping[str, Any]] = _Reading(pool.committer, clock)
        self._ledger: _Reading[Mapping[str, Account]] = _Reading(pool.ledger, clock, ahead=True)

    async def shards(self) -> Sequence[Mapping[str, Any]]:
        """State of each shard; one that does not answer is named "away"."""
        return await self._shards.value()

    async def committer(self) -> Mapping[str, Any]:
        """Status of the committer, empty while it does not answer."""
        return await self._committer.value()

    async def ledger(self) -> Mapping[str, Account]:
        """Account of every tenant.

        Raises:
            Unavailable: a part of the hub does not answer, so no sound sum can be given.
        """
        return await self._ledger.value()


def freshness_s(shards: Sequence[Mapping[str, Any]]) -> float:
    """Age of the oldest event that is not in the tables yet, in seconds; 0 when all are."""
    return max((float(shard.get("lag_s", 0.0)) for shard in shards), default=0.0)


def shard_reason(shard: Mapping[str, Any]) -> str:
    """Why a shard is not serving, empty while it is; names files of its journal, never tenants."""
    return "" if shard["state"] == "serving" else str(shard.get("reason") or "")
