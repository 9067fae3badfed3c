"""Organisations, their tenants with their quotas, and the projects inside a tenant."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from sqlalchemy import Select, func, insert, select, update
from sqlalchemy.engine import Connection, RowMapping
from sqlalchemy.exc import IntegrityError

from cluster.clock import Clock
from cluster.errors import Conflict, NotFound, RequestInvalid
from cluster.metadata.engine import Database
from cluster.metadata.schema import organisations, projects, tenants
from cluster.tenancy import TenantId, tenant_id

NAME_LENGTH_MAX: Final = 200
# Rows a list may hold; far above what one hub serves, so that an answer is never without an end.
TENANTS_MAX: Final = 10_000
PROJECTS_MAX: Final = 1_000
# Far above what a hub can do, and exact as a float.
QUOTA_MAX: Final = 10**15
BURST_MAX_S: Final = 86_400.0

_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """A tenant's own limits; None where the hub's setting counts, 0 where there is no limit.

    Attributes:
        burst_s: seconds of its rate that it may use at once.
    """

    events_per_s: int | None = None
    bytes_per_s: int | None = None
    questions_per_s: int | None = None
    burst_s: float | None = None

    def check(self) -> None:
        """Raises:
        RequestInvalid: a value is out of its range.
        """
        for name in ("events_per_s", "bytes_per_s", "questions_per_s"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= QUOTA_MAX:
                raise RequestInvalid(f"{name} must be from 0, for no limit, to {QUOTA_MAX}")
        if self.burst_s is not None and not 0 < self.burst_s <= BURST_MAX_S:
            raise RequestInvalid(f"burst_s must be above 0 and at most {BURST_MAX_S:.0f}")


# Every limit is the hub's own setting.
HUB_QUOTA: Final = Quota()
QUOTA_COLUMNS: Final = tuple(tenants.c[field.name] for field in fields(Quota))


@dataclass(frozen=True, slots=True)
class Tenant:
    """An owner of rows and the organisation that answers for it."""

    tenant_id: TenantId
    organisation_id: str
    name: str
    is_operator: bool
    created_at_us: int
    quota: Quota = HUB_QUOTA


@dataclass(frozen=True, slots=True)
class Project:
    """A part of a tenant's rows."""

    tenant_id: TenantId
    project_id: str
    name: str
    created_at_us: int


