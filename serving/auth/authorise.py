"""The one way into every door: who asks, for which tenant, and may they."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from fastapi import Depends, Request

from cluster.errors import RequestInvalid, Unauthenticated
from serving.auth.api_keys import KeyGate
from serving.auth.principal import Principal
from serving.auth.roles import Permission


class Authorise:
    """Kept as `app.state.authorise`; routes call `await request.app.state.authorise(request, Permission.READ)`."""

    def __init__(self, gate: KeyGate) -> None:
        self.gate = gate

    async def __call__(self, request: Request, permission: Permission) -> Principal:
        """The principal of the request.

        The tenant is the key's. An admin key may name another one that it covers with `?tenant=`; nothing in the
        body or the headers ever does.

        Raises:
            Unauthenticated: no key, two different keys, or one that is not known.
            Forbidden: the key lacks the permission or does not cover the named tenant.
            RequestInvalid: more than one tenant is named.
        """
        principal = await self.gate.principal(key_text(request.headers.items()))
        # Before the refusals, so that the log names the key that was refused.
        request.state.principal = principal
        principal.require(permission)
        named = request.query_params.getlist("tenant")
        if len(named) > 1:
            raise RequestInvalid("`tenant` may be named once")
        if named:
            principal = await self.gate.on_behalf_of(principal, named[0])
            request.state.principal = principal
        return principal

    async def by_headers(self, headers: Iterable[tuple[str, str]], permission: Permission) -> Principal:
        """The principal of HTTP headers or gRPC metadata, without a choice of tenant.

        Raises: as `__call__`.
        """
        principal = await self.gate.principal(key_text(headers))
        principal.require(permission)
        return principal


class Holder:
    """The same as a FastAPI dependency: asked before the body is checked, so a stranger learns nothing of its form."""

    def __init__(self, permission: Permission) -> None:
        self._permission = permission

    async def __call__(self, request: Request) -> Principal:
        principal: Principal = await request.app.state.authorise(request, self._permission)
        return principal


AsReader = Annotated[Principal, Depends(Holder(Permission.READ))]
AsAdmin = Annotated[Principal, Depends(Holder(Permission.ADMIN))]
AsOperator = Annotated[Principal, Depends(Holder(Permission.OPERATE))]


def key_text(headers: Iterable[tuple[str, str]]) -> str:
    """The key in `Authorization: Bearer KEY` or `X-API-Key: KEY`.

    Raises:
        Unauthenticated: there is none, or two differ: a proxy and we might each believe another one.
    """
    found: set[str] = set()
    for name, value in headers:
        lowered = name.lower()
        if lowered == "x-api-key":
            found.add(value.strip())
        elif lowered == "authorization":
            scheme, _, rest = value.strip().partition(" ")
            if scheme.lower() != "bearer":
                raise Unauthenticated("the Authorization header is not of the form `Bearer KEY`")
            found.add(rest.strip())
    if not found:
        raise Unauthenticated("the request carries no key")
    if len(found) > 1:
        raise Unauthenticated("the request carries two different keys")
    return found.pop()
