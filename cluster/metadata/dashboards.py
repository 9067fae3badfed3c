"""Boards that are kept: whose they are, who may see and change them, and every state they were in."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from sqlalchemy import Select, case, delete, func, insert, literal, or_, select, update
from sqlalchemy.engine import Connection, RowMapping

from cluster.clock import Clock
from cluster.errors import Conflict, Forbidden, NotFound, VersionChanged
from cluster.metadata.engine import Database
from cluster.metadata.keys import Entropy
from cluster.metadata.schema import api_keys, dashboard_links, dashboard_versions, dashboards, tenants
from cluster.tenancy import TenantId

DASHBOARDS_PER_TENANT_MAX: Final = 500
# States of one board; the oldest go first, except those that a live link shows.
VERSIONS_MAX: Final = 50
_ID_BYTES: Final = 15


class Right(IntEnum):
    """What an asker may do with a board; each right carries those below it."""

    NONE = 0
    VIEW = 1
    EDIT = 2
    # Share it, link to it, delete it.
    OWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who asks for boards.

    People are known by their keys, so a board belongs to the key that made it, in the tenant that this key acted for.
    A key made by rotation inherits. An admin key owns every board of the tenant that it acts for.

    Attributes:
        tenant: the tenant that the key acts for.
        organisation_id: of the key.
    """

    key_id: str
    tenant: TenantId
    organisation_id: str
    is_admin: bool


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A board without its contents.

    Attributes:
        version: the newest, from 1.
        right: what the asker may do.
    """

    dashboard_id: str
    tenant_id: TenantId
    owner_key_id: str
    title: str
    version: int
    tenant_right: Right
    organisation_right: Right
    created_at_us: int
    changed_at_us: int
    right: Right


@dataclass(frozen=True, slots=True)
class Version:
    """One state of a board and the key that kept it."""

    version: int
    created_at_us: int
    created_by: str


class DashboardStore:
    """Reads and writes boards; every method is one transaction.

    All methods raise NotFound for a board that the asker may not see, whether it exists or not, and Forbidden where
    the asker sees it but lacks the right.
    """

    def __init__(self, database: Database, clock: Clock, entropy: Entropy = secrets.token_bytes) -> None:
        self._database = database
        self._clock = clock
        self._entropy = entropy

    def list_for(self, asker: Asker) -> list[Dashboard]:
        """Every board the asker may see, last changed first; at most `DASHBOARDS_PER_TENANT_MAX`."""
        query = _visible(asker).order_by(dashboards.c.changed_at_us.desc(), dashboards.c.dashboard_id)
        with self._database.reading() as connection:
            rows = connection.execute(query.limit(DASHBOARDS_PER_TENANT_MAX)).mappings().all()
        return [_dashboard(row) for row in rows]

    def find(self, asker: Asker, dashboard_id: str, version: int | None = None) -> tuple[Dashboard, str]:
        """A board and its JSON in that version, or the newest."""
        with self._database.reading() as connection:
            found = dashboard_with(connection, asker, dashboard_id, Right.VIEW)
            return found, board_json(connection, dashboard_id, version or found.version)

    def create(self, asker: Asker, title: str, board: str) -> Dashboard:
        """A new board that only its owner sees.

        Args:
            board: checked JSON.
        Raises:
            Conflict: the tenant holds its most boards.
        """
        dashboard_id = base64.b32encode(self._entropy(_ID_BYTES)).decode().lower()
        now_us = self._clock.now_us()
        row = {
            "dashboard_id": dashboard_id,
            "tenant_id": asker.tenant,
            "owner_key_id": asker.key_id,
            "title": title,
            "version": 1,
            "tenant_right": Right.NONE,
            "organisation_right": Right.NONE,
            "created_at_us": now_us,
            "changed_at_us": now_us,
        }
        counting = select(func.count()).select_from(dashboards).where(dashboards.c.tenant_id == asker.tenant)
        with self._database.writing() as connection:
            if (connection.scalar(counting) or 0) >= DASHBOARDS_PER_TENANT_MAX:
                raise Conflict(
                    f"the tenant holds its most boards, {DASHBOARDS_PER_TENANT_MAX}", hint="Delete some first."
                )
            connection.execute(insert(dashboards).values(row))
            _keep(connection, dashboard_id, board, by=asker.key_id, at_us=now_us)
            return dashboard_with(connection, asker, dashboard_id, Right.OWN)

    def save(self, asker: Asker, dashboard_id: str, board: str, *, title: str, held: int) -> Dashboard:
        """Keep a new state.

        Args:
            held: the version the change was made to.
        Raises:
            VersionChanged: somebody kept another one since.
        """
        now_us = self._clock.now_us()
        with self._database.writing() as connection:
            found = dashboard_with(connection, asker, dashboard_id, Right.EDIT)
            if found.version != held:
                raise VersionChanged(f"the board is at version {found.version}, the change was made to {held}")
            changed = update(dashboards).where(dashboards.c.dashboard_id == dashboard_id)
            connection.execute(changed.values(title=title, version=held + 1, changed_at_us=now_us))
            _keep(connection, dashboard_id, board, by=asker.key_id, at_us=now_us)
            _forget_old(connection, dashboard_id, held + 1, now_us)
            return dashboard_with(connection, asker, dashboard_id, Right.EDIT)

    def share(self, asker: Asker, dashboard_id: str, *, tenant: Right, organisation: Right) -> Dashboard:
        """What other keys of the tenant, and of its organisation's other tenants, may do from now on."""
        with self._database.writing() as connection:
            dashboard_with(connection, asker, dashboard_id, Right.OWN)
            changed = update(dashboards).where(dashboards.c.dashboard_id == dashboard_id)
            connection.execute(changed.values(tenant_right=tenant, organisation_right=organisation))
            return dashboard_with(connection, asker, dashboard_id, Right.OWN)

    def delete(self, asker: Asker, dashboard_id: str) -> None:
        """Remove the board with its states and links."""
        with self._database.writing() as connection:
            dashboard_with(connection, asker, dashboard_id, Right.OWN)
            for table in (dashboard_links, dashboard_versions, dashboards):
                connection.execute(delete(table).where(table.c.dashboard_id == dashboard_id))

    def versions(self, asker: Asker, dashboard_id: str) -> list[Version]:
        """The states that are still kept, newest first."""
        query = select(dashboard_versions).where(dashboard_versions.c.dashboard_id == dashboard_id)
        with self._database.reading() as connection:
            dashboard_with(connection, asker, dashboard_id, Right.VIEW)
            rows = connection.execute(query.order_by(dashboard_versions.c.version.desc())).mappings().all()
        return [Version(row["version"], row["created_at_us"], row["created_by"]) for row in rows]


