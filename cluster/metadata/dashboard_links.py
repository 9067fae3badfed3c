"""Signed links to boards: the key they are signed with, and which of them still open anything."""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, insert, select, update
from sqlalchemy.engine import Connection, RowMapping
from sqlalchemy.exc import IntegrityError

from cluster.clock import Clock
from cluster.errors import Conflict, NotFound
from cluster.metadata.dashboards import Asker, Right, board_json, dashboard_with
from cluster.metadata.engine import Database
from cluster.metadata.keys import Entropy
from cluster.metadata.schema import api_keys, dashboard_links, signing_keys

LINKS_PER_DASHBOARD_MAX: Final = 100
_PURPOSE: Final = "dashboard links"
_ID_BYTES: Final = 10
_SECRET_BYTES: Final = 32
# Rotations followed from the key that made a link to the one that lives now.
_SUCCESSORS_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Link:
    """One link; its token is told once and not kept.

    Attributes:
        version: the state of the board that it shows, whatever is kept later.
        filters: fixed on every question, as `field:op:value`.
        created_by: the key whose rows it shows; the link ends with that key.
    """

    link_id: str
    dashboard_id: str
    version: int
    filters: tuple[str, ...]
    created_at_us: int
    created_by: str
    expires_at_us: int
    revoked_at_us: int | None


class LinkStore:
    """Reads and writes links; every method is one transaction and raises as `DashboardStore` does."""

    def __init__(self, database: Database, clock: Clock, entropy: Entropy = secrets.token_bytes) -> None:
        self._database = database
        self._clock = clock
        self._entropy = entropy

    def signing_key(self) -> bytes:
        """The key that tokens are signed with, the same in every process; made on the first call."""
        query = select(signing_keys.c.secret).where(signing_keys.c.name == _PURPOSE)
        with self._database.reading() as connection:
            found = connection.scalar(query)
        if found is None:
            row = {
                "name": _PURPOSE,
                "secret": self._entropy(_SECRET_BYTES).hex(),
                "created_at_us": self._clock.now_us(),
            }
            try:
                with self._database.writing() as connection:
                    connection.execute(insert(signing_keys).values(row))
            except IntegrityError:
                # Another process was quicker; its key is the one.
                pass
            with self._database.reading() as connection:
                found = connection.scalar(query)
        return bytes.fromhex(str(found))

    def create(self, asker: Asker, dashboard_id: str, *, version: int, filters: tuple[str, ...], live_s: int) -> Link:
        """A new link to one state of a board that the asker owns.

        Raises:
            Conflict: the board has its most live links.
        """
        now_us = self._clock.now_us()
        link = Link(
            link_id=base64.b32encode(self._entropy(_ID_BYTES)).decode().lower(),
            dashboard_id=dashboard_id,
            version=version,
            filters=filters,
            created_at_us=now_us,
            created_by=asker.key_id,
            expires_at_us=now_us + live_s * 1_000_000,
            revoked_at_us=None,
        )
        links = dashboard_links.c
        live = (links.dashboard_id == dashboard_id, links.revoked_at_us.is_(None), links.expires_at_us > now_us)
        with self._database.writing() as connection:
            dashboard_with(connection, asker, dashboard_id, Right.OWN)
            board_json(connection, dashboard_id, version)
            if (connection.scalar(select(func.count()).select_from(dashboard_links).where(*live)) or 0) >= (
                LINKS_PER_DASHBOARD_MAX
            ):
                raise Conflict(f"the board has its most live links, {LINKS_PER_DASHBOARD_MAX}", hint="End some first.")
            connection.execute(insert(dashboard_links).values(_row(link)))
        return link

    def list_of(self, asker: Asker, dashboard_id: str) -> list[Link]:
        """Links to a board that the asker owns, newest first, the ended ones too."""
        query = select(dashboard_links).where(dashboard_links.c.dashboard_id == dashboard_id)
        query = query.order_by(dashboard_links.c.created_at_us.desc(), dashboard_links.c.link_id)
        with self._database.reading() as connection:
            dashboard_with(connection, asker, dashboard_id, Right.OWN)
            rows = connection.execute(query.limit(2 * LINKS_PER_DASHBOARD_MAX)).mappings().all()
        return [_link(row) for row in rows]

    def revoke(self, asker: Asker, dashboard_id: str, link_id: str) -> Link:
        """End a link now; ending it again changes nothing.

        Raises:
            NotFound: no such link to that board.
        """
        links = dashboard_links.c
        one = (links.dashboard_id == dashboard_id, links.link_id == link_id)
        with self._database.writing() as connection:
            dashboard_with(connection, asker, dashboard_id, Right.OWN)
            changed = update(dashboard_links).where(*one, links.revoked_at_us.is_(None))
            connection.execute(changed.values(revoked_at_us=self._clock.now_us()))
            row = connection.execute(select(dashboard_links).where(*one)).mappings().first()
        if row is None:
            raise NotFound("no such link")
        return _link(row)

    def opened(self, link_id: str) -> tuple[Link, str] | None:
        """The link and the JSON of its board; None when it has ended, or the key that made it has."""
        now_us = self._clock.now_us()
        with self._database.reading() as connection:
            query = select(dashboard_links).where(dashboard_links.c.link_id == link_id)
            row = connection.execute(query).mappings().first()
            if row is None or row["revoked_at_us"] is not None or row["expires_at_us"] <= now_us:
                return None
            link = _link(row)
            if not _lives(connection, link.created_by, now_us):
                return None
            return link, board_json(connection, link.dashboard_id, link.version)


def _lives(connection: Connection, key_id: str, now_us: int) -> bool:
    """Whether the key, or one that it was rotated to, is live; a revoked key takes its links along."""
    keys = api_keys.c
    for _ in range(_SUCCESSORS_MAX):
        query = select(keys.revoked_at_us, keys.expires_at_us, keys.replaced_by).where(keys.key_id == key_id)
        row = connection.execute(query).mappings().first()
        if row is None or row["revoked_at_us"] is not None:
            return False
        if row["expires_at_us"] is None or now_us < row["expires_at_us"]:
            return True
        if row["replaced_by"] is None:
            return False
        key_id = row["replaced_by"]
    return False


def _row(link: Link) -> dict[str, object]:
    return {
        "link_id": link.link_id,
        "dashboard_id": link.dashboard_id,
        "version": link.version,
        "filters": json.dumps(link.filters),
        "created_at_us": link.created_at_us,
        "created_by": link.created_by,
        "expires_at_us": link.expires_at_us,
        "revoked_at_us": link.revoked_at_us,
    }


def _link(row: RowMapping) -> Link:
    return Link(
        link_id=row["link_id"],
        dashboard_id=row["dashboard_id"],
        version=row["version"],
        filters=tuple(json.loads(row["filters"])),
        created_at_us=row["created_at_us"],
        created_by=row["created_by"],
        expires_at_us=row["expires_at_us"],
        revoked_at_us=row["revoked_at_us"],
    )
