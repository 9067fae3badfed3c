"""Who owns rows: TenantId, and TenantScope, the only key that opens a read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NewType

from cluster.errors import RequestInvalid

TenantId = NewType("TenantId", str)

# Delta writes the empty string as NULL in a partition path, so "no tenant" must be impossible to spell.
_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

DEFAULT_TENANT = TenantId("default")


def tenant_id(text: str) -> TenantId:
    """Checked tenant id.

    Raises:
        RequestInvalid: not 1..63 characters of `a-z 0-9 _ -` starting with a letter or digit.
    """
    if not _TENANT.fullmatch(text):
        raise RequestInvalid(
            f"tenant id {text[:80]!r} is not valid",
            hint="Use 1 to 63 of a-z, 0-9, '-' and '_', starting with a-z or 0-9.",
        )
    return TenantId(text)


@dataclass(frozen=True, slots=True)
class TenantScope:
    """The tenants a read may see; made from a credential, never from a request.

    Attributes:
        tenants: the tenants, sorted. Never empty.
        project_id: when set, only rows of this project.
        reason: why an operator scope was opened, empty for a tenant's own reads.
    """

    tenants: tuple[TenantId, ...]
    project_id: str | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        if not self.tenants:
            raise ValueError("a scope without a tenant would read everything or nothing")

    @classmethod
    def of(cls, tenant: TenantId, project_id: str | None = None) -> TenantScope:
        return cls((tenant,), project_id)

    @classmethod
    def operator(cls, tenants: tuple[TenantId, ...], *, reason: str) -> TenantScope:
        """A scope over several tenants for jobs and administration; the reason goes to the trail."""
        if not reason:
            raise ValueError("an operator scope needs a reason")
        return cls(tuple(sorted(tenants)), None, reason)