def dashboard_with(connection: Connection, asker: Asker, dashboard_id: str, right: Right) -> Dashboard:
    """The board on which the asker has that right; inside the caller's transaction.

    Raises:
        NotFound: no such board that the asker may see.
        Forbidden: the asker lacks the right.
    """
    row = connection.execute(_visible(asker).where(dashboards.c.dashboard_id == dashboard_id)).mappings().first()
    if row is None:
        raise NotFound("no such board")
    found = _dashboard(row)
    if found.right < right:
        raise Forbidden(
            f"this key may not {'own' if right == Right.OWN else right.name.lower()} the board",
            hint="The key that made the board, or an admin key of its tenant, can share it.",
        )
    return found


def _visible(asker: Asker) -> Select[Any]:
    """Boards with the asker's right on each, where there is one."""
    # The key and those it took over from.
    mine = select(literal(asker.key_id).label("key_id")).cte("mine", recursive=True)
    mine = mine.union(select(api_keys.c.key_id).where(api_keys.c.replaced_by == mine.c.key_id))
    owned = dashboards.c.owner_key_id.in_(select(mine.c.key_id))
    right = case(
        (dashboards.c.tenant_id == asker.tenant, Right.OWN if asker.is_admin else _larger_for_owner(owned)),
        (tenants.c.organisation_id == asker.organisation_id, dashboards.c.organisation_right),
        else_=Right.NONE,
    )
    joined = dashboards.join(tenants, tenants.c.tenant_id == dashboards.c.tenant_id)
    within = or_(dashboards.c.tenant_id == asker.tenant, tenants.c.organisation_id == asker.organisation_id)
    return select(dashboards, right.label("asker_right")).select_from(joined).where(within, right > Right.NONE)


def _larger_for_owner(owned: Any) -> Any:
    # A board shared with the whole organisation is shared with the tenant too.
    shared = case(
        (dashboards.c.organisation_right > dashboards.c.tenant_right, dashboards.c.organisation_right),
        else_=dashboards.c.tenant_right,
    )
    return case((owned, Right.OWN), else_=shared)


def board_json(connection: Connection, dashboard_id: str, version: int) -> str:
    """The JSON of one state.

    Raises:
        NotFound: it is not kept.
    """
    kept = dashboard_versions.c
    found: str | None = connection.scalar(
        select(kept.board).where(kept.dashboard_id == dashboard_id, kept.version == version)
    )
    if found is None:
        raise NotFound("no such version of the board", hint=f"The last {VERSIONS_MAX} are kept.")
    return found


def _keep(connection: Connection, dashboard_id: str, board: str, *, by: str, at_us: int) -> None:
    newest = select(dashboards.c.version).where(dashboards.c.dashboard_id == dashboard_id)
    row = {
        "dashboard_id": dashboard_id,
        "version": connection.scalar(newest),
        "board": board,
        "created_at_us": at_us,
        "created_by": by,
    }
    connection.execute(insert(dashboard_versions).values(row))


def _forget_old(connection: Connection, dashboard_id: str, newest: int, now_us: int) -> None:
    links, kept = dashboard_links.c, dashboard_versions.c
    live = select(links.version).where(
        links.dashboard_id == dashboard_id, links.revoked_at_us.is_(None), links.expires_at_us > now_us
    )
    old = (kept.dashboard_id == dashboard_id, kept.version <= newest - VERSIONS_MAX, kept.version.not_in(live))
    connection.execute(delete(dashboard_versions).where(*old))


def _dashboard(row: RowMapping) -> Dashboard:
    return Dashboard(
        dashboard_id=row["dashboard_id"],
        tenant_id=TenantId(row["tenant_id"]),
        owner_key_id=row["owner_key_id"],
        title=row["title"],
        version=row["version"],
        tenant_right=Right(row["tenant_right"]),
        organisation_right=Right(row["organisation_right"]),
        created_at_us=row["created_at_us"],
        changed_at_us=row["changed_at_us"],
        right=Right(row["asker_right"]),
    )
