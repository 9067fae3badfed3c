"""The straight line to the engine carries answers, refusals and cancellations, and its end is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest
import uvloop

from cluster.clock import ManualClock
from cluster.errors import Busy, RequestInvalid
from serving.straight_line import Line, LineEnd, LineLost

ASKED_MAX = 256


class Engine:
    """Methods of every sort."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.counted = 0

    async def echo(self, *given: Any, **named: Any) -> Any:
        return given, named

    async def refuse(self) -> None:
        raise RequestInvalid("no such thing", hint="Ask for another.")

    async def odd(self) -> None:
        class Unsendable(Exception):
            pass

        raise Unsendable("words")

    async def count(self, to: int) -> AsyncGenerator[int]:
        try:
            for number in range(to):
                self.counted = number
                yield number
        finally:
            self.cancelled.set()
        raise RequestInvalid("there is no more")

    async def wait(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def run(work: Callable[[Line, LineEnd, Engine], Awaitable[None]]) -> None:
    async def whole() -> None:
        engine = Engine()
        methods = {name: getattr(engine, name) for name in ("echo", "refuse", "odd", "wait")}
        end = LineEnd(methods, {"count": engine.count}, asked_max=ASKED_MAX)
        line = Line(end.name, ManualClock())
        assert not line.ready()
        async with asyncio.timeout(10):
            assert await line.connected()
            await work(line, end, engine)
        line.close()
        end.close()

    # Doors run on uvloop, which has limits of its own, engines on asyncio's loop.
    for loop in (asyncio.new_event_loop, uvloop.new_event_loop):
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(whole())


def test_answers_come_back_to_who_asked() -> None:
    async def work(line: Line, end: LineEnd, engine: Engine) -> None:
        large = b"x" * 3_000_000
        told = await asyncio.gather(*(line.ask("echo", number, large[:number], now_us=number) for number in range(200)))
        assert told == [((number, large[:number]), {"now_us": number}) for number in range(200)]
        assert await line.ask("echo", large) == ((large,), {})

    run(work)


def test_refusals_keep_their_words_and_any_error_comes_back() -> None:
    async def work(line: Line, end: LineEnd, engine: Engine) -> None:
        with pytest.raises(RequestInvalid) as refused:
            await line.ask("refuse")
        assert refused.value.hint == "Ask for another."
        with pytest.raises(RuntimeError, match="words"):
            await line.ask("odd")
        assert await line.ask("echo", 1) == ((1,), {})

    run(work)


def test_parts_come_in_order_and_so_does_what_went_wrong() -> None:
    async def work(line: Line, end: LineEnd, engine: Engine) -> None:
        told = []
        with pytest.raises(RequestInvalid, match="no more"):
            async for part in line.parts("count", 1_000):
                told.append(part)
        assert told == list(range(1_000))
        assert await line.ask("echo", 1) == ((1,), {})

    run(work)


def test_parts_wait_for_their_reader_and_end_with_it() -> None:
    async def work(line: Line, end: LineEnd, engine: Engine) -> None:
        async with aclosing(line.parts("count", 1_000_000)) as parts:
            assert await anext(parts) == 0
            for number in range(100):
                await line.ask("echo", number)
            assert engine.counted < 10, "the engine goes a few parts ahead"
        await engine.cancelled.wait()
        assert await line.ask("echo", 1) == ((1,), {})

    run(work)


def test_who_goes_away_takes_the_question_along() -> None:
    async def work(line: Line, end: LineEnd, engine: Engine) -> None:
        asking = asyncio.create_task(line.ask("wait"))
        while (await line.ask("echo", 1)) and not asking.cancel():
            pass
        with pytest.raises(asyncio.CancelledError):
            await asking
        await engine.cancelled.wait()

    run(work)


def test_more_questions_than_the_replica_takes_are_refused_and_the_others_answered() -> None:
    async def work(line: Line, end: LineEnd, engine: Engine) -> None:
        waiting = [asyncio.create_task(line.ask("wait")) for _ in range(ASKED_MAX)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await line.ask("echo", 1)
        waiting.pop().cancel()
        while True:
            try:
                assert await line.ask("echo", 1) == ((1,), {})
                break
            except Busy:
                pass
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    run(work)


def test_a_line_that_ends_says_so_and_is_made_again() -> None:
    async def work(line: Line, end: LineEnd, engine: Engine) -> None:
        clock: Any = line._clock
        asking = asyncio.create_task(line.ask("wait"))
        await line.ask("echo", 1)
        line.close()
        with pytest.raises(LineLost):
            await asking
        assert not line.ready(), "it waits a while before it connects again"
        with pytest.raises(LineLost):
            await line.ask("echo", 1)
        clock.advance(2)
        assert await line.connected()
        assert await line.ask("echo", 2) == ((2,), {})

    run(work)
