"""GET /api/v1/ledger: what was accepted against what the tables hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from actors.accounts import Account
from cluster.tenancy import TenantId
from serving.answers import json_answer
from serving.auth.principal import Principal
from serving.auth.roles import Permission
from serving.readings import Readings, freshness_s, shard_reason

router = APIRouter(tags=["health"])


@router.get("/api/v1/ledger", response_model=None)
async def get_ledger(request: Request) -> Response:
    """Accepted, committed, repeated, dead letters and in flight by tenant; `difference` is 0 when sound.

    An admin key sees the tenants of its organisation, the operator's all of them, another key its own.
    """
    principal = await request.app.state.authorise(request, Permission.READ)
    readings: Readings = request.app.state.readings
    mine = await visible_accounts(request, principal, await readings.ledger())
    shards = await readings.shards()
    total = Account()
    for account in mine.values():
        for field, count in account.as_dict().items():
            setattr(total, field, getattr(total, field) + count)
    body = {
        "tenants": [{"tenant_id": tenant, **account.as_dict()} for tenant, account in sorted(mine.items())],
        "total": total.as_dict(),
        "shards": [_shard_json(shard) for shard in shards],
        "freshness_s": round(freshness_s(shards), 3),
    }
    return json_answer(body)


async def visible_accounts(
    request: Request, principal: Principal, accounts: Mapping[str, Account]
) -> dict[str, Account]:
    """The accounts the caller may see. The operator also sees those without a tenant in the metadata store."""
    if "tenant" in request.query_params or Permission.ADMIN not in principal.permissions:
        covered = frozenset({principal.tenant})
    elif Permission.OPERATE in principal.permissions:
        return dict(accounts)
    else:
        covered = await request.app.state.authorise.gate.covered(principal)
    return {tenant: account for tenant, account in accounts.items() if TenantId(tenant) in covered}


def _shard_json(shard: Mapping[str, Any]) -> dict[str, Any]:
    told = {
        "shard": shard["shard"],
        "state": shard["state"],
        "buffered_events": shard.get("buffered_events"),
        "lag_s": round(float(shard["lag_s"]), 3) if "lag_s" in shard else None,
    }
    reason = shard_reason(shard)
    return {**told, "reason": reason} if reason else told
