"""Questions that run as jobs: what was asked, how far it is, how it ended; and who holds it now.

A job belongs to the process that beats. One that does not is over: whoever looks next says so, and a process that
wakes up late is told that the job is no longer its own. So no job hangs, whatever was killed.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from cluster.clock import Clock
from cluster.errors import Busy, NotFound
from cluster.metadata.engine import Database
from cluster.metadata.query_tables import query_jobs
from cluster.settings import Settings
from cluster.tenancy import TenantScope

QUEUED: Final = "queued"
RUNNING: Final = "running"
DONE: Final = "done"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
OPEN: Final = (QUEUED, RUNNING)

BEAT_S: Final = 1.0
# A machine under load may hold a process up for some beats; a submitted job starts an interpreter and joins Ray.
LEASE_S: Final = 30.0
START_S: Final = 180.0
LISTED_MAX: Final = 100
_BUSY_RETRY_S: Final = 5.0
_DAY_US: Final = 86_400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NewQueryJob:
    """A question to be answered by a job.

    Attributes:
        question: JSON, as doors and the job agree on it.
        now_us: what relative times in it stand on.
        version: of the events, that the answer is read from.
        reason: why it is a job.
        file_count, row_count, size_bytes: of what has to be read.
    """

    tenant_id: str
    project_id: str | None
    key_id: str
    kind: str
    question: str
    now_us: int
    version: int
    reason: str
    file_count: int
    row_count: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How much of what has to be read was read, and on how many nodes."""

    file_count: int = 0
    row_count: int = 0
    size_bytes: int = 0
    nodes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryJob(NewQueryJob):
    """A job as it stands.

    Attributes:
        state: queued, running, done, failed or cancelled.
        error_code, error_message, error_hint: of a failed one, else empty.
        started_at_us, ended_at_us: None before.
    """

    query_id: str
    state: str
    done: Progress
    error_code: str
    error_message: str
    error_hint: str
    created_at_us: int
    started_at_us: int | None
    ended_at_us: int | None


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many jobs may be open, and how long those that ended are kept.

    Attributes:
        most: of all tenants together.
        most_of_tenant: of one.
        kept_days: after the end.
    """

    most: int
    most_of_tenant: int
    kept_days: int

    @classmethod
    def of(cls, settings: Settings) -> Bounds:
        return cls(settings.query_jobs, settings.query_jobs_tenant, settings.answer_days)


class QueryJobStore:
    """The jobs of all tenants; what a caller sees is cut to its scope."""

    def __init__(self, database: Database, clock: Clock, bounds: Bounds) -> None:
        self._database = database
        self._clock = clock
        self._bounds = bounds

    # What doors call

    def create(self, new: NewQueryJob) -> QueryJob:
        """Keep a question as queued.

        Raises:
            Busy: as many jobs as may be are open, of the tenant or of all.
        """
        now_us = self._clock.now_us()
        row = {name: getattr(new, name) for name in NewQueryJob.__dataclass_fields__}
        query_id = secrets.token_hex(8)
        with self._database.writing() as connection:
            self._settle(connection)
            is_open = query_jobs.c.state.in_(OPEN)
            mine = query_jobs.c.tenant_id == new.tenant_id
            self._refuse(_count(connection, is_open & mine), self._bounds.most_of_tenant, "of this tenant")
            self._refuse(_count(connection, is_open), self._bounds.most, "of the hub")
            connection.execute(
                insert(query_jobs).values(
                    **row, query_id=query_id, state=QUEUED, created_at_us=now_us, beat_at_us=now_us
                )
            )
            return _found(connection, query_jobs.c.query_id == query_id)

    def find(self, scope: TenantScope, query_id: str) -> QueryJob:
        """A job of the scope.

        Raises:
            NotFound: there is none of that id that the scope may see, or not any more.
        """
        self._settled()
        with self._database.reading() as connection:
            return _found(connection, _seen(scope) & (query_jobs.c.query_id == query_id))

    def newest(self, scope: TenantScope) -> list[QueryJob]:
        """Jobs of the scope, newest first, LISTED_MAX at most."""
        self._settled()
        asked = (
            select(query_jobs).where(_seen(scope)).order_by(query_jobs.c.created_at_us.desc(), query_jobs.c.query_id)
        )
        with self._database.reading() as connection:
            return [_job(row) for row in connection.execute(asked.limit(LISTED_MAX)).mappings()]

    def cancel(self, scope: TenantScope, query_id: str) -> QueryJob:
        """End a job of the scope; one that has ended stays as it is.

        Raises: as `find`.
        """
        with self._database.writing() as connection:
            self._settle(connection)
            this = _seen(scope) & (query_jobs.c.query_id == query_id)
            ended = {"state": CANCELLED, "ended_at_us": self._clock.now_us()}
            connection.execute(update(query_jobs).where(this & query_jobs.c.state.in_(OPEN)).values(**ended))
            return _found(connection, this)

    def refuse(self, query_id: str, message: str, hint: str) -> None:
        """End a queued job for which no process could be started."""
        ended = {"state": FAILED, "error_code": "unavailable", "error_message": message, "error_hint": hint}
        this = (query_jobs.c.query_id == query_id) & (query_jobs.c.state == QUEUED)
        with self._database.writing() as connection:
            connection.execute(update(query_jobs).where(this).values(**ended, ended_at_us=self._clock.now_us()))

    # What the job calls

    def claim(self, query_id: str) -> QueryJob | None:
        """The job, which now belongs to the caller; None when it is no longer to be run."""
        now_us = self._clock.now_us()
        with self._database.writing() as connection:
            self._settle(connection)
            this = query_jobs.c.query_id == query_id
            begun = {"state": RUNNING, "started_at_us": now_us, "beat_at_us": now_us}
            taken = connection.execute(update(query_jobs).where(this & (query_jobs.c.state == QUEUED)).values(**begun))
            return _found(connection, this) if taken.rowcount else None

    def beat(self, query_id: str, done: Progress) -> bool:
        """Tell that the job is alive and how far it is; whether it still is to be run."""
        told = {
            "file_count_done": done.file_count,
            "row_count_done": done.row_count,
            "size_bytes_done": done.size_bytes,
            "nodes": done.nodes,
            "beat_at_us": self._clock.now_us(),
        }
        return self._change(query_id, told)

    def end(self, query_id: str, state: str, *, code: str = "", message: str = "", hint: str = "") -> bool:
        """Tell how the job ended; False when somebody else has ended it before."""
        ended = {"state": state, "error_code": code, "error_message": message, "error_hint": hint}
        return self._change(query_id, {**ended, "ended_at_us": self._clock.now_us()})

    def _change(self, query_id: str, values: dict[str, Any]) -> bool:
        this = (query_jobs.c.query_id == query_id) & (query_jobs.c.state == RUNNING)
        with self._database.writing() as connection:
            self._settle(connection)
            return bool(connection.execute(update(query_jobs).where(this).values(**values)).rowcount)

    # What became of others

    def _refuse(self, open_count: int, most: int, whose: str) -> None:
        if open_count >= most:
            raise Busy(
                f"{open_count} jobs {whose} are queued or running, and {most} may be",
                retry_after_s=_BUSY_RETRY_S,
                hint="Wait for one to end, or cancel it: DELETE /api/v1/queries/{id}.",
            )

    def _settled(self) -> None:
        lost, old = self._lost(), self._old()
        with self._database.reading() as connection:
            due = _count(connection, or_(*lost.values(), old))
        if due:
            with self._database.writing() as connection:
                self._settle(connection)

    def _settle(self, connection: Connection) -> None:
        """Fail the jobs nobody beats for, and forget the old ones."""
        for message, lost in self._lost().items():
            failed = {
                "state": FAILED,
                "error_code": "job_lost",
                "error_message": message,
                "error_hint": "Ask again.",
                "ended_at_us": self._clock.now_us(),
            }
            connection.execute(update(query_jobs).where(lost).values(**failed))
        connection.execute(delete(query_jobs).where(self._old()))

    def _lost(self) -> dict[str, ColumnElement[bool]]:
        now_us = self._clock.now_us()
        state, beat_at_us = query_jobs.c.state, query_jobs.c.beat_at_us
        return {
            f"its process was not there within {START_S:.0f} s": (state == QUEUED)
            & (beat_at_us < now_us - int(START_S * 1e6)),
            f"its process ended, or did nothing for {LEASE_S:.0f} s": (state == RUNNING)
            & (beat_at_us < now_us - int(LEASE_S * 1e6)),
        }

    def _old(self) -> ColumnElement[bool]:
        return query_jobs.c.ended_at_us < self._clock.now_us() - self._bounds.kept_days * _DAY_US


def _seen(scope: TenantScope) -> ColumnElement[bool]:
    mine = query_jobs.c.tenant_id.in_(scope.tenants)
    return mine if scope.project_id is None else mine & (query_jobs.c.project_id == scope.project_id)


def _count(connection: Connection, which: ColumnElement[bool]) -> int:
    return int(connection.scalar(select(func.count()).select_from(query_jobs).where(which)) or 0)


def _found(connection: Connection, which: ColumnElement[bool]) -> QueryJob:
    row = connection.execute(select(query_jobs).where(which)).mappings().first()
    if row is None:
        raise NotFound("no such query", hint="GET /api/v1/queries lists those that are kept.")
    return _job(row)


def _job(row: Any) -> QueryJob:
    told = {name: row[name] for name in QueryJob.__dataclass_fields__ if name != "done"}
    done = Progress(
        file_count=row["file_count_done"],
        row_count=row["row_count_done"],
        size_bytes=row["size_bytes_done"],
        nodes=row["nodes"],
    )
    return QueryJob(**told, done=done)
