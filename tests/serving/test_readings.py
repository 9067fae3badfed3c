"""What is read of the hub's parts, however many ask, and ahead of those who look again."""

from __future__ import annotations

import asyncio

from cluster.clock import SystemClock
from cluster.errors import Unavailable
from serving.readings import _Reading


class Part:
    """Counts how often it is asked; away from the third time on."""

    def __init__(self) -> None:
        self.asked = 0
        self.moved = asyncio.Event()

    async def ask(self) -> int:
        self.asked += 1
        self.moved.set()
        if self.asked > 2:
            raise Unavailable("away", retry_after_s=1.0)
        return self.asked


def test_many_who_ask_at_once_make_one_question() -> None:
    async def whole() -> None:
        part = Part()
        reading = _Reading(part.ask, SystemClock())
        assert await asyncio.gather(*(reading.value() for _ in range(20))) == [1] * 20

    asyncio.run(whole())


def test_an_answer_is_read_anew_before_the_next_one_asks() -> None:
    async def whole() -> None:
        part = Part()
        reading = _Reading(part.ask, SystemClock(), ahead=True)
        assert await reading.value() == 1
        async with asyncio.timeout(10):
            # Nobody asks meanwhile; a part that goes away ends it, until somebody asks again.
            while part.asked < 3:
                part.moved.clear()
                await part.moved.wait()
            assert reading._renewing is not None
            await reading._renewing
        assert part.asked == 3

    asyncio.run(whole())
