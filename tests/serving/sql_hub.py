"""The application over a small lake of two tenants, for tests of the SQL door."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from cluster.clock import SystemClock
from cluster.metadata.first_start import bootstrap_admin
from cluster.metadata.keys import KeyStore
from cluster.metadata.schema import open_metadata
from cluster.metadata.tenants import TenantStore
from cluster.tenancy import TenantId
from serving.ingress import build
from serving.query_engine import QueryEngine
from tests.serving.conftest import Hub
from tests.serving.local_pool import LocalPool
from tests.serving.small_lake import Lake, event, tenants_apart

JSON, CSV, ARROW = "application/json", "text/csv", "application/vnd.apache.arrow.stream"
# Words that stand in rows of the tenant beta alone.
SECRETS = ("secret-user", "needle", "beta-only")


class SqlHub:
    """Asks as a tenant of the lake."""

    def __init__(self, hub: Hub, lake: Lake, engine: QueryEngine) -> None:
        self.hub, self.lake, self.engine = hub, lake, engine

    def ask(
        self, sql: str, *, tenant: str = "alpha", project: str | None = None, accept: str = JSON, **more: Any
    ) -> httpx2.Response:
        """One statement, answered."""
        name = f"{tenant}/{project}"
        if name not in self.hub.made:
            self.hub.made[name] = self.hub.key("read", tenant=tenant, project=project)
        body = {"sql": sql, **more}
        return self.hub.call("POST", "/api/v1/sql", key=self.hub.made[name], json=body, headers={"accept": accept})

    def rows(self, sql: str, **more: Any) -> list[dict[str, Any]]:
        """The rows of a statement that is answered."""
        answer = self.ask(sql, **more)
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()["rows"]
        return rows


def two_tenants(folder: Any) -> Lake:
    """Rows of alpha and beta in every table but the dead letters, those of beta marked."""
    lake = tenants_apart(folder, {"alpha": 300, "beta": 200})
    lake.seal("beta", [event(1, event_id="beta-only", user_id="secret-user", payload='{"t":"needle"}')])
    lake.roll()
    return lake


@contextmanager
def application(lake: Lake, **settings: Any) -> Iterator[tuple[Hub, QueryEngine]]:
    """The application over a lake of the tenants alpha and beta, each with a project "north"."""
    clock = SystemClock()
    admin = bootstrap_admin(lake.settings, clock=clock)
    assert admin is not None
    database = open_metadata(lake.settings, clock)
    engine = lake.engine(**settings)
    pool = LocalPool(lake.settings, clock)
    app = build(lake.settings, pool, engine, database, clock=clock)
    hub = Hub(app, pool, lake.settings, KeyStore(database, clock), TenantStore(database, clock), admin)
    for tenant in ("alpha", "beta"):
        hub.tenants.create_organisation(f"org-{tenant}")
        hub.tenants.create(tenant, organisation_id=f"org-{tenant}")
        hub.tenants.create_project(TenantId(tenant), "north")
    yield hub, engine
    engine.close()
    pool.drain()
    database.close()


@contextmanager
def serving(lake: Lake, **settings: Any) -> Iterator[SqlHub]:
    """The application over the lake, with these settings of SQL."""
    with application(lake, **settings) as (hub, engine):
        yield SqlHub(hub, lake, engine)
