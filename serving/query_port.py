"""What the doors ask the query engine, and the engine behind a Serve handle."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from ray import serve
from ray.serve.handle import DeploymentHandle

from cluster.clock import Clock, SystemClock
from cluster.errors import HubError, Unavailable
from cluster.settings import Settings
from cluster.tenancy import TenantScope
from models.query.pages import Page
from models.query.parameters import Parameters
from models.query.times import Range
from serving.engine_line import Line, LineEnd, LineLost
from serving.last_changes import ChangedDays
from serving.query_answers import Answer, Asked
from serving.query_engine import QueryEngine
from serving.query_scan import Scan
from serving.sql_job import SqlPart, SqlRows
from serving.sql_request import SqlRequest

Answered = TypeVar("Answered")

SWITCH_INTERVAL_S: Final = 0.0005
_GONE_RETRY_S: Final = 1.0

_ASKED_OVER_LINE: Final = (
    *("query", "scan", "stored", "batch", "search", "traces", "trace", "dead_letters", "catalog"),
    *("ledger_committed", "moved"),
)


class QueryPort(Protocol):
    """Kept as `app.state.query`. Every method raises HubError: RequestInvalid, NotFound, Busy, QueryTimeout."""

    async def query(
        self, scope: TenantScope, kind: str, parameters: Parameters, *, now_us: int | None = None
    ) -> Answer:
        """A question of the catalogue; `parameters` are (name, text) pairs as in a query string."""

    async def scan(self, scope: TenantScope, kind: str, parameters: Parameters, *, now_us: int) -> Scan | None:
        """What a question reads of the events; None where no job would answer it."""

    async def stored(self, scope: TenantScope, query_id: str, page: Page, span: Range) -> bytes:
        """A page of the answer that a job gave in that range of time."""

    async def batch(self, scope: TenantScope, asked: Sequence[Asked], *, now_us: int) -> list[Answer | HubError]:
        """Several questions in one call, each answered or refused by itself; the answers in their order."""

    async def search(self, scope: TenantScope, parameters: Parameters) -> Answer:
        """Events, newest first."""

    async def traces(self, scope: TenantScope, parameters: Parameters) -> Answer:
        """Traces, newest first."""

    async def trace(self, scope: TenantScope, trace_id: str) -> Answer:
        """One trace as a tree."""

    async def dead_letters(self, scope: TenantScope, parameters: Parameters) -> Answer:
        """Dead letters, newest first."""

    async def anomalies(self, scope: TenantScope, parameters: Parameters) -> Answer:
        """Found anomalies, newest first."""

    async def anomaly(self, scope: TenantScope, anomaly_id: str) -> Answer:
        """One found anomaly."""

    def sql(self, scope: TenantScope, request: SqlRequest) -> AsyncGenerator[SqlPart | SqlRows]:
        """The rows of one statement in parts, SqlRows the last; a caller that leaves or is cancelled ends it."""

    async def catalog(self) -> Answer:
        """What may be asked."""

    async def ledger_committed(self, scope: TenantScope, journals: tuple[str, ...] = ()) -> dict[str, Any]:
        """Committed rows of each tenant; see QueryEngine.ledger_committed."""

    async def moved(self, known: Mapping[str, int], wait_s: float) -> dict[str, ChangedDays]:
        """What the tables gained since some versions; see QueryEngine.moved."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A HubError on its way home: Ray would wrap a raised one in an exception of its own."""

    error: HubError


