"""How long each tenant keeps its rows, where it is not the hub's own setting."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from cluster.clock import Clock
from cluster.errors import NotFound
from cluster.metadata.engine import Database
from cluster.metadata.schema import retentions
from cluster.retention import Retention
from cluster.tenancy import TenantId


class RetentionStore:
    """Reads and writes retentions; every method is one transaction."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def every(self) -> dict[str, Retention]:
        """What each tenant keeps that has values of its own."""
        with self._database.reading() as connection:
            rows = connection.execute(select(retentions)).mappings().all()
        return {
            str(row["tenant_id"]): Retention(
                hot_days=row["hot_days"], warm_days=row["warm_days"], cold_days=row["cold_days"]
            )
            for row in rows
        }

    def find(self, tenant: TenantId) -> Retention | None:
        """The tenant's own values; None where the hub's setting counts."""
        return self.every().get(tenant)

    def put(self, tenant: TenantId, retention: Retention | None) -> None:
        """New values in place of those the tenant had; None for the hub's own setting.

        Raises:
            RequestInvalid: see `Retention.check`.
            NotFound: there is no such tenant.
        """
        if retention is not None:
            retention.check()
        try:
            with self._database.writing() as connection:
                connection.execute(delete(retentions).where(retentions.c.tenant_id == tenant))
                if retention is not None:
                    connection.execute(insert(retentions).values(tenant_id=tenant, **asdict(retention)))
        except IntegrityError as error:
            raise NotFound("no such tenant") from error
