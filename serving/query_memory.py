"""Answers kept at the door: a question asked again is answered without a call to the query engine.

The door knows the versions of the tables from the engine itself, which it asks for them and which answers when they
move. So an answer is used as long as the engine would give the same one, give or take the milliseconds that such a
word is under way; when no word has come for a while, none is used. Questions about past versions are always passed on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from cluster.clock import Clock
from cluster.errors import HubError
from cluster.settings import Settings
from cluster.tenancy import TenantScope
from models.query.kinds import ask
from models.query.pages import Page
from models.query.parameters import Parameters
from models.query.source import Context
from models.query.times import Range
from serving.last_changes import ChangedDays
from serving.query_answers import FOLLOWED, Answer, AnswerCache, AnswerKey, Asked, key_of, since_of, within_bounds
from serving.query_port import QueryPort
from serving.query_scan import Scan
from serving.sql_job import SqlPart, SqlRows
from serving.sql_request import SqlRequest

_CACHE_BYTES: Final = 16 * 1024 * 1024
# The engine answers within this time even when nothing moved.
_WORD_EVERY_S: Final = 1.0
# Without a word for so long, the engine may have moved on.
_TRUST_S: Final = 2.0
# Nobody asked for so long: the versions are not followed until somebody does.
_IDLE_S: Final = 30.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an answer is kept, and the lowest version it may tell; None when it is not to be kept."""

    key: AnswerKey
    oldest: int | None


class QueryMemory:
    """A `QueryPort` before another. Methods are for one event loop."""

    def __init__(self, engine: QueryPort, settings: Settings, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._groups_max = settings.groups_max
        self._cache = AnswerCache(_CACHE_BYTES)
        self._running: dict[AnswerKey, asyncio.Task[Answer]] = {}
        self._changed: dict[str, ChangedDays] = {name: ChangedDays() for name in FOLLOWED}
        self._heard_at_s = self._asked_at_s = float("-inf")
        self._following: asyncio.Task[None] | None = None

    async def query(
        self, scope: TenantScope, kind: str, parameters: Parameters, *, now_us: int | None = None
    ) -> Answer:
        """The kept answer where it is still the one that the engine would give."""
        now_us = self._clock.now_us() if now_us is None else now_us
        place = self._place(scope, (kind, parameters), now_us)
        if place is None:
            return await self._engine.query(scope, kind, parameters, now_us=now_us)
        return self._cache.get(place.key) or await self._shared(
            place, lambda: self._engine.query(scope, kind, parameters, now_us=now_us)
        )

    async def scan(self, scope: TenantScope, kind: str, parameters: Parameters, *, now_us: int) -> Scan | None:
        return await self._engine.scan(scope, kind, parameters, now_us=now_us)

    async def stored(self, scope: TenantScope, query_id: str, page: Page, span: Range) -> bytes:
        return await self._engine.stored(scope, query_id, page, span)

    async def batch(self, scope: TenantScope, asked: Sequence[Asked], *, now_us: int) -> list[Answer | HubError]:
        """Kept answers, and the rest of the questions in one call."""
        found: list[Answer | HubError | None] = [None] * len(asked)
        lacking: dict[int, _Place | None] = {}
        for number, question in enumerate(asked):
            try:
                place = self._place(scope, question, now_us)
            except HubError as error:
                found[number] = error
                continue
            found[number] = self._cache.get(place.key) if place else None
            if found[number] is None:
                lacking[number] = place
        if lacking:
            answers = await self._engine.batch(scope, [asked[number] for number in lacking], now_us=now_us)
            for (number, place), answer in zip(lacking.items(), answers, strict=True):
                found[number] = answer
                if place and isinstance(answer, Answer):
                    self._keep(place, answer)
        return within_bounds([answer for answer in found if answer is not None])

    async def search(self, scope: TenantScope, parameters: Parameters) -> Answer:
        return await self._engine.search(scope, parameters)

    async def traces(self, scope: TenantScope, parameters: Parameters) -> Answer:
        return await self._engine.traces(scope, parameters)

    async def trace(self, scope: TenantScope, trace_id: str) -> Answer:
        return await self._engine.trace(scope, trace_id)

    async def dead_letters(self, scope: TenantScope, parameters: Parameters) -> Answer:
        return await self._engine.dead_letters(scope, parameters)

    async def anomalies(self, scope: TenantScope, parameters: Parameters) -> Answer:
        return await self._engine.anomalies(scope, parameters)

    async def anomaly(self, scope: TenantScope, anomaly_id: str) -> Answer:
        return await self._engine.anomaly(scope, anomaly_id)

    def sql(self, scope: TenantScope, request: SqlRequest) -> AsyncGenerator[SqlPart | SqlRows]:
        return self._engine.sql(scope, request)

    async def catalog(self) -> Answer:
        return await self._engine.catalog()

    async def ledger_committed(self, scope: TenantScope, journals: tuple[str, ...] = ()) -> dict[str, Any]:
        return await self._engine.ledger_committed(scope, journals)

    async def moved(self, known: Mapping[str, int], wait_s: float) -> dict[str, ChangedDays]:
        return await self._engine.moved(known, wait_s)

    def _place(self, scope: TenantScope, asked: Asked, now_us: int) -> _Place | None:
        """Where the answer to a question is kept; None while it must be asked for.

        Raises:
            RequestInvalid: see `models.query.kinds.ask`.
        """
        question = ask(*asked, Context(now_us, scope.tenants, self._groups_max))
        self._asked_at_s = self._clock.monotonic_s()
        if self._following is None or self._following.done():
            self._following = asyncio.create_task(self._follow())
        if question.past is not None or self._asked_at_s - self._heard_at_s > _TRUST_S:
            return None
        since = since_of(scope, question, self._changed)
        # Versions of two tables cannot be compared with the one that an answer tells.
        comparable = len({plan.from_rollups for plan in question.plans}) <= 1
        return _Place(key_of(scope, question, since), max(since) if comparable else None)

    async def _shared(self, place: _Place, engine: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer of the same question already under way, or of the engine."""
        task = self._running.get(place.key)
        if task is None:

            async def asked() -> Answer:
                answer = await engine()
                self._keep(place, answer)
                return answer

            task = self._running[place.key] = asyncio.create_task(asked())
            task.add_done_callback(lambda _: self._running.pop(place.key, None))
        # Somebody who goes away must not take the answer from the others who wait for it.
        return await asyncio.shield(task)

    def _keep(self, place: _Place, answer: Answer) -> None:
        # One of several engines may be behind the one that told the versions.
        if place.oldest is not None and answer.version >= place.oldest:
            self._cache.put(place.key, answer)

    async def _follow(self) -> None:
        try:
            while self._clock.monotonic_s() - self._asked_at_s < _IDLE_S:
                known = {name: changed.version for name, changed in self._changed.items()}
                for name, gained in (await self._engine.moved(known, _WORD_EVERY_S)).items():
                    self._changed[name] = self._changed[name].plus(gained)
                self._heard_at_s = self._clock.monotonic_s()
        # Whatever keeps the word from coming: answers are asked for until it comes, and the next question tries again.
        except Exception as error:
            _log.warning("versions_not_followed", error=repr(error))
        self._heard_at_s = float("-inf")
