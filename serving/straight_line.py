"""A straight line from a door to a replica on the same machine: a Unix socket instead of a Serve handle.

A small question takes the query engine 2 ms, and a handle as much again in each of the two processes. The line carries
what the handle carries, in frames of their own: a length, then a pickle, which only processes of this user write. Where
there is no line (another machine, several replicas, one that is being replaced), the handle is used.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import secrets
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from enum import IntEnum
from functools import partial
from typing import Any, Final, cast

import structlog

from cluster.clock import Clock
from cluster.errors import Busy

# Questions under way on one line, unless the replica says how many; the query engine refuses long before.
_ASKED_MAX: Final = 2_048
_FRAME_BYTES_MAX: Final = 256 * 1024 * 1024
_LENGTH: Final = struct.Struct(">I")
_CREDENTIALS: Final = struct.Struct("3i")
_CONNECTS_EVERY_S: Final = 1.0
_BUSY_RETRY_S: Final = 1.0
# Parts of one answer that may be on their way.
_PARTS_AHEAD: Final = 4
# In place of a method's name: the reader has taken a part, or wants no more of the answer.
_TAKEN: Final = "+"
_LEFT: Final = ""

Method = Callable[..., Awaitable[Any]]
PartsMethod = Callable[..., AsyncGenerator[Any]]

_log = structlog.get_logger(__name__)


class _Told(IntEnum):
    """What a frame from the replica is."""

    ANSWER = 0
    ERROR = 1
    PART = 2


class LineLost(Exception):
    """The line ended before the answer came; the question may be asked again."""


class _Frames(asyncio.Protocol, ABC):
    """Whole frames in and out, and who is at the other end."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._held = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        # The name of the socket is a secret, and only this user's processes are answered all the same.
        peer: socket.socket = transport.get_extra_info("socket")
        _, user, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        if user != os.getuid():
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        held = self._held
        held += data
        at = 0
        while len(held) - at >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(held, at)
            if size > _FRAME_BYTES_MAX:
                self.end()
                return
            if len(held) - at - _LENGTH.size < size:
                break
            at += _LENGTH.size
            frame = pickle.loads(memoryview(held)[at : at + size])  # noqa: S301 - of this user's processes
            at += size
            self.came(frame)
        del held[:at]

    def tell(self, frame: object) -> None:
        """Send one frame; nothing where the line has ended."""
        if self.transport is not None and not self.transport.is_closing():
            text = pickle.dumps(frame, pickle.HIGHEST_PROTOCOL)
            self.transport.write(_LENGTH.pack(len(text)) + text)

    def end(self) -> None:
        """Cut the line."""
        if self.transport is not None:
            self.transport.abort()

    @abstractmethod
    def came(self, frame: Any) -> None:
        """One whole frame."""


