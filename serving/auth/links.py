"""Signed links: a token that opens one state of one board, read-only, for the rows of one scope, until it ends."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

import msgspec
from fastapi import Request

from cluster.clock import Clock
from cluster.errors import Unauthenticated
from cluster.metadata.dashboard_links import Link, LinkStore
from cluster.metadata.tenants import TenantStore
from cluster.tenancy import TenantId
from serving.auth.authorise import key_text
from serving.auth.principal import Principal
from serving.auth.roles import Permission

# Above what 32 filters of the longest sort come to.
_TOKEN_LENGTH_MAX: Final = 64 * 1024
_DOMAIN: Final = b"board link\x00"


class Claims(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a token says, under the hub's signature.

    Attributes:
        tenant, project_id: whose rows its questions read: those of the key that made the link.
        filters: fixed on every question.
    """

    link_id: str
    dashboard_id: str
    version: int
    tenant: str
    project_id: str | None
    filters: tuple[str, ...]
    expires_at_us: int


@dataclass(frozen=True, slots=True)
class OpenedBoard:
    """What a good token opens.

    Attributes:
        principal: may read the rows of the link's scope; goes by the link's id.
        board: JSON of the state that was linked.
    """

    principal: Principal
    claims: Claims
    board: str


class LinkGate:
    """Signs tokens and opens them; kept as `app.state.links`.

    A token is refused when one bit of it is another, when it is of another board, when its time is over, when the link
    was ended, and when the key that made it has ended. The signature is looked at first: a stranger costs no question
    to the metadata store.
    """

    def __init__(self, store: LinkStore, tenants: TenantStore, clock: Clock) -> None:
        self._store = store
        self._tenants = tenants
        self._clock = clock
        self._key = b""

    async def token(self, link: Link, maker: Principal) -> str:
        """The text of a link, told once."""
        claims = Claims(
            link_id=link.link_id,
            dashboard_id=link.dashboard_id,
            version=link.version,
            tenant=maker.tenant,
            project_id=maker.project_id,
            filters=link.filters,
            expires_at_us=link.expires_at_us,
        )
        body = msgspec.json.encode(claims)
        return f"{_text(body)}.{_text(await self._signature(body))}"

    async def open(self, request: Request, dashboard_id: str, token: str | None = None) -> OpenedBoard:
        """What the token in `Authorization: Bearer TOKEN`, or the one given, opens.

        Raises:
            Unauthenticated: nothing, and which of the reasons is not told.
        """
        claims = await self._claims(token if token is not None else key_text(request.headers.items()))
        if claims.dashboard_id != dashboard_id or self._clock.now_us() >= claims.expires_at_us:
            raise _refusal()
        opened = await asyncio.to_thread(self._store.opened, claims.link_id)
        owner = await asyncio.to_thread(self._tenants.find, claims.tenant)
        if opened is None or owner is None:
            raise _refusal()
        principal = Principal(
            key_id=f"link {claims.link_id}",
            tenant=TenantId(claims.tenant),
            project_id=claims.project_id,
            organisation_id=owner.organisation_id,
            permissions=frozenset({Permission.READ}),
            quota=owner.quota,
        )
        request.state.principal = principal
        return OpenedBoard(principal, claims, opened[1])

    async def _claims(self, token: str) -> Claims:
        body, _, signature = token.partition(".")
        if len(token) > _TOKEN_LENGTH_MAX:
            raise _refusal()
        try:
            signed, given = _bytes(body), _bytes(signature)
        except (binascii.Error, ValueError) as error:
            raise _refusal() from error
        # One spelling for each token: base64 has bits that decoders pass over.
        if (_text(signed), _text(given)) != (body, signature):
            raise _refusal()
        if not hmac.compare_digest(await self._signature(signed), given):
            raise _refusal()
        return msgspec.json.decode(signed, type=Claims)

    async def _signature(self, body: bytes) -> bytes:
        if not self._key:
            self._key = await asyncio.to_thread(self._store.signing_key)
        return hmac.new(self._key, _DOMAIN + body, hashlib.sha256).digest()


def _refusal() -> Unauthenticated:
    return Unauthenticated("the link is not known, or has ended", hint="Ask whoever sent it for a new one.")


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
