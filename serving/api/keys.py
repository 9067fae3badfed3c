"""/api/v1/keys: list, make, rotate and revoke API keys."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from cluster.clock import format_rfc3339
from cluster.errors import RequestInvalid
from cluster.metadata.keys import ApiKey, KeyRequest, KeyStore
from cluster.tenancy import TenantId
from serving.answers import json_answer
from serving.auth.authorise import AsAdmin
from serving.auth.principal import Principal

router = APIRouter(prefix="/api/v1/keys", tags=["administration"])


class NewKey(BaseModel):
    """What the new key shall be able to do."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=200)
    scopes: list[str] = Field(min_length=1, max_length=3)
    project_id: str | None = None
    expires_at: datetime | None = None


class Rotation(BaseModel):
    """How long the old key lives on beside its successor."""

    model_config = ConfigDict(extra="forbid")

    grace_s: float = 86_400.0


@router.get("", response_model=None)
async def list_keys(request: Request, principal: AsAdmin) -> Response:
    """Keys of every tenant the caller covers, or of `?tenant=`; the dead ones too."""
    among = await _among(request, principal)
    keys = await asyncio.to_thread(_store(request).list_of, among)
    now_us = request.app.state.clock.now_us()
    return json_answer({"keys": [key_json(key, now_us) for key in keys]})


@router.post("", status_code=201, response_model=None)
async def create_key(request: Request, principal: AsAdmin, new: NewKey) -> Response:
    """A new key of the caller's tenant, or of `?tenant=`. `key` is told here and never again."""
    wanted = KeyRequest(
        tenant=principal.tenant,
        scopes=new.scopes,
        name=new.name,
        project_id=new.project_id,
        expires_at_us=_instant_us(new.expires_at),
        created_by=principal.key_id,
    )
    key, text = await asyncio.to_thread(_store(request).create, wanted)
    return json_answer({**key_json(key, request.app.state.clock.now_us()), "key": text}, 201)


@router.post("/{key_id}/rotate", status_code=201, response_model=None)
async def rotate_key(request: Request, principal: AsAdmin, key_id: str, rotation: Rotation | None = None) -> Response:
    """A successor with the same rights; the old key ends after `grace_s`. `key` is told here and never again."""
    among = await _among(request, principal)
    grace_s = (rotation or Rotation()).grace_s

    def rotate() -> tuple[ApiKey, str]:
        return _store(request).rotate(key_id, among=among, grace_s=grace_s, created_by=principal.key_id)

    key, text = await asyncio.to_thread(rotate)
    return json_answer({**key_json(key, request.app.state.clock.now_us()), "key": text}, 201)


@router.delete("/{key_id}", response_model=None)
async def revoke_key(request: Request, principal: AsAdmin, key_id: str) -> Response:
    """End a key; every replica refuses it within HUB_KEY_CACHE_S."""
    among = await _among(request, principal)
    key = await asyncio.to_thread(lambda: _store(request).revoke(key_id, among=among))
    return json_answer(key_json(key, request.app.state.clock.now_us()))


def key_json(key: ApiKey, now_us: int) -> dict[str, Any]:
    """What people see of a key."""
    state = "live" if key.is_live(now_us) else "revoked" if key.revoked_at_us is not None else "expired"
    return {
        "key_id": key.key_id,
        "name": key.name,
        "tenant_id": key.tenant_id,
        "project_id": key.project_id,
        "scopes": list(key.scopes),
        "state": state,
        "created_at": format_rfc3339(key.created_at_us),
        "created_by": key.created_by,
        "expires_at": _optional(key.expires_at_us),
        "revoked_at": _optional(key.revoked_at_us),
        "last_used_at": _optional(key.last_used_at_us),
        "replaced_by": key.replaced_by,
    }


async def _among(request: Request, principal: Principal) -> frozenset[TenantId]:
    if "tenant" in request.query_params:
        return frozenset({principal.tenant})
    covered: frozenset[TenantId] = await request.app.state.authorise.gate.covered(principal)
    return covered


def _store(request: Request) -> KeyStore:
    store: KeyStore = request.app.state.keys
    return store


def _optional(at_us: int | None) -> str | None:
    return None if at_us is None else format_rfc3339(at_us)


def _instant_us(at: datetime | None) -> int | None:
    if at is None:
        return None
    if at.tzinfo is None:
        raise RequestInvalid("expires_at needs a time zone", hint="RFC 3339, as 2027-01-31T00:00:00Z.")
    return int(at.timestamp() * 1_000_000)
