"""The doors' way to the engine: the straight line once it stands, the Serve handle before and after."""

from __future__ import annotations

# ruff: noqa: I001 -- before anything that imports Ray Serve.
from tests.serving.ray_serve_quietly import LOADED

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from cluster.clock import ManualClock
from cluster.errors import NotFound
from cluster.tenancy import DEFAULT_TENANT, TenantScope
from serving.engine_line import LineEnd
from serving.query_answers import Answer
from serving.query_port import Refusal, RemoteQuery

assert LOADED
SCOPE = TenantScope.of(DEFAULT_TENANT)


class Replica:
    """An engine's methods; counts by what way it was asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.end = LineEnd({"trace": lambda scope, trace: self.trace("line", trace)})

    async def trace(self, way: str, trace_id: str) -> Answer | Refusal:
        self.asked[way] += 1
        if trace_id == "unknown":
            return Refusal(NotFound("no trace"))
        return Answer(trace_id.encode(), 1, '"1"')


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


class Handle:
    """Speaks as Ray Serve's handles do."""

    def __init__(self, replica: Replica) -> None:
        self.line = Method(replica.end.name)
        self.trace = Method(lambda scope, trace: replica.trace("handle", trace))


def test_the_line_is_used_once_it_stands_and_the_handle_else() -> None:
    async def work() -> None:
        replica, clock = Replica(), ManualClock()
        remote = RemoteQuery(Handle(replica), clock)  # type: ignore[arg-type]
        assert (await remote.trace(SCOPE, "a")).body == b"a"
        assert replica.asked == {"handle": 1}
        assert remote._line is not None and await remote._line.connected()
        assert (await remote.trace(SCOPE, "b")).body == b"b"
        assert replica.asked == {"handle": 1, "line": 1}
        with pytest.raises(NotFound):
            await remote.trace(SCOPE, "unknown")
        remote._line.close()
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
