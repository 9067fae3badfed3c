"""Answers are encoded as the client takes them, whole and in parts, and read back byte for byte."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Sequence

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from serving.compressed import BODY_BYTES_MIN, Compressed, accepted

LONG = b'{"rows":[' + b'{"model":"m-1","n":12345},' * 400 + b"]}"


def answer(
    bodies: Sequence[bytes], accept: str, *, media_type: str = "application/json", **headers: str
) -> tuple[Headers, list[bytes]]:
    """Headers and bodies as they go to the client."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        told = {"content-type": media_type, **headers}
        if len(bodies) == 1:
            told["content-length"] = str(len(bodies[0]))
        raw = [(name.encode(), value.encode()) for name, value in told.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        for place, body in enumerate(bodies):
            await send({"type": "http.response.body", "body": body, "more_body": place < len(bodies) - 1})

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    scope = {"type": "http", "headers": [(b"accept-encoding", accept.encode())]}
    asyncio.run(Compressed(application)(scope, receive, send))
    start, *rest = sent
    return Headers(raw=start["headers"]), [message["body"] for message in rest]


def decoded(encoding: str | None, body: bytes) -> bytes:
    if encoding == "zstd":
        return zstandard.ZstdDecompressor().decompressobj().decompress(body)
    return gzip.decompress(body) if encoding == "gzip" else body


@pytest.mark.parametrize("encoding", ["zstd", "gzip"])
@pytest.mark.parametrize("size", [len(LONG), 3_000_000])
def test_a_whole_answer_is_smaller_and_the_same(encoding: str, size: int) -> None:
    body = (LONG * (size // len(LONG)))[:size]
    headers, sent = answer([body], encoding, etag='"v1"', vary="Accept")
    assert headers["content-encoding"] == encoding
    assert int(headers["content-length"]) == len(sent[0]) < len(body) / 5
    assert decoded(encoding, sent[0]) == body
    assert headers["etag"] == '"v1"'
    assert {name.strip().lower() for name in headers["vary"].split(",")} == {"accept", "accept-encoding"}


@given(
    st.lists(st.one_of(st.binary(max_size=50), st.integers(1, 300_000).map(lambda size: b"ab" * size)), min_size=2),
    st.sampled_from(["zstd", "gzip"]),
)
def test_parts_are_one_stream(bodies: list[bytes], encoding: str) -> None:
    headers, sent = answer(bodies, encoding)
    assert headers["content-encoding"] == encoding
    assert "content-length" not in headers
    assert decoded(encoding, b"".join(sent)) == b"".join(bodies)


def test_each_part_can_be_read_before_the_next_is_there() -> None:
    _, sent = answer([b"first" * 1_000, b"second" * 1_000, b"third"], "zstd")
    stream = zstandard.ZstdDecompressor().decompressobj()
    assert [stream.decompress(part) for part in sent] == [b"first" * 1_000, b"second" * 1_000, b"third"]
    _, sent = answer([b"first" * 1_000, b"second" * 1_000, b"third"], "gzip")
    inflate = zlib.decompressobj(31)
    assert [inflate.decompress(part) for part in sent] == [b"first" * 1_000, b"second" * 1_000, b"third"]


@pytest.mark.parametrize(
    ("bodies", "media_type", "headers"),
    [
        ([b"x" * (BODY_BYTES_MIN - 1)], "application/json", {}),
        ([LONG], "text/event-stream", {}),
        ([LONG], "font/woff2", {}),
        ([gzip.compress(LONG * 10)], "application/json", {"content-encoding": "gzip"}),
        ([b""], "application/json", {}),
    ],
)
def test_what_is_left_as_it_is(bodies: list[bytes], media_type: str, headers: dict[str, str]) -> None:
    told, sent = answer(bodies, "zstd, gzip", media_type=media_type, **headers)
    assert sent == bodies
    assert told.get("content-encoding") == headers.get("content-encoding")
    assert told["content-length"] == str(len(bodies[0]))


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        ("", None),
        ("identity", None),
        ("br", None),
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("GZIP;q=1.0, zstd;q=0.5", "gzip"),
        ("zstd;q=0, gzip;q=0.1", "gzip"),
        ("*", "zstd"),
        ("*;q=0", None),
        ("zstd;q=0, *", "gzip"),
        ("gzip;q=none", None),
    ],
)
def test_the_client_chooses(header: str, encoding: str | None) -> None:
    assert accepted(header) == encoding
