"""The price book of one replica: applied to what it takes in, renewed from the store, moved by price events."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import Executor
from dataclasses import replace
from typing import Final

import pyarrow.compute as pc
import structlog

from cluster.clock import Clock
from cluster.contract.prices import PRICE_KIND, Price, read_price
from cluster.contract.rows import Decoded
from cluster.errors import RequestInvalid, Unavailable
from cluster.metadata.prices import PriceStore
from cluster.tenancy import TenantId
from models.pricing.book import PriceBook
from models.pricing.cost import price

log = structlog.get_logger("pricing")

# Another replica's price change is known here within this time.
_RENEW_EVERY_S: Final = 2.0


class Pricing:
    """Holds a book that never changes, and exchanges it for another; `priced` may be called from any thread."""

    def __init__(self, store: PriceStore, *, clock: Clock, executor: Executor) -> None:
        self._store = store
        self._clock = clock
        self._executor = executor
        self._count = store.count()
        self._book = PriceBook(store.owned())
        self._looked_at_s = clock.monotonic_s()

    def priced(self, tenant: TenantId, decoded: Decoded) -> Decoded:
        """The body with the cost of rows that came without one."""
        return replace(decoded, events=price(decoded.events, self._book, tenant))

    async def renew(self) -> None:
        """Take up what other replicas were told, when it is time; an unreachable store leaves the book as it is."""
        if self._clock.monotonic_s() - self._looked_at_s < _RENEW_EVERY_S:
            return
        self._looked_at_s = self._clock.monotonic_s()
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._load)
        except Unavailable as error:
            log.warning("prices_not_renewed", error=error.message)

    async def learn(self, tenant: TenantId, decoded: Decoded) -> Decoded:
        """Keep the prices a body tells of, then price its rows by them.

        Raises:
            Unavailable: the store did not keep them; the body is not taken, so that its sender comes again.
        """
        told = _told(decoded)

        def work() -> Decoded:
            if told:
                self._store.add(tenant, told)
                self._load()
            return self.priced(tenant, decoded)

        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def _load(self) -> None:
        count = self._store.count()
        if count != self._count:
            self._book, self._count = PriceBook(self._store.owned()), count


def _told(decoded: Decoded) -> list[Price]:
    """The prices of a body's price events; one that cannot be read moves nothing and is told to the log."""
    events = decoded.events
    rows = events.filter(pc.equal(events.column("kind"), PRICE_KIND))
    found = []
    at_us = rows.column("occurred_at").cast("int64").to_pylist()
    for row, from_us in zip(rows.select(["provider", "model", "payload"]).to_pylist(), at_us, strict=True):
        try:
            payload = json.loads(row["payload"] or "{}")
            named = {name: row[name] for name in ("provider", "model") if row[name] is not None}
            found.append(read_price({**named, **payload}, from_us=from_us))
        except (ValueError, RequestInvalid) as error:
            log.warning("price_unreadable", reason=str(error)[:200])
    return found
