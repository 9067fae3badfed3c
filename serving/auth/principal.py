"""Who asks: the only product of authentication, and the only source of a tenant."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cluster.errors import Forbidden
from cluster.metadata.tenants import HUB_QUOTA, Quota, Tenant
from cluster.tenancy import TenantId, TenantScope
from serving.auth.roles import Permission


@dataclass(frozen=True, slots=True)
class Principal:
    """A known key and what it stands for.

    Attributes:
        tenant: whose rows this request writes or reads; an admin may have chosen it among those it covers.
        project_id: when set, only this project's rows.
        organisation_id: the organisation of the key, whatever tenant it acts for.
        quota: of the tenant it acts for.
    """

    key_id: str
    tenant: TenantId
    project_id: str | None
    organisation_id: str
    permissions: frozenset[Permission]
    quota: Quota = HUB_QUOTA

    @property
    def scope(self) -> TenantScope:
        """The key of every read this request makes."""
        return TenantScope.of(self.tenant, self.project_id)

    def require(self, permission: Permission) -> None:
        """Refuse unless the key carries the permission.

        Raises:
            Forbidden: it does not.
        """
        if permission not in self.permissions:
            raise Forbidden(
                f"this key does not carry the permission {permission.value!r}",
                hint="An admin key makes one that does: `llmhub keys create`.",
            )

    def acting_for(self, tenant: Tenant) -> Principal:
        """The same key on another tenant; the caller has checked that the key covers it."""
        return replace(self, tenant=tenant.tenant_id, quota=tenant.quota)
