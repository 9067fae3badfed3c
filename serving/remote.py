"""A replica as the doors ask it: over a straight line where there is one, through its Serve handle else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from ray.serve.handle import DeploymentHandle

from cluster.clock import Clock
from cluster.errors import HubError, Unavailable
from serving.straight_line import Line, LineLost

Answered = TypeVar("Answered")

_GONE_RETRY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A HubError on its way home: Ray would wrap a raised one in an exception of its own."""

    error: HubError


async def caught(answer: Awaitable[Answered]) -> Answered | Refusal:
    """The answer, or what it was refused with."""
    try:
        return await answer
    except HubError as error:
        return Refusal(error)


def raised(answer: Answered | Refusal) -> Answered:
    """Inverse of `caught`."""
    if isinstance(answer, Refusal):
        raise answer.error
    return answer


class Remote:
    """Methods of a deployment, which must have one named `line` that gives `LineEnd.name`.

    Attributes:
        line: None where there are several replicas, of which Serve chooses for each question.
    """

    def __init__(self, handle: DeploymentHandle, clock: Clock, *, straight: bool, noun: str) -> None:
        """
        Args:
            straight: there is one replica.
            noun: what it is called in a refusal.
        """
        self._handle = handle
        self._noun = noun
        self.line = Line(self._name, clock) if straight else None

    async def ask(self, method: str, *given: Any, **named: Any) -> Any:
        """What the method returns, asked again where the line ends under it; raises what it was refused with."""
        if self.line is not None and self.line.ready():
            try:
                return raised(await self.line.ask(method, *given, **named))
            except LineLost:
                # It changes nothing to ask again.
                pass
        response = getattr(self._handle, method).remote(*given, **named)
        try:
            return raised(await response)
        except asyncio.CancelledError:
            response.cancel()
            raise

    async def parts(self, method: str, *given: Any) -> AsyncGenerator[Any]:
        """The parts of an answer; a reader who leaves ends it.

        Raises:
            Unavailable: the line ended after the first part.
        """
        if self.line is not None and self.line.ready():
            begun = False
            try:
                async with aclosing(self.line.parts(method, *given)) as parts:
                    async for part in parts:
                        begun = True
                        yield raised(part)
                return
            except LineLost as error:
                # Asked again it could be other rows: not what goes on where the first ones ended.
                if begun:
                    raise Unavailable(f"the {self._noun} went away", retry_after_s=_GONE_RETRY_S) from error
        response: Any = getattr(self._handle.options(stream=True), method).remote(*given)
        try:
            async for part in response:
                yield raised(part)
        finally:
            response.cancel()

    async def _name(self) -> str:
        return str(await self._handle.line.remote())
