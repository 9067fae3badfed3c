"""Kept-alive HTTP connections that cost next to nothing: on the hub's own machine a client's work is measured too."""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import urlsplit

_TRIES: Final = 3


class Connections:
    """As many connections as there are requests at once; for one event loop."""

    def __init__(self, url: str, key: str) -> None:
        split = urlsplit(url)
        self._host, self._port = split.hostname or "127.0.0.1", split.port or 80
        self._head = f"host: {self._host}\r\nauthorization: Bearer {key}\r\n\r\n"
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def get(self, path: str) -> bytes:
        """The body of a 200.

        Raises:
            RuntimeError: another status, or the connection ended three times.
        """
        for _ in range(_TRIES):
            reader, writer = self._free.pop() if self._free else await asyncio.open_connection(self._host, self._port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\n{self._head}".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.lower().split(b"\r\n")
                length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
                body = await reader.readexactly(length)
            except (asyncio.IncompleteReadError, OSError):
                # The edge closes those that were idle for long, and all when it is told of a new replica.
                writer.close()
                self.close()
                continue
            self._free.append((reader, writer))
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"{path}: {lines[0].decode()} {body[:300].decode()}")
            return body
        raise RuntimeError(f"{path}: the connection ended {_TRIES} times")

    def close(self) -> None:
        """Close those that are not in use."""
        for _, writer in self._free:
            writer.close()
        self._free.clear()
