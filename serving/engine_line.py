"""A straight line from a door to the query engine on the same machine: a Unix socket instead of a Serve handle.

A small question takes the engine 2 ms, and a handle as much again in each of the two processes. The line carries what
the handle carries, in frames of their own: a length, then a pickle, which only processes of this user write. Where
there is no line (another machine, several engines, an engine that is being replaced), the handle is used.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import secrets
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import structlog

from cluster.clock import Clock
from cluster.errors import Busy

# Questions under way on one line; the engine refuses long before.
_ASKED_MAX: Final = 2_048
_FRAME_BYTES_MAX: Final = 256 * 1024 * 1024
_LENGTH: Final = struct.Struct(">I")
_CREDENTIALS: Final = struct.Struct("3i")
_CONNECTS_EVERY_S: Final = 1.0
_BUSY_RETRY_S: Final = 1.0

_log = structlog.get_logger(__name__)


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


class _EngineEnd(_Frames):
    def __init__(self, methods: dict[str, Callable[..., Awaitable[Any]]]) -> None:
        super().__init__()
        self._methods = methods
        self._asked: dict[int, asyncio.Task[None]] = {}

    def came(self, frame: Any) -> None:
        number, method, given, named = frame
        if method is None:
            task = self._asked.get(number)
            if task is not None:
                task.cancel()
        elif len(self._asked) >= _ASKED_MAX:
            self.tell((number, Busy("too many questions are waiting", retry_after_s=_BUSY_RETRY_S), True))
        else:
            task = asyncio.get_running_loop().create_task(self._answer(number, self._methods[method](*given, **named)))
            self._asked[number] = task
            task.add_done_callback(lambda _: self._asked.pop(number, None))

    async def _answer(self, number: int, answer: Awaitable[Any]) -> None:
        try:
            frame = (number, await answer, False)
        # Whatever it is, the door raises it, as it would what comes through a handle.
        except Exception as error:
            frame = (number, _portable(error), True)
        self.tell(frame)

    def connection_lost(self, error: Exception | None) -> None:
        for task in self._asked.values():
            task.cancel()


class _DoorEnd(_Frames):
    def __init__(self) -> None:
        super().__init__()
        self.lost = False
        self._numbers = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    async def ask(self, method: str, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if self.lost:
            raise LineLost
        self._numbers += 1
        number = self._numbers
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self.tell((number, method, given, named))
        try:
            return await future
        except asyncio.CancelledError:
            self.tell((number, None, (), {}))
            raise
        finally:
            del self._waiting[number]

    def came(self, frame: Any) -> None:
        number, answer, failed = frame
        future = self._waiting.get(number)
        if future is None or future.done():
            return
        if failed:
            future.set_exception(answer)
        else:
            future.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(LineLost())


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
    """The engine's end: opened when a door asks for its name."""

    def __init__(self, methods: dict[str, Callable[..., Awaitable[Any]]]) -> None:
        """
        Args:
            methods: what may be asked, by name.
        """
        self._methods = methods
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
                loop = asyncio.get_running_loop()
                self._server = await loop.create_unix_server(lambda: _EngineEnd(self._methods), sock=end)
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
            name: asks the engine for what `LineEnd.name` gives.
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
        """What the engine's method returns or raises.

        Raises:
            LineLost: the line ended meanwhile.
        """
        if self._end is None:
            raise LineLost
        return await self._end.ask(method, given, named)

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
            _log.warning("no_engine_line", error=str(error)[:200])
