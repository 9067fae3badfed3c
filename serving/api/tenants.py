"""/api/v1/tenants: tenants, their quotas and projects; /api/v1/organisations: who answers for them."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from cluster.clock import format_rfc3339
from cluster.errors import NotFound
from cluster.metadata.tenants import Project, Quota, Tenant, TenantStore
from cluster.tenancy import TenantId
from serving.answers import json_answer
from serving.auth.authorise import AsAdmin, AsOperator
from serving.auth.principal import Principal
from serving.auth.roles import Permission

router = APIRouter(prefix="/api/v1", tags=["administration"])


class NewTenant(BaseModel):
    """A tenant to be made; `organisation_id` is the caller's own unless the operator names another."""

    model_config = ConfigDict(extra="forbid")

    tenant_id: str = Field(max_length=63)
    name: str = Field(default="", max_length=200)
    organisation_id: str | None = Field(default=None, max_length=63)


class NewOrganisation(BaseModel):
    """An organisation to be made."""

    model_config = ConfigDict(extra="forbid")

    organisation_id: str = Field(max_length=63)
    name: str = Field(default="", max_length=200)


class NewProject(BaseModel):
    """A project to be made."""

    model_config = ConfigDict(extra="forbid")

    project_id: str = Field(max_length=63)
    name: str = Field(default="", max_length=200)


class NewQuota(BaseModel):
    """Limits of a tenant; null is the hub's own setting, 0 no limit."""

    model_config = ConfigDict(extra="forbid")

    events_per_s: int | None = None
    bytes_per_s: int | None = None
    questions_per_s: int | None = None
    burst_s: float | None = Field(default=None, allow_inf_nan=False)


@router.get("/tenants", response_model=None)
async def list_tenants(request: Request, principal: AsAdmin) -> Response:
    """Tenants of the caller's organisation; all of them for the operator."""
    found = await asyncio.to_thread(_store(request).of_organisation, principal.organisation_id)
    return json_answer({"tenants": [_tenant_json(tenant) for tenant in found]})


@router.post("/tenants", status_code=201, response_model=None)
async def create_tenant(request: Request, principal: AsAdmin, new: NewTenant) -> Response:
    """A new tenant."""
    organisation_id = new.organisation_id or principal.organisation_id
    if organisation_id != principal.organisation_id:
        principal.require(Permission.OPERATE)

    def create() -> Tenant:
        return _store(request).create(new.tenant_id, organisation_id=organisation_id, name=new.name)

    return json_answer(_tenant_json(await asyncio.to_thread(create)), 201)


@router.post("/organisations", status_code=201, response_model=None)
async def create_organisation(request: Request, _: AsOperator, new: NewOrganisation) -> Response:
    """A new organisation; only the operator makes one."""
    await asyncio.to_thread(lambda: _store(request).create_organisation(new.organisation_id, name=new.name))
    return json_answer({"organisation_id": new.organisation_id, "name": new.name or new.organisation_id}, 201)


@router.get("/tenants/{tenant_id}/quota", response_model=None)
async def get_quota(request: Request, principal: AsAdmin, tenant_id: str) -> Response:
    """Limits of a tenant the caller covers; null where the hub's own setting counts."""
    return json_answer(await _quota_json(request, await _covered(request, principal, tenant_id)))


@router.put("/tenants/{tenant_id}/quota", response_model=None)
async def put_quota(request: Request, principal: AsOperator, tenant_id: str, new: NewQuota) -> Response:
    """New limits in place of all that the tenant had; only the operator sets them."""
    tenant = await _covered(request, principal, tenant_id)
    await asyncio.to_thread(_store(request).set_quota, tenant, Quota(**new.model_dump()))
    return json_answer(await _quota_json(request, tenant))


@router.get("/tenants/{tenant_id}/projects", response_model=None)
async def list_projects(request: Request, principal: AsAdmin, tenant_id: str) -> Response:
    """Projects of one tenant the caller covers."""
    tenant = await _covered(request, principal, tenant_id)
    found = await asyncio.to_thread(_store(request).projects_of, tenant)
    return json_answer({"projects": [_project_json(project) for project in found]})


@router.post("/tenants/{tenant_id}/projects", status_code=201, response_model=None)
async def create_project(request: Request, principal: AsAdmin, tenant_id: str, new: NewProject) -> Response:
    """A new project of one tenant the caller covers."""
    tenant = await _covered(request, principal, tenant_id)

    def create() -> Project:
        return _store(request).create_project(tenant, new.project_id, name=new.name)

    return json_answer(_project_json(await asyncio.to_thread(create)), 201)


async def _covered(request: Request, principal: Principal, tenant: str) -> TenantId:
    acting: Principal = await request.app.state.authorise.gate.on_behalf_of(principal, tenant)
    return acting.tenant


def _store(request: Request) -> TenantStore:
    store: TenantStore = request.app.state.tenants
    return store


async def _quota_json(request: Request, tenant: TenantId) -> dict[str, Any]:
    """From the store: what replicas remember may be older."""
    found = await asyncio.to_thread(_store(request).find, tenant)
    if found is None:
        raise NotFound("no such tenant")
    return {"tenant_id": tenant, **asdict(found.quota)}


def _tenant_json(tenant: Tenant) -> dict[str, Any]:
    return {
        "tenant_id": tenant.tenant_id,
        "organisation_id": tenant.organisation_id,
        "name": tenant.name,
        "created_at": format_rfc3339(tenant.created_at_us),
    }


def _project_json(project: Project) -> dict[str, Any]:
    return {
        "tenant_id": project.tenant_id,
        "project_id": project.project_id,
        "name": project.name,
        "created_at": format_rfc3339(project.created_at_us),
    }
