"""SQL over the tables of one scope: the newest snapshots or past ones, as views, handed to a process that runs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Final

import msgspec

from cluster.clock import Clock
from cluster.errors import NotFound, RequestInvalid
from cluster.lake.past import check_files, snapshot_at
from cluster.lake.scan import Snapshot
from cluster.lake.tables import TABLES
from cluster.settings import Settings
from cluster.tenancy import TenantScope
from models.query.fields import near
from serving.sql_desk import SqlDesk
from serving.sql_job import SqlJob, SqlPart, SqlRows, SqlView
from serving.sql_request import SqlRequest
from serving.sql_views import key_of, views_of

# Of an answer that is not handed on part by part.
WHOLE_BYTES_MAX: Final = 32 * 1024 * 1024


async def whole(parts: AsyncGenerator[SqlPart | SqlRows]) -> SqlRows:
    """All rows in one body, for an asker who can take them in no other way.

    Raises:
        RequestInvalid: the body is over `WHOLE_BYTES_MAX`.
    """
    bodies: list[bytes] = []
    held_bytes = 0
    async with aclosing(parts):
        async for part in parts:
            bodies.append(part.body)
            held_bytes += len(part.body)
            if held_bytes > WHOLE_BYTES_MAX:
                break
            if isinstance(part, SqlRows):
                return msgspec.structs.replace(part, body=b"".join(bodies))
    raise RequestInvalid(
        f"the answer is over {WHOLE_BYTES_MAX} bytes", hint="Ask for fewer rows or columns, or aggregate them."
    )


class SqlAnswers:
    """One replica's SQL. Methods are for any event loop."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self.desk = SqlDesk(settings, clock)

    async def answer(
        self, scope: TenantScope, request: SqlRequest, newest: Mapping[str, Snapshot]
    ) -> AsyncGenerator[SqlPart | SqlRows]:
        """The rows of a statement in parts, SqlRows the last; it sees the scope's rows and nothing else.

        Raises:
            RequestInvalid: the statement is refused, fails, or goes over a limit.
            NotFound: a past version is no longer kept.
            Busy: see `SqlDesk.answer`.
        """
        views = await asyncio.get_running_loop().run_in_executor(None, self._views, scope, request, newest)
        job = SqlJob(
            key=key_of(scope, views),
            views=views,
            sql=request.sql,
            parameters=request.parameters,
            view=request.view,
            limit=request.limit,
            form=request.form,
            bytes_max=self._settings.sql_answer_bytes_max,
            timeout_s=self._settings.sql_timeout_s,
        )
        async with aclosing(self.desk.answer(scope.tenants[0], job)) as parts:
            async for part in parts:
                yield part

    def close(self) -> None:
        """End the processes."""
        self.desk.close()

    def _views(self, scope: TenantScope, request: SqlRequest, newest: Mapping[str, Snapshot]) -> dict[str, SqlView]:
        if request.at_us is None and request.versions is None:
            return views_of(scope, {name: newest[name] for name in TABLES if name in newest})
        past = self._at_versions(request.versions) if request.versions else self._at_time(request.at_us or 0)
        views = views_of(scope, past)
        for name, view in views.items():
            check_files(view.paths, past[name])
        return views

    def _at_versions(self, versions: Mapping[str, int]) -> dict[str, Snapshot]:
        for name in versions:
            if name not in TABLES:
                raise RequestInvalid(f"as_of names {name[:80]!r}, which is no table", hint=near(name, TABLES))
        return {name: snapshot_at(self._settings.lake, name, version=version) for name, version in versions.items()}

    def _at_time(self, at_us: int) -> dict[str, Snapshot]:
        """Every table that had a version then; one that came later is not there."""
        found: dict[str, Snapshot] = {}
        missing: NotFound | None = None
        for name in TABLES:
            try:
                found[name] = snapshot_at(self._settings.lake, name, at_us=at_us)
            except NotFound as error:
                missing = error
        if not found and missing is not None:
            raise missing
        return found
