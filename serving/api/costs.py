"""GET /api/v1/costs: what was spent, by tenant, over all tenants whose figures the key may see."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from cluster.tenancy import TenantScope
from serving.api.reading import asked, parameters, port, told
from serving.auth.principal import Principal
from serving.auth.roles import Permission

router = APIRouter(prefix="/api/v1", tags=["reading"])

_KIND: Final = "cost_allocation"
_BY_TENANT: Final = ("group_by", "tenant_id")
_PARAMETERS: Final = asked(
    ("from", "first instant, -24h unless told", False),
    ("to", "end, now unless told", False),
    ("group_by", "dimensions, tenant_id unless told", True),
    ("filter", "field:operator:value", True),
    ("limit", "groups told one by one, 100 unless told", False),
    ("tenant", "this tenant alone", False),
)


@router.get("/costs", response_model=None, openapi_extra=_PARAMETERS)
async def get_costs(request: Request) -> Response:
    """The costs of the tenants that the key covers, as `cost_allocation` tells them.

    An admin key covers the tenants of its organisation, the operator's all of them, another key its own.
    """
    principal: Principal = await request.app.state.authorise(request, Permission.READ)
    query = port(request)
    given = parameters(request)
    if not any(name == _BY_TENANT[0] for name, _ in given):
        given = (*given, _BY_TENANT)
    return told(request, await query.query(await _scope(request, principal), _KIND, given))


async def _scope(request: Request, principal: Principal) -> TenantScope:
    if "tenant" in request.query_params or Permission.ADMIN not in principal.permissions:
        return principal.scope
    covered = await request.app.state.authorise.gate.covered(principal)
    return TenantScope.operator(tuple(covered), reason="costs by tenant")
