"""/api/v1/tenants/{tenant_id}/retention: how long a tenant's rows stay whole, by hours and by days."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict

from cluster.metadata.retention import RetentionStore
from cluster.retention import Retention
from cluster.settings import Settings
from cluster.tenancy import TenantId
from serving.answers import json_answer
from serving.auth.authorise import AsAdmin, AsOperator

router = APIRouter(prefix="/api/v1/tenants", tags=["administration"])


class NewRetention(BaseModel):
    """Days, 0 for ever; null is the hub's own setting."""

    model_config = ConfigDict(extra="forbid")

    hot_days: int | None = None
    warm_days: int | None = None
    cold_days: int | None = None


@router.get("/{tenant_id}/retention", response_model=None)
async def get_retention(request: Request, principal: AsAdmin, tenant_id: str) -> Response:
    """How long the rows of a tenant stay that the caller covers."""
    acting = await request.app.state.authorise.gate.on_behalf_of(principal, tenant_id)
    return json_answer(await asyncio.to_thread(_told, request, acting.tenant))


@router.put("/{tenant_id}/retention", response_model=None)
async def put_retention(request: Request, principal: AsOperator, tenant_id: str, new: NewRetention) -> Response:
    """New values in place of all that the tenant had; only the operator sets them."""
    acting = await request.app.state.authorise.gate.on_behalf_of(principal, tenant_id)
    given = {name: days for name, days in new.model_dump().items() if days is not None}
    kept = Retention(**(asdict(_of_the_hub(request)) | given)) if given else None
    await asyncio.to_thread(_store(request).put, acting.tenant, kept)
    return json_answer(await asyncio.to_thread(_told, request, acting.tenant))


def _told(request: Request, tenant: TenantId) -> dict[str, Any]:
    found = _store(request).find(tenant)
    return {"tenant_id": tenant, **asdict(found or _of_the_hub(request)), "own": found is not None}


def _of_the_hub(request: Request) -> Retention:
    settings: Settings = request.app.state.settings
    return Retention(hot_days=settings.hot_days, warm_days=settings.warm_days, cold_days=settings.cold_days)


def _store(request: Request) -> RetentionStore:
    return RetentionStore(request.app.state.metadata, request.app.state.clock)
