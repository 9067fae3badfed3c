"""Prices that events told of, kept for good, and the starter table that comes with the hub."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import func, insert, select

from cluster.clock import Clock
from cluster.contract.prices import Price, price_text, read_price
from cluster.errors import Conflict
from cluster.metadata.engine import Database
from cluster.metadata.schema import prices
from cluster.tenancy import TenantId

# Prices one tenant may have told of; bounds what every door holds in memory.
PRICES_MAX: Final = 5_000
EVERYBODY: Final = ""
_STARTER: Final = Path(__file__).with_name("prices.json")


@dataclass(frozen=True, slots=True)
class Kept:
    """A price, whose it is (EVERYBODY's or a tenant's own), and when it was told of; None for the starter table."""

    tenant: str
    price: Price
    told_at_us: int | None


def starter_prices() -> list[Price]:
    """The prices the hub comes with."""
    return [read_price(said, from_us=0) for said in json.loads(_STARTER.read_bytes())["prices"]]


class PriceStore:
    """Reads and writes prices of tenants; rows are only added, so that a version always names the same amounts."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def count(self) -> int:
        """How many are kept: another number means there are new ones."""
        with self._database.reading() as connection:
            return connection.scalar(select(func.count()).select_from(prices)) or 0

    def owned(self) -> list[tuple[str, Price]]:
        """(tenant, price) as a price book takes them: the starter table, then what was told, in that order."""
        return [(one.tenant, one.price) for one in self.kept()]

    def kept(self, tenant: TenantId | None = None) -> list[Kept]:
        """The starter table, then what this tenant, or every tenant, told of, in that order."""
        wanted = select(prices).order_by(prices.c.told_at_us, prices.c.version)
        if tenant is not None:
            wanted = wanted.where(prices.c.tenant_id == tenant)
        with self._database.reading() as connection:
            rows = connection.execute(wanted).mappings().all()
        told = [
            Kept(row["tenant_id"], read_price(json.loads(row["price"]), from_us=0), row["told_at_us"]) for row in rows
        ]
        return [*(Kept(EVERYBODY, price, None) for price in starter_prices()), *told]

    def add(self, tenant: TenantId, told: Iterable[Price]) -> None:
        """Keep prices of a tenant; those kept already are left as they are.

        Raises:
            Conflict: the tenant has told of its most prices.
        """
        with self._database.writing() as connection:
            mine = select(prices.c.version).where(prices.c.tenant_id == tenant)
            known = set(connection.scalars(mine))
            for price in told:
                if price.version in known:
                    continue
                if len(known) >= PRICES_MAX:
                    raise Conflict(f"the tenant has told of its most prices, {PRICES_MAX}")
                known.add(price.version)
                row = {"tenant_id": tenant, "version": price.version, "price": price_text(price)}
                connection.execute(insert(prices).values(told_at_us=self._clock.now_us(), **row))