class _ReplicaEnd(_Frames):
    def __init__(self, methods: dict[str, Method], in_parts: dict[str, PartsMethod], asked_max: int) -> None:
        super().__init__()
        self._methods = methods
        self._in_parts = in_parts
        self._asked_max = asked_max
        self._asked: dict[int, asyncio.Task[None]] = {}
        self._room: dict[int, asyncio.Semaphore] = {}

    def came(self, frame: Any) -> None:
        number, method, given, named = frame
        if method == _LEFT:
            task = self._asked.get(number)
            if task is not None:
                task.cancel()
        elif method == _TAKEN:
            # Of an answer that has ended there is nothing to go on with.
            if number in self._room:
                self._room[number].release()
        elif len(self._asked) >= self._asked_max:
            self.tell((number, Busy("too many questions are waiting", retry_after_s=_BUSY_RETRY_S), _Told.ERROR))
        else:
            task = asyncio.get_running_loop().create_task(self._answer(number, method, given, named))
            self._asked[number] = task
            task.add_done_callback(lambda _: self._asked.pop(number, None))

    async def _answer(self, number: int, method: str, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        try:
            answer: Any = None
            if method in self._in_parts:
                await self._tell_parts(number, self._in_parts[method](*given, **named))
            else:
                answer = await self._methods[method](*given, **named)
            frame = (number, answer, _Told.ANSWER)
        # Whatever it is, the door raises it, as it would what comes through a handle.
        except Exception as error:
            frame = (number, _portable(error), _Told.ERROR)
        self.tell(frame)

    async def _tell_parts(self, number: int, parts: AsyncGenerator[Any]) -> None:
        room = self._room[number] = asyncio.Semaphore(_PARTS_AHEAD)
        try:
            async with aclosing(parts):
                async for part in parts:
                    await room.acquire()
                    self.tell((number, part, _Told.PART))
        finally:
            del self._room[number]

    def connection_lost(self, error: Exception | None) -> None:
        for task in self._asked.values():
            task.cancel()


class _DoorEnd(_Frames):
    def __init__(self) -> None:
        super().__init__()
        self.lost = False
        self._numbers = 0
        self._waiting: dict[int, asyncio.Queue[tuple[Any, _Told]]] = {}

    async def ask(self, method: str, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        async with aclosing(self._told(method, given, named)) as frames:
            answer, _ = await anext(frames)
            return answer

    async def parts(self, method: str, given: tuple[Any, ...], named: dict[str, Any]) -> AsyncGenerator[Any]:
        async with aclosing(self._told(method, given, named)) as frames:
            async for part, kind in frames:
                if kind is _Told.PART:
                    yield part

    async def _told(
        self, method: str, given: tuple[Any, ...], named: dict[str, Any]
    ) -> AsyncGenerator[tuple[Any, _Told]]:
        if self.lost:
            raise LineLost
        self._numbers += 1
        number = self._numbers
        told = self._waiting[number] = asyncio.Queue()
        self.tell((number, method, given, named))
        kind = _Told.PART
        try:
            while kind is _Told.PART:
                answer, kind = await told.get()
                if kind is _Told.ERROR:
                    raise answer
                yield answer, kind
                if kind is _Told.PART:
                    self.tell((number, _TAKEN, (), {}))
        finally:
            del self._waiting[number]
            if kind is _Told.PART:
                self.tell((number, _LEFT, (), {}))

    def came(self, frame: Any) -> None:
        number, answer, kind = frame
        # Nobody waits for one that was left.
        if number in self._waiting:
            self._waiting[number].put_nowait((answer, _Told(kind)))

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        for told in self._waiting.values():
            told.put_nowait((LineLost(), _Told.ERROR))


def _portable(error: Exception) -> Exception:
    """The error, or its words where it cannot be sent."""
    try:
        pickle.dumps(error, pickle.HIGHEST_PROTOCOL)
    except Exception:
        return RuntimeError(repr(error)[:400])
    return error


def _unix_socket() -> socket.socket:
    # Bound and connected here: uvloop, which doors run on, takes no path of the abstract space.
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    end.setblocking(False)
    return end


class LineEnd:
    """The replica's end: opened when a door asks for its name."""

    def __init__(
        self,
        methods: dict[str, Method],
        in_parts: dict[str, PartsMethod] | None = None,
        *,
        asked_max: int = _ASKED_MAX,
    ) -> None:
        """
        Args:
            methods: what may be asked, by name.
            in_parts: likewise, where the answer is a generator of its parts.
            asked_max: questions of one door under way; more are refused as Busy.
        """
        self._asked_max = asked_max
        self._methods = methods
        self._in_parts = in_parts or {}
        self._opening = asyncio.Lock()
        self._name = ""
        self._server: asyncio.Server | None = None

    async def name(self) -> str:
        """What a door on this machine connects to; empty where the system has no such sockets."""
        async with self._opening:
            if self._server is None and hasattr(socket, "SO_PEERCRED"):
                # In Linux' abstract space: no file that stays behind, and no limit of the folder's length.
                name = f"\0hub-line-{secrets.token_hex(16)}"
                end = _unix_socket()
                end.bind(name)
                opened = partial(_ReplicaEnd, self._methods, self._in_parts, self._asked_max)
                self._server = await asyncio.get_running_loop().create_unix_server(opened, sock=end)
                self._name = name
            return self._name

    def close(self) -> None:
        """Take no more lines."""
        if self._server is not None:
            self._server.close()


class Line:
    """The door's end. Methods are for one event loop."""

    def __init__(self, name: Callable[[], Awaitable[str]], clock: Clock) -> None:
        """
        Args:
            name: asks the replica for what `LineEnd.name` gives.
        """
        self._name = name
        self._clock = clock
        self._end: _DoorEnd | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._tried_s = float("-inf")

    def ready(self) -> bool:
        """Whether a question may be asked now; begins to connect where it may not."""
        if self._end is not None and not self._end.lost:
            return True
        idle = self._connecting is None or self._connecting.done()
        if idle and self._clock.monotonic_s() - self._tried_s >= _CONNECTS_EVERY_S:
            self._tried_s = self._clock.monotonic_s()
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
        return False

    async def connected(self) -> bool:
        """Whether there is a line, once a try under way has ended."""
        if not self.ready() and self._connecting is not None:
            await self._connecting
        return self.ready()

    async def ask(self, method: str, *given: Any, **named: Any) -> Any:
        """What the replica's method returns or raises.

        Raises:
            LineLost: the line ended meanwhile.
        """
        if self._end is None:
            raise LineLost
        return await self._end.ask(method, given, named)

    async def parts(self, method: str, *given: Any, **named: Any) -> AsyncGenerator[Any]:
        """The parts of the replica's answer; a reader who leaves ends it.

        Raises:
            LineLost: the line ended meanwhile.
        """
        if self._end is None:
            raise LineLost
        async with aclosing(self._end.parts(method, given, named)) as parts:
            async for part in parts:
                yield part

    def close(self) -> None:
        """Cut the line; what waits raises LineLost."""
        if self._end is not None:
            self._end.end()

    async def _connect(self) -> None:
        try:
            name = await self._name()
            if name:
                loop, end = asyncio.get_running_loop(), _unix_socket()
                await loop.sock_connect(end, name)
                _, self._end = await loop.create_unix_connection(_DoorEnd, sock=end)
        # No line is no fault: there is the handle, and another try a second later.
        except Exception as error:
            _log.warning("no_straight_line", error=str(error)[:200])
