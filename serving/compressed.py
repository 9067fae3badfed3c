"""Answers in zstd or gzip where the client takes them (RFC 9110, 12.5.3): whole ones at once, others part by part."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from typing import Final, Protocol

import zstandard
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# What fits into one packet travels no faster for being smaller.
BODY_BYTES_MIN: Final = 1_400
# In a thread beyond this: other requests wait for the event loop meanwhile.
_AT_ONCE_BYTES: Final = 128 * 1024
# The fastest: on most lines more time goes by than it saves from the next level on.
_ZSTD_LEVEL: Final = 1
_GZIP_LEVEL: Final = 1
_GZIP_WINDOW_BITS: Final = 31
# Events of a page that is live are each to be there at once, and files of the page are compressed already.
_MEDIA_TYPES: Final = frozenset(
    {
        *("application/json", "application/problem+json", "application/vnd.apache.arrow.stream"),
        *("text/csv", "text/plain"),
    }
)


class Compressor(Protocol):
    """A stream of one encoding."""

    def part(self, body: bytes) -> bytes:
        """What can be read as soon as it is there."""

    def last(self, body: bytes) -> bytes:
        """The rest, and the end of the stream."""


class _Zstd:
    def __init__(self) -> None:
        self._stream = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj()

    def part(self, body: bytes) -> bytes:
        return self._stream.compress(body) + self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def last(self, body: bytes) -> bytes:
        return self._stream.compress(body) + self._stream.flush()


class _Gzip:
    def __init__(self) -> None:
        self._stream = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_WINDOW_BITS)

    def part(self, body: bytes) -> bytes:
        return self._stream.compress(body) + self._stream.flush(zlib.Z_SYNC_FLUSH)

    def last(self, body: bytes) -> bytes:
        return self._stream.compress(body) + self._stream.flush()


# Preferred first, where the client takes several alike.
_ENCODINGS: Final[dict[str, Callable[[], Compressor]]] = {"zstd": _Zstd, "gzip": _Gzip}


class Compressed:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        encoding = accepted(Headers(scope=scope).get("accept-encoding", "")) if scope["type"] == "http" else None
        if encoding is None:
            await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, _Answer(send, encoding).send)


class _Answer:
    """One answer on its way; its start waits for the first of its body, which tells how long it is."""

    def __init__(self, send: Send, encoding: str) -> None:
        self._send = send
        self._encoding = encoding
        self._start: Message | None = None
        self._compressor: Compressor | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_compressible(Headers(raw=message["headers"])):
            self._start = message
            return
        if message["type"] == "http.response.body":
            message = await self._body(message)
        await self._send(message)

    async def _body(self, message: Message) -> Message:
        body: bytes = message.get("body", b"")
        more = bool(message.get("more_body", False))
        if self._start is not None:
            start, self._start = self._start, None
            if more or len(body) >= BODY_BYTES_MIN:
                self._compressor = _ENCODINGS[self._encoding]()
                # Of a whole body it is small enough to be known before it goes.
                body = await self._compressed(body, more=more)
                _mark(MutableHeaders(raw=start["headers"]), self._encoding, None if more else len(body))
                await self._send(start)
                return {**message, "body": body}
            await self._send(start)
        return {**message, "body": await self._compressed(body, more=more)}

    async def _compressed(self, body: bytes, *, more: bool) -> bytes:
        if self._compressor is None:
            return body
        work = self._compressor.part if more else self._compressor.last
        return work(body) if len(body) <= _AT_ONCE_BYTES else await asyncio.to_thread(work, body)


def accepted(header: str) -> str | None:
    """The encoding of ours that an Accept-Encoding header likes most; None where it takes none of them."""
    weights: dict[str, float] = {}
    for part in header.lower().split(","):
        name, _, parameter = part.partition(";")
        _, _, value = parameter.partition("=")
        try:
            weights[name.strip()] = float(value) if value.strip() else 1.0
        except ValueError:
            weights[name.strip()] = 0.0
    liked = {name: weights.get(name, weights.get("*", 0.0)) for name in _ENCODINGS}
    best = max(liked, key=lambda name: liked[name])
    return best if liked[best] > 0 else None


def _is_compressible(headers: Headers) -> bool:
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type in _MEDIA_TYPES and "content-encoding" not in headers


def _mark(headers: MutableHeaders, encoding: str, length: int | None) -> None:
    headers["content-encoding"] = encoding
    headers.add_vary_header("accept-encoding")
    if length is not None:
        headers["content-length"] = str(length)
    # The ETag stays as it is, though not every byte does: it names a version, which is held against `If-Match` and told
    # in bodies, and nobody can ask for a range of bytes.