class QueryReplica:
    """A query engine in a Serve replica of its own."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        # A scan that turns its rows into Python objects hands the interpreter to a short question at once.
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        settings = Settings.from_environment(environment)
        self._engine = QueryEngine(settings, SystemClock())
        self._engine.start()
        self._line = LineEnd({name: getattr(self, name) for name in _ASKED_OVER_LINE}, {"sql": self.sql})

    async def line(self) -> str:
        """Name of the straight line to this engine, see `serving.engine_line`."""
        return await self._line.name()

    async def query(
        self, scope: TenantScope, kind: str, parameters: Parameters, *, now_us: int | None = None
    ) -> Answer | Refusal:
        return await _caught(self._engine.query(scope, kind, parameters, now_us=now_us))

    async def scan(
        self, scope: TenantScope, kind: str, parameters: Parameters, *, now_us: int
    ) -> Scan | Refusal | None:
        return await _caught(self._engine.scan(scope, kind, parameters, now_us=now_us))

    async def stored(self, scope: TenantScope, query_id: str, page: Page, span: Range) -> bytes | Refusal:
        return await _caught(self._engine.stored(scope, query_id, page, span))

    async def batch(self, scope: TenantScope, asked: Sequence[Asked], *, now_us: int) -> list[Answer | HubError]:
        return await self._engine.batch(scope, asked, now_us=now_us)

    async def search(self, scope: TenantScope, parameters: Parameters) -> Answer | Refusal:
        return await _caught(self._engine.search(scope, parameters))

    async def traces(self, scope: TenantScope, parameters: Parameters) -> Answer | Refusal:
        return await _caught(self._engine.traces(scope, parameters))

    async def trace(self, scope: TenantScope, trace_id: str) -> Answer | Refusal:
        return await _caught(self._engine.trace(scope, trace_id))

    async def dead_letters(self, scope: TenantScope, parameters: Parameters) -> Answer | Refusal:
        return await _caught(self._engine.dead_letters(scope, parameters))

    async def anomalies(self, scope: TenantScope, parameters: Parameters) -> Answer | Refusal:
        return await _caught(self._engine.anomalies(scope, parameters))

    async def anomaly(self, scope: TenantScope, anomaly_id: str) -> Answer | Refusal:
        return await _caught(self._engine.anomaly(scope, anomaly_id))

    async def sql(self, scope: TenantScope, request: SqlRequest) -> AsyncGenerator[SqlPart | SqlRows | Refusal]:
        try:
            async with aclosing(self._engine.sql(scope, request)) as parts:
                async for part in parts:
                    yield part
        except HubError as error:
            yield Refusal(error)

    async def catalog(self) -> Answer | Refusal:
        return await _caught(self._engine.catalog())

    async def ledger_committed(self, scope: TenantScope, journals: tuple[str, ...] = ()) -> dict[str, Any] | Refusal:
        return await _caught(self._engine.ledger_committed(scope, journals))

    async def moved(self, known: Mapping[str, int], wait_s: float) -> dict[str, ChangedDays]:
        return await self._engine.moved(known, wait_s)

    def check_health(self) -> None:
        """Serve replaces the replica when this raises."""
        self._engine.check_health()


async def _caught(answer: Awaitable[Answered]) -> Answered | Refusal:
    try:
        return await answer
    except HubError as error:
        return Refusal(error)


class RemoteQuery:
    """QueryPort over the straight line to the engine, and over its Serve handle where there is none."""

    def __init__(self, handle: DeploymentHandle, clock: Clock, *, straight: bool = True) -> None:
        """
        Args:
            straight: there is one engine; of several, Serve chooses for each question.
        """
        self._handle = handle
        self._line = Line(self._name, clock) if straight else None

    async def query(
        self, scope: TenantScope, kind: str, parameters: Parameters, *, now_us: int | None = None
    ) -> Answer:
        answer: Answer = await self._asked("query", scope, kind, tuple(parameters), now_us=now_us)
        return answer

    async def scan(self, scope: TenantScope, kind: str, parameters: Parameters, *, now_us: int) -> Scan | None:
        found: Scan | None = await self._asked("scan", scope, kind, tuple(parameters), now_us=now_us)
        return found

    async def stored(self, scope: TenantScope, query_id: str, page: Page, span: Range) -> bytes:
        body: bytes = await self._asked("stored", scope, query_id, page, span)
        return body

    async def batch(self, scope: TenantScope, asked: Sequence[Asked], *, now_us: int) -> list[Answer | HubError]:
        answers: list[Answer | HubError] = await self._asked("batch", scope, tuple(asked), now_us=now_us)
        return answers

    async def search(self, scope: TenantScope, parameters: Parameters) -> Answer:
        answer: Answer = await self._asked("search", scope, tuple(parameters))
        return answer

    async def traces(self, scope: TenantScope, parameters: Parameters) -> Answer:
        answer: Answer = await self._asked("traces", scope, tuple(parameters))
        return answer

    async def trace(self, scope: TenantScope, trace_id: str) -> Answer:
        answer: Answer = await self._asked("trace", scope, trace_id)
        return answer

    async def dead_letters(self, scope: TenantScope, parameters: Parameters) -> Answer:
        answer: Answer = await self._asked("dead_letters", scope, tuple(parameters))
        return answer

    async def anomalies(self, scope: TenantScope, parameters: Parameters) -> Answer:
        answer: Answer | Refusal = await self._handle.anomalies.remote(scope, tuple(parameters))
        return _raised(answer)

    async def anomaly(self, scope: TenantScope, anomaly_id: str) -> Answer:
        answer: Answer | Refusal = await self._handle.anomaly.remote(scope, anomaly_id)
        return _raised(answer)

    async def sql(self, scope: TenantScope, request: SqlRequest) -> AsyncGenerator[SqlPart | SqlRows]:
        if self._line is not None and self._line.ready():
            begun = False
            try:
                async with aclosing(self._line.parts("sql", scope, request)) as parts:
                    async for part in parts:
                        begun = True
                        yield _raised(part)
                return
            except LineLost as error:
                # Asked again it could be other rows: not what goes on where the first ones ended.
                if begun:
                    raise Unavailable("the query engine went away", retry_after_s=_GONE_RETRY_S) from error
        response: Any = self._handle.options(stream=True).sql.remote(scope, request)
        try:
            async for part in response:
                yield _raised(part)
        finally:
            response.cancel()

    async def catalog(self) -> Answer:
        answer: Answer = await self._asked("catalog")
        return answer

    async def ledger_committed(self, scope: TenantScope, journals: tuple[str, ...] = ()) -> dict[str, Any]:
        answer: dict[str, Any] = await self._asked("ledger_committed", scope, journals)
        return answer

    async def moved(self, known: Mapping[str, int], wait_s: float) -> dict[str, ChangedDays]:
        gained: dict[str, ChangedDays] = await self._asked("moved", dict(known), wait_s)
        return gained

    async def _name(self) -> str:
        return str(await self._handle.line.remote())

    async def _asked(self, method: str, *given: Any, **named: Any) -> Any:
        if self._line is not None and self._line.ready():
            try:
                return _raised(await self._line.ask(method, *given, **named))
            except LineLost:
                # It changes nothing to ask again.
                pass
        response = getattr(self._handle, method).remote(*given, **named)
        try:
            return _raised(await response)
        except asyncio.CancelledError:
            response.cancel()
            raise


def _raised(answer: Answered | Refusal) -> Answered:
    if isinstance(answer, Refusal):
        raise answer.error
    return answer


# One replica holds the roll-ups once and asks with all threads; its questions wait inside, where their deadline counts.
QueryEngineDeployment = serve.deployment(name="query", max_ongoing_requests=1_024)(QueryReplica)
