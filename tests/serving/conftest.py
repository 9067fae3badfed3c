"""The real application over real parts: a shard, a committer, SQLite, and the query engine, without Ray."""

from __future__ import annotations

# ruff: noqa: I001 -- before anything that imports Ray Serve.
from tests.serving.ray_serve_quietly import LOADED

import asyncio
import json
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
from fastapi import FastAPI

from cluster.clock import SystemClock, format_rfc3339
from cluster.metadata.first_start import bootstrap_admin
from cluster.metadata.keys import KeyRequest, KeyStore
from cluster.metadata.schema import open_metadata
from cluster.metadata.tenants import TenantStore
from cluster.settings import Settings
from cluster.tenancy import DEFAULT_TENANT, TenantId
from serving.ingress import build
from serving.query_engine import QueryEngine
from tests.serving.local_pool import LocalPool

assert LOADED
Result = TypeVar("Result")

# Small limits, so that bodies beyond them are quick to make.
SMALL = Settings(
    body_bytes_max=2 * 1024 * 1024,
    inflated_bytes_max=8 * 1024 * 1024,
    row_bytes_max=256 * 1024,
    rows_per_request_max=5_000,
    seal_age_s=0.05,
)


@dataclass(slots=True)
class Hub:
    """One hub in this process and a key of each sort."""

    app: FastAPI
    pool: LocalPool
    settings: Settings
    keys: KeyStore
    tenants: TenantStore
    admin: str
    made: dict[str, str] = field(default_factory=dict)

    def key(self, *scopes: str, tenant: str = DEFAULT_TENANT, project: str | None = None) -> str:
        """A key with these scopes."""
        wanted = KeyRequest(tenant=TenantId(tenant), scopes=scopes, name="test", project_id=project)
        return self.keys.create(wanted)[1]

    def call(self, method: str, path: str, *, key: str | None = None, **more: Any) -> httpx2.Response:
        """One request, answered."""

        async def send() -> httpx2.Response:
            return await self.send(method, path, key=key, **more)

        return self.run(send())

    async def send(self, method: str, path: str, *, key: str | None = None, **more: Any) -> httpx2.Response:
        """One request on the caller's loop."""
        headers = dict(more.pop("headers", {}))
        if key:
            headers.setdefault("authorization", f"Bearer {key}")
        transport = httpx2.ASGITransport(app=self.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://hub.test") as client:
            return await client.request(method, path, headers=headers, **more)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of a coroutine."""
        return asyncio.run(work)

    def post(self, rows: list[dict[str, Any]] | bytes, *, key: str, **more: Any) -> httpx2.Response:
        """Rows as NDJSON."""
        body = rows if isinstance(rows, bytes) else ndjson(rows)
        headers = {"content-type": "application/x-ndjson", **more.pop("headers", {})}
        return self.call("POST", "/api/v1/events", key=key, content=body, headers=headers, **more)


def event(number: int, **more: Any) -> dict[str, Any]:
    """A valid row."""
    at_us = SystemClock().now_us()
    return {
        "event_id": f"e-{number}",
        "occurred_at": format_rfc3339(at_us),
        "module": "gateway",
        "kind": "gateway.request",
        "model": "m-1",
        **more,
    }


def ndjson(rows: list[dict[str, Any]]) -> bytes:
    """Rows, one a line."""
    return b"\n".join(json.dumps(row).encode() for row in rows)


def start(settings: Settings, *, asks: bool = False) -> Iterator[Hub]:
    """A hub until the generator goes on.

    Args:
        asks: with the query engine.
    """
    clock = SystemClock()
    admin = bootstrap_admin(settings, clock=clock)
    assert admin is not None
    database = open_metadata(settings, clock)
    pool = LocalPool(settings, clock)
    engine = QueryEngine(settings, clock) if asks else None
    if engine:
        engine.start()
    app = build(settings, pool, engine, database, clock=clock)
    yield Hub(app, pool, settings, KeyStore(database, clock), TenantStore(database, clock), admin)
    if engine:
        engine.close()
    pool.drain()
    database.close()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    yield from start(replace(SMALL, data=tmp_path))


@pytest.fixture(scope="module")
def shared_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """One hub for a whole file, where tests do not mind each other's events."""
    yield from start(replace(SMALL, data=tmp_path_factory.mktemp("hub")))
