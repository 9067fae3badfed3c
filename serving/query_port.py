"""What the doors ask the query engine, and the engine behind a Serve handle."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, Protocol

from ray import serve
from ray.serve.handle import DeploymentHandle

from cluster import interpreter
from cluster.clock import Clock, SystemClock
from cluster.errors import HubError
from cluster.settings import Settings
from cluster.tenancy import TenantScope
from models.query.pages import Page
from models.query.parameters import Parameters
from models.query.times import Range
from serving.last_changes import ChangedDays
from serving.query_answers import Answer, Asked
from serving.query_engine import QueryEngine
from serving.query_scan import Scan
from serving.remote import Refusal, Remote, caught
from serving.sql_job import SqlPart, SqlRows
from serving.sql_request import SqlRequest
from serving.straight_line import LineEnd

_ASKED_OVER_LINE: Final = (
    *("query", "scan", "stored", "batch", "search", "traces", "trace", "dead_letters", "catalog"),
    *("anomalies", "anomaly", "ledger_committed", "moved"),
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


class QueryReplica:
    """A query engine in a Serve replica of its own."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        # A scan that turns its rows into Python objects does not hold up a short question.
        interpreter.share()
        settings = Settings.from_environment(environment)
        self._engine = QueryEngine(settings, SystemClock())
        self._engine.start()
        self._line = LineEnd({name: getattr(self, name) for name in _ASKED_OVER_LINE}, {"sql": self.sql})
        interpreter.settle()

    async def line(self) -> str:
        """Name of the straight line to this engine, see `serving.straight_line`."""
        return await self._line.name()

    async def query(
        self, scope: TenantScope, kind: str, parameters: Parameters, *, now_us: int | None = None
    ) -> Answer | Refusal:
        return await caught(self._engine.query(scope, kind, parameters, now_us=now_us))

    async def scan(
        self, scope: TenantScope, kind: str, parameters: Parameters, *, now_us: int
    ) -> Scan | Refusal | None:
        return await caught(self._engine.scan(scope, kind, parameters, now_us=now_us))

    async def stored(self, scope: TenantScope, query_id: str, page: Page, span: Range) -> bytes | Refusal:
        return await caught(self._engine.stored(scope, query_id, page, span))

    async def batch(self, scope: TenantScope, asked: Sequence[Asked], *, now_us: int) -> list[Answer | HubError]:
        return await self._engine.batch(scope, asked, now_us=now_us)

    async def search(self, scope: TenantScope, parameters: Parameters) -> Answer | Refusal:
        return await caught(self._engine.search(scope, parameters))

    async def traces(self, scope: TenantScope, parameters: Parameters) -> Answer | Refusal:
        return await caught(self._engine.traces(scope, parameters))

    async def trace(self, scope: TenantScope, trace_id: str) -> Answer | Refusal:
        return await caught(self._engine.trace(scope, trace_id))

    async def dead_letters(self, scope: TenantScope, parameters: Parameters) -> Answer | Refusal:
        return await caught(self._engine.dead_letters(scope, parameters))

    async def anomalies(self, scope: TenantScope, parameters: Parameters) -> Answer | Refusal:
        return await caught(self._engine.anomalies(scope, parameters))

    async def anomaly(self, scope: TenantScope, anomaly_id: str) -> Answer | Refusal:
        return await caught(self._engine.anomaly(scope, anomaly_id))

    async def sql(self, scope: TenantScope, request: SqlRequest) -> AsyncGenerator[SqlPart | SqlRows | Refusal]:
        try:
            async with aclosing(self._engine.sql(scope, request)) as parts:
                async for part in parts:
                    yield part
        except HubError as error:
            yield Refusal(error)

    async def catalog(self) -> Answer | Refusal:
        return await caught(self._engine.catalog())

    async def ledger_committed(self, scope: TenantScope, journals: tuple[str, ...] = ()) -> dict[str, Any] | Refusal:
        return await caught(self._engine.ledger_committed(scope, journals))

    async def moved(self, known: Mapping[str, int], wait_s: float) -> dict[str, ChangedDays]:
        return await self._engine.moved(known, wait_s)

    def check_health(self) -> None:
        """Serve replaces the replica when this raises."""
        self._engine.check_health()


class RemoteQuery:
    """QueryPort over the straight line to the engine, and over its Serve handle where there is none."""

    def __init__(self, handle: DeploymentHandle, clock: Clock, *, straight: bool = True) -> None:
        """
        Args:
            straight: there is one engine; of several, Serve chooses for each question.
        """
        self._engine = Remote(handle, clock, straight=straight, noun="query engine")

    async def query(
        self, scope: TenantScope, kind: str, parameters: Parameters, *, now_us: int | None = None
    ) -> Answer:
        answer: Answer = await self._engine.ask("query", scope, kind, tuple(parameters), now_us=now_us)
        return answer

    async def scan(self, scope: TenantScope, kind: str, parameters: Parameters, *, now_us: int) -> Scan | None:
        found: Scan | None = await self._engine.ask("scan", scope, kind, tuple(parameters), now_us=now_us)
        return found

    async def stored(self, scope: TenantScope, query_id: str, page: Page, span: Range) -> bytes:
        body: bytes = await self._engine.ask("stored", scope, query_id, page, span)
        return body

    async def batch(self, scope: TenantScope, asked: Sequence[Asked], *, now_us: int) -> list[Answer | HubError]:
        answers: list[Answer | HubError] = await self._engine.ask("batch", scope, tuple(asked), now_us=now_us)
        return answers

    async def search(self, scope: TenantScope, parameters: Parameters) -> Answer:
        answer: Answer = await self._engine.ask("search", scope, tuple(parameters))
        return answer

    async def traces(self, scope: TenantScope, parameters: Parameters) -> Answer:
        answer: Answer = await self._engine.ask("traces", scope, tuple(parameters))
        return answer

    async def trace(self, scope: TenantScope, trace_id: str) -> Answer:
        answer: Answer = await self._engine.ask("trace", scope, trace_id)
        return answer

    async def dead_letters(self, scope: TenantScope, parameters: Parameters) -> Answer:
        answer: Answer = await self._engine.ask("dead_letters", scope, tuple(parameters))
        return answer

    async def anomalies(self, scope: TenantScope, parameters: Parameters) -> Answer:
        answer: Answer = await self._engine.ask("anomalies", scope, tuple(parameters))
        return answer

    async def anomaly(self, scope: TenantScope, anomaly_id: str) -> Answer:
        answer: Answer = await self._engine.ask("anomaly", scope, anomaly_id)
        return answer

    async def sql(self, scope: TenantScope, request: SqlRequest) -> AsyncGenerator[SqlPart | SqlRows]:
        async with aclosing(self._engine.parts("sql", scope, request)) as parts:
            async for part in parts:
                yield part

    async def catalog(self) -> Answer:
        answer: Answer = await self._engine.ask("catalog")
        return answer

    async def ledger_committed(self, scope: TenantScope, journals: tuple[str, ...] = ()) -> dict[str, Any]:
        answer: dict[str, Any] = await self._engine.ask("ledger_committed", scope, journals)
        return answer

    async def moved(self, known: Mapping[str, int], wait_s: float) -> dict[str, ChangedDays]:
        gained: dict[str, ChangedDays] = await self._engine.ask("moved", dict(known), wait_s)
        return gained


# One replica holds the roll-ups once and asks with all threads; its questions wait inside, where their deadline counts.
QueryEngineDeployment = serve.deployment(name="query", max_ongoing_requests=1_024)(QueryReplica)