class TenantStore:
    """Reads and writes tenants; every method is one transaction."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def find(self, tenant: str) -> Tenant | None:
        """The tenant of that id, or None."""
        query = _tenants().where(tenants.c.tenant_id == tenant)
        with self._database.reading() as connection:
            row = connection.execute(query).mappings().first()
        return _tenant(row) if row else None

    def of_organisation(self, organisation_id: str) -> list[Tenant]:
        """The organisation's tenants by id; every tenant of the hub where it is the operator."""
        query = _tenants().order_by(tenants.c.tenant_id).limit(TENANTS_MAX)
        with self._database.reading() as connection:
            is_operator = connection.scalar(
                select(organisations.c.is_operator).where(organisations.c.organisation_id == organisation_id)
            )
            if not is_operator:
                query = query.where(tenants.c.organisation_id == organisation_id)
            rows = connection.execute(query).mappings().all()
        return [_tenant(row) for row in rows]

    def create(self, tenant: str, *, organisation_id: str, name: str = "") -> Tenant:
        """A new tenant of an existing organisation.

        Raises:
            RequestInvalid: the id or name is not valid.
            Conflict: the id is taken, or the hub holds its most tenants.
            NotFound: no such organisation.
        """
        checked = tenant_id(tenant)
        label = checked_name(name or tenant)
        with self._database.writing() as connection:
            found = connection.execute(
                select(organisations).where(organisations.c.organisation_id == organisation_id)
            ).mappings()
            organisation = found.first()
            if organisation is None:
                raise NotFound("no such organisation")
            if (connection.scalar(select(func.count()).select_from(tenants)) or 0) >= TENANTS_MAX:
                raise Conflict(f"the hub holds its most tenants, {TENANTS_MAX}")
            created_at_us = self._clock.now_us()
            _insert_tenant(connection, checked, organisation_id=organisation_id, name=label, at_us=created_at_us)
            return Tenant(checked, organisation_id, label, bool(organisation["is_operator"]), created_at_us)

    def set_quota(self, tenant: TenantId, quota: Quota) -> None:
        """Put these limits in place of the tenant's; replicas know them within `HUB_KEY_CACHE_S`.

        Raises:
            RequestInvalid: a value is out of its range.
            NotFound: no such tenant.
        """
        quota.check()
        changed = update(tenants).where(tenants.c.tenant_id == tenant).values(asdict(quota))
        with self._database.writing() as connection:
            if connection.execute(changed).rowcount == 0:
                raise NotFound("no such tenant")

    def create_organisation(self, organisation_id: str, *, name: str = "") -> None:
        """A new organisation that is not the operator.

        Raises:
            RequestInvalid: the id or name is not valid.
            Conflict: the id is taken.
        """
        row = {
            "organisation_id": tenant_id(organisation_id),
            "name": checked_name(name or organisation_id),
            "is_operator": 0,
            "created_at_us": self._clock.now_us(),
        }
        try:
            with self._database.writing() as connection:
                connection.execute(insert(organisations).values(row))
        except IntegrityError as error:
            raise Conflict(f"organisation {organisation_id!r} exists") from error

    def projects_of(self, tenant: TenantId) -> list[Project]:
        """The tenant's projects by id."""
        query = (
            select(projects).where(projects.c.tenant_id == tenant).order_by(projects.c.project_id).limit(PROJECTS_MAX)
        )
        with self._database.reading() as connection:
            rows = connection.execute(query).mappings().all()
        return [Project(TenantId(r["tenant_id"]), r["project_id"], r["name"], r["created_at_us"]) for r in rows]

    def create_project(self, tenant: TenantId, project_id: str, *, name: str = "") -> Project:
        """A new project of an existing tenant.

        Raises:
            RequestInvalid: the id or name is not valid.
            Conflict: the id is taken, or the tenant holds its most projects.
        """
        if not _PROJECT.fullmatch(project_id):
            raise RequestInvalid(
                f"project id {project_id[:80]!r} is not valid", hint="Use 1 to 63 of a-z, 0-9, '-' and '_'."
            )
        project = Project(tenant, project_id, checked_name(name or project_id), self._clock.now_us())
        counting = select(func.count()).select_from(projects).where(projects.c.tenant_id == tenant)
        try:
            with self._database.writing() as connection:
                if (connection.scalar(counting) or 0) >= PROJECTS_MAX:
                    raise Conflict(f"the tenant holds its most projects, {PROJECTS_MAX}")
                connection.execute(insert(projects).values(asdict(project)))
        except IntegrityError as error:
            raise Conflict(f"project {project_id!r} exists, or its tenant does not") from error
        return project


def checked_name(name: str) -> str:
    """The name as kept: printable, 1 to 200 characters.

    Raises:
        RequestInvalid: empty, too long, or with a control character, which could forge a line where it is shown.
    """
    if not 0 < len(name) <= NAME_LENGTH_MAX or not name.isprintable():
        raise RequestInvalid(f"a name is 1 to {NAME_LENGTH_MAX} printable characters")
    return name


def insert_operator(connection: Connection, tenant: TenantId, *, organisation_id: str, at_us: int) -> None:
    """The operator organisation and its first tenant; inside the caller's transaction."""
    row = {"organisation_id": organisation_id, "name": "Operator", "is_operator": 1, "created_at_us": at_us}
    connection.execute(insert(organisations).values(row))
    _insert_tenant(connection, tenant, organisation_id=organisation_id, name="Default", at_us=at_us)


def operator_tenant(connection: Connection) -> TenantId | None:
    """The oldest tenant of the operator organisation; None before the first start."""
    query = _tenants().where(organisations.c.is_operator == 1).order_by(tenants.c.created_at_us).limit(1)
    row = connection.execute(query).mappings().first()
    return TenantId(row["tenant_id"]) if row else None


def _insert_tenant(connection: Connection, tenant: TenantId, *, organisation_id: str, name: str, at_us: int) -> None:
    row = {"tenant_id": tenant, "organisation_id": organisation_id, "name": name, "created_at_us": at_us}
    try:
        connection.execute(insert(tenants).values(row))
    except IntegrityError as error:
        raise Conflict(f"tenant {tenant!r} exists") from error


def _tenants() -> Select[Any]:
    return select(tenants, organisations.c.is_operator).join(
        organisations, organisations.c.organisation_id == tenants.c.organisation_id
    )


def quota_of(row: RowMapping) -> Quota:
    """The quota in a row with QUOTA_COLUMNS."""
    return Quota(**{column.name: row[column.name] for column in QUOTA_COLUMNS})


def _tenant(row: RowMapping) -> Tenant:
    return Tenant(
        TenantId(row["tenant_id"]),
        row["organisation_id"],
        row["name"],
        bool(row["is_operator"]),
        row["created_at_us"],
        quota_of(row),
    )
