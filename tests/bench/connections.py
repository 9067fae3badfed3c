"""Kept-alive HTTP connections that cost next to nothing: on the hub's own machine a client's work is measured too."""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import urlsplit

_TRIES: Final = 3
_ANSWER_S: Final = 60.0


class Connections:
    """As many connections as there are requests at once; for one event loop."""

    def __init__(self, url: str, key: str) -> None:
        split = urlsplit(url)
        self._host, self._port = split.hostname or "127.0.0.1", split.port or 80
        self._head = f"host: {self._host}\r\nauthorization: Bearer {key}\r\n"
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def get(self, path: str) -> bytes:
        """The body of a 200.

        Raises:
            RuntimeError: another status, or the connection ended three times.
        """
        for _ in range(_TRIES):
            try:
                status, body = await self._ask(f"GET {path} HTTP/1.1\r\n{self._head}\r\n".encode())
            except (asyncio.IncompleteReadError, OSError):
                # The edge closes those that were idle for long, and all when it is told of a new replica.
                self.close()
                continue
            if status != 200:
                raise RuntimeError(f"{path}: {status} {body[:300].decode()}")
            return body
        raise RuntimeError(f"{path}: the connection ended {_TRIES} times")

    async def post(self, path: str, content: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to some JSON, sent once.

        Raises:
            ConnectionError: the connection ended before the answer, or none came for a minute.
        """
        told = f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await self._ask(f"POST {path} HTTP/1.1\r\n{self._head}{told}".encode() + content)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise ConnectionError(f"{path}: no answer came") from error

    async def _ask(self, request: bytes) -> tuple[int, bytes]:
        reader, writer = await self._connection()
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
            body = await reader.readexactly(length)
        except BaseException:
            # What is left of its answer must not be read as the next one.
            writer.close()
            raise
        self._free.append((reader, writer))
        return int(lines[0].split()[1]), body

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._free:
            reader, writer = self._free.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self._host, self._port)

    def close(self) -> None:
        """Close those that are not in use."""
        for _, writer in self._free:
            writer.close()
        self._free.clear()
