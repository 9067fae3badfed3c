"""The doors' way to engine and scorer: the straight line once it stands, the Serve handle before and after."""

from __future__ import annotations

# ruff: noqa: I001 -- before anything that imports Ray Serve.
from tests.serving.ray_serve_quietly import LOADED

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any

import pytest

from cluster.clock import ManualClock
from cluster.errors import NotFound, RequestInvalid, Unavailable
from cluster.tenancy import DEFAULT_TENANT, TenantScope
from serving.straight_line import LineEnd
from serving.query_answers import Answer
from serving.query_port import RemoteQuery
from serving.remote import Refusal
from serving.scorer import RemoteScorer
from serving.sql_job import SqlPart, SqlRows

assert LOADED
SCOPE = TenantScope.of(DEFAULT_TENANT)


class Replica:
    """An engine's methods; counts by what way it was asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.end = LineEnd(
            {
                "trace": lambda scope, trace: self.trace("line", trace),
                "score": lambda scope, request: self.score("line", request),
            },
            {"sql": lambda scope, sql: self.sql("line", sql)},
        )

    async def trace(self, way: str, trace_id: str) -> Answer | Refusal:
        self.asked[way] += 1
        if trace_id == "unknown":
            return Refusal(NotFound("no trace"))
        return Answer(trace_id.encode(), 1, '"1"')

    async def score(self, way: str, request: str) -> dict[str, Any] | Refusal:
        self.asked[way] += 1
        return Refusal(NotFound("no champion")) if request == "unknown" else {"scores": [request]}

    async def sql(self, way: str, statement: str) -> AsyncGenerator[SqlPart | SqlRows | Refusal]:
        self.asked[way] += 1
        yield SqlPart(b"first", {})
        if statement == "fails":
            yield Refusal(RequestInvalid("a value has no form"))
            return
        if statement == "endless":
            await asyncio.Event().wait()
        yield SqlRows(b"last", 2, truncated=False, versions={})


class Response(Awaitable[Any]):
    """What a handle of Ray Serve gives back."""

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self._task = asyncio.ensure_future(work)

    def __await__(self) -> Any:
        return self._task.__await__()

    def cancel(self) -> None:
        self._task.cancel()


class Method:
    """One method of such a handle."""

    def __init__(self, call: Callable[..., Coroutine[Any, Any, Any]]) -> None:
        self._call = call

    def remote(self, *given: Any) -> Response:
        return Response(self._call(*given))


class Parts:
    """What such a handle gives back where it was told to stream."""

    def __init__(self, parts: AsyncGenerator[Any]) -> None:
        self._parts = parts

    def __aiter__(self) -> AsyncGenerator[Any]:
        return self._parts

    def cancel(self) -> None:
        pass


class PartsMethod:
    """One method of such a handle that streams."""

    def __init__(self, call: Callable[..., AsyncGenerator[Any]]) -> None:
        self._call = call

    def remote(self, *given: Any) -> Parts:
        return Parts(self._call(*given))


class Handle:
    """Speaks as Ray Serve's handles do."""

    def __init__(self, replica: Replica) -> None:
        self.sql = PartsMethod(lambda scope, sql: replica.sql("handle", sql))
        self.line = Method(replica.end.name)
        self.trace = Method(lambda scope, trace: replica.trace("handle", trace))
        self.score = Method(lambda scope, request: replica.score("handle", request))

    def options(self, *, stream: bool) -> Handle:
        """Of one call."""
        assert stream
        return self


def test_the_line_is_used_once_it_stands_and_the_handle_else() -> None:
    async def work() -> None:
        replica, clock = Replica(), ManualClock()
        remote = RemoteQuery(Handle(replica), clock)  # type: ignore[arg-type]
        assert (await remote.trace(SCOPE, "a")).body == b"a"
        assert replica.asked == {"handle": 1}
        assert remote._engine.line is not None and await remote._engine.line.connected()
        assert (await remote.trace(SCOPE, "b")).body == b"b"
        assert replica.asked == {"handle": 1, "line": 1}
        with pytest.raises(NotFound):
            await remote.trace(SCOPE, "unknown")
        remote._engine.line.close()
        # Asked again by the handle where the line ends under a question.
        assert (await remote.trace(SCOPE, "c")).body == b"c"
        assert replica.asked["handle"] == 2
        replica.end.close()

    asyncio.run(work())


def test_of_several_engines_serve_chooses() -> None:
    async def work() -> None:
        replica = Replica()
        remote = RemoteQuery(Handle(replica), ManualClock(), straight=False)  # type: ignore[arg-type]
        for _ in range(3):
            await remote.trace(SCOPE, "a")
        with pytest.raises(NotFound):
            await remote.trace(SCOPE, "unknown")
        assert replica.asked == {"handle": 4}

    asyncio.run(work())


def test_the_scorer_is_asked_the_same_way() -> None:
    async def work() -> None:
        replica = Replica()
        remote = RemoteScorer(Handle(replica), ManualClock())  # type: ignore[arg-type]
        request: Any = "windows"
        assert await remote.score(SCOPE, request) == {"scores": ["windows"]}
        assert remote._scorer.line is not None and await remote._scorer.line.connected()
        assert await remote.score(SCOPE, request) == {"scores": ["windows"]}
        request = "unknown"
        with pytest.raises(NotFound, match="champion"):
            await remote.score(SCOPE, request)
        assert replica.asked == {"handle": 1, "line": 2}
        several = RemoteScorer(Handle(replica), ManualClock(), straight=False)  # type: ignore[arg-type]
        with pytest.raises(NotFound, match="champion"):
            await several.score(SCOPE, request)
        assert replica.asked == {"handle": 2, "line": 2}
        remote._scorer.line.close()
        replica.end.close()

    asyncio.run(work())


def test_parts_of_sql_come_by_either_way() -> None:
    async def told(remote: RemoteQuery, statement: str) -> list[bytes]:
        async with aclosing(remote.sql(SCOPE, statement)) as parts:  # type: ignore[arg-type]
            return [part.body async for part in parts]

    async def work() -> None:
        replica = Replica()
        remote = RemoteQuery(Handle(replica), ManualClock())  # type: ignore[arg-type]
        assert await told(remote, "ends") == [b"first", b"last"]
        assert remote._engine.line is not None and await remote._engine.line.connected()
        assert await told(remote, "ends") == [b"first", b"last"]
        assert replica.asked == {"handle": 1, "line": 1}
        with pytest.raises(RequestInvalid):
            await told(remote, "fails")
        async with aclosing(remote.sql(SCOPE, "endless")) as parts:  # type: ignore[arg-type]
            assert (await anext(parts)).body == b"first"
            remote._engine.line.close()
            # Half an answer cannot go on with the other half of another one.
            with pytest.raises(Unavailable):
                await anext(parts)
        with pytest.raises(RequestInvalid):
            await told(remote, "fails")
        assert replica.asked == {"handle": 2, "line": 3}
        replica.end.close()

    asyncio.run(work())
