"""API keys: made once, shown once, kept as a hash; narrowed by scope, project and time; rotated with a grace."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, Select, and_, func, insert, or_, select, update
from sqlalchemy.engine import Connection, RowMapping
from sqlalchemy.exc import IntegrityError

from cluster.clock import Clock
from cluster.errors import Conflict, NotFound, RequestInvalid
from cluster.metadata.engine import Database
from cluster.metadata.schema import api_keys, organisations, tenants
from cluster.metadata.tenants import QUOTA_COLUMNS, Quota, checked_name, quota_of
from cluster.tenancy import TenantId

SCOPES: Final = ("admin", "anomalies", "ingest", "read")
# What leak scanners look for, and the only form a key can have: id, then 256 bits.
KEY_PATTERN: Final = re.compile(r"hub_([a-z2-7]{12})_([A-Za-z0-9_-]{43})")

_KEYS_PER_TENANT_MAX: Final = 1_000
_GRACE_MAX_S: Final = 30 * 86_400
_ID_BYTES = 8
_SECRET_BYTES = 32

Entropy = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is kept of a key: everything but the key.

    Attributes:
        key_id: the part after "hub_"; names the key to people, opens nothing.
        project_id: when set, the key sees and writes only this project.
        replaced_by: the key that took over at a rotation.
        quota: of its tenant.
    """

    key_id: str
    name: str
    tenant_id: TenantId
    organisation_id: str
    is_operator: bool
    project_id: str | None
    scopes: tuple[str, ...]
    created_at_us: int
    created_by: str | None
    expires_at_us: int | None
    revoked_at_us: int | None
    last_used_at_us: int | None
    replaced_by: str | None
    quota: Quota

    def is_live(self, now_us: int) -> bool:
        """Whether the key opens anything at that instant."""
        return self.revoked_at_us is None and (self.expires_at_us is None or now_us < self.expires_at_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRequest:
    """What a new key shall be able to do.

    Attributes:
        scopes: of SCOPES, at least one.
        expires_at_us: None for a key that lives until it is revoked.
        created_by: id of the key that asked, None for the first one.
    """

    tenant: TenantId
    scopes: Collection[str]
    name: str
    project_id: str | None = None
    expires_at_us: int | None = None
    created_by: str | None = None


class KeyStore:
    """Reads and writes keys; every method is one transaction."""

    def __init__(self, database: Database, clock: Clock, entropy: Entropy = secrets.token_bytes) -> None:
        self._database = database
        self._clock = clock
        self._entropy = entropy

    def create(self, request: KeyRequest) -> tuple[ApiKey, str]:
        """A new key and its text, which is told here and never again.

        Raises:
            RequestInvalid: scope, name, project or expiry is not valid.
            Conflict: the tenant holds its most live keys.
        """
        with self._database.writing() as connection:
            text = insert_key(connection, request, clock=self._clock, entropy=self._entropy)
            return _one(connection, _parsed(text)[0]), text

    def find(self, text: str) -> ApiKey | None:
        """The live key of that text; None when it is unknown, wrong, expired or revoked, without telling which."""
        match = KEY_PATTERN.fullmatch(text)
        if match is None:
            return None
        query = _keys(api_keys.c.secret_hash).where(api_keys.c.key_id == match[1])
        with self._database.reading() as connection:
            row = connection.execute(query).mappings().first()
        # An unknown id takes the same path as a wrong secret, so that time does not tell them apart.
        kept = row["secret_hash"] if row else "0" * 64
        if not hmac.compare_digest(hash_key(text), kept) or row is None:
            return None
        key = _key(row)
        return key if key.is_live(self._clock.now_us()) else None

    def list_of(self, tenant_ids: Collection[TenantId]) -> list[ApiKey]:
        """Keys of these tenants, newest first; the dead ones too, since a list is read to find out what happened."""
        query = _keys().where(api_keys.c.tenant_id.in_(sorted(tenant_ids)))
        query = query.order_by(api_keys.c.created_at_us.desc(), api_keys.c.key_id).limit(_KEYS_PER_TENANT_MAX)
        with self._database.reading() as connection:
            return [_key(row) for row in connection.execute(query).mappings()]

    def revoke(self, key_id: str, *, among: Collection[TenantId]) -> ApiKey:
        """End the key now; ending it again changes nothing.

        Raises:
            NotFound: no such key among these tenants.
        """
        with self._database.writing() as connection:
            key = _one(connection, key_id, among=among)
            if key.revoked_at_us is None:
                changed = update(api_keys).where(api_keys.c.key_id == key_id)
                connection.execute(changed.values(revoked_at_us=self._clock.now_us()))
            return _one(connection, key_id)

    def rotate(
        self, key_id: str, *, among: Collection[TenantId], grace_s: float, created_by: str
    ) -> tuple[ApiKey, str]:
        """A successor with the same rights; the old key lives on for `grace_s`, so that senders can be changed.

        Raises:
            NotFound: no such key among these tenants.
            Conflict: the key is dead, or was rotated before: two live keys are the most.
            RequestInvalid: grace_s is not in 0 .. 30 days.
        """
        if not 0 <= grace_s <= _GRACE_MAX_S:
            raise RequestInvalid(f"grace_s must be from 0 to {_GRACE_MAX_S}")
        now_us = self._clock.now_us()
        with self._database.writing() as connection:
            old = _one(connection, key_id, among=among)
            if not old.is_live(now_us) or old.replaced_by is not None:
                raise Conflict(
                    f"key {key_id} cannot be rotated", hint="It has ended or has a successor: rotate that one."
                )
            request = KeyRequest(
                tenant=old.tenant_id,
                scopes=old.scopes,
                name=old.name,
                project_id=old.project_id,
                expires_at_us=old.expires_at_us,
                created_by=created_by,
            )
            text = insert_key(connection, request, clock=self._clock, entropy=self._entropy)
            new_id = _parsed(text)[0]
            ends_at_us = now_us + int(grace_s * 1_000_000)
            if old.expires_at_us is not None:
                ends_at_us = min(ends_at_us, old.expires_at_us)
            changed = update(api_keys).where(api_keys.c.key_id == key_id)
            connection.execute(changed.values(expires_at_us=ends_at_us, replaced_by=new_id))
            return _one(connection, new_id), text

    def touch(self, used: Mapping[str, int]) -> None:
        """Note when keys were last used, by id, in microseconds; never moves one back."""
        with self._database.writing() as connection:
            for key_id, at_us in sorted(used.items()):
                older = or_(api_keys.c.last_used_at_us.is_(None), api_keys.c.last_used_at_us < at_us)
                changed = update(api_keys).where(and_(api_keys.c.key_id == key_id, older))
                connection.execute(changed.values(last_used_at_us=at_us))


def hash_key(text: str) -> str:
    """What is kept of a key's text: SHA-256, hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def insert_key(connection: Connection, request: KeyRequest, *, clock: Clock, entropy: Entropy) -> str:
    """Write a new key inside the caller's transaction; returns its text.

    Raises: as `KeyStore.create`.
    """
    scopes = sorted(set(request.scopes))
    if not scopes or not set(scopes) <= set(SCOPES):
        raise RequestInvalid(f"scopes must be some of {', '.join(SCOPES)}")
    if request.project_id is not None and "admin" in scopes:
        raise RequestInvalid("an admin key cannot be narrowed to a project")
    now_us = clock.now_us()
    if request.expires_at_us is not None and request.expires_at_us <= now_us:
        raise RequestInvalid("a key cannot expire in the past")
    live = and_(
        api_keys.c.tenant_id == request.tenant,
        api_keys.c.revoked_at_us.is_(None),
        or_(api_keys.c.expires_at_us.is_(None), api_keys.c.expires_at_us > now_us),
    )
    if (connection.scalar(select(func.count()).select_from(api_keys).where(live)) or 0) >= _KEYS_PER_TENANT_MAX:
        raise Conflict(f"the tenant holds its most live keys, {_KEYS_PER_TENANT_MAX}", hint="Revoke some first.")
    key_id = base64.b32encode(entropy(_ID_BYTES)).decode().lower()[:12]
    secret = base64.urlsafe_b64encode(entropy(_SECRET_BYTES)).decode().rstrip("=")
    text = f"hub_{key_id}_{secret}"
    row = {
        "key_id": key_id,
        "secret_hash": hash_key(text),
        "name": checked_name(request.name),
        "tenant_id": request.tenant,
        "project_id": request.project_id,
        "scopes": ",".join(scopes),
        "created_at_us": now_us,
        "created_by": request.created_by,
        "expires_at_us": request.expires_at_us,
    }
    try:
        connection.execute(insert(api_keys).values(row))
    except IntegrityError as error:
        raise RequestInvalid("the tenant or project of the key does not exist") from error
    return text


def _parsed(text: str) -> tuple[str, str]:
    _, key_id, secret = text.split("_", 2)
    return key_id, secret


def _keys(*more: Column[Any]) -> Select[Any]:
    columns = [column for column in api_keys.c if column.name != "secret_hash"]
    query = select(*columns, *QUOTA_COLUMNS, organisations.c.organisation_id, organisations.c.is_operator, *more)
    joined = api_keys.join(tenants, tenants.c.tenant_id == api_keys.c.tenant_id)
    joined = joined.join(organisations, organisations.c.organisation_id == tenants.c.organisation_id)
    return query.select_from(joined)


def _one(connection: Connection, key_id: str, *, among: Collection[TenantId] | None = None) -> ApiKey:
    query = _keys().where(api_keys.c.key_id == key_id)
    if among is not None:
        query = query.where(api_keys.c.tenant_id.in_(sorted(among)))
    row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFound("no such key")
    return _key(row)


def _key(row: RowMapping) -> ApiKey:
    return ApiKey(
        key_id=row["key_id"],
        name=row["name"],
        tenant_id=TenantId(row["tenant_id"]),
        organisation_id=row["organisation_id"],
        is_operator=bool(row["is_operator"]),
        project_id=row["project_id"],
        scopes=tuple(row["scopes"].split(",")),
        created_at_us=row["created_at_us"],
        created_by=row["created_by"],
        expires_at_us=row["expires_at_us"],
        revoked_at_us=row["revoked_at_us"],
        last_used_at_us=row["last_used_at_us"],
        replaced_by=row["replaced_by"],
        quota=quota_of(row),
    )
