"""Content-Encoding undone, a chunk at a time under a ceiling, one layer only: a bomb is refused before it unfolds."""

from __future__ import annotations

import zlib
from typing import Final

import zstandard

from cluster.errors import BodyTooLarge, BodyUnreadable, MediaTypeUnsupported

ENCODINGS: Final = ("gzip", "zstd", "deflate")
# Most a decompressor may make of one call, so that the ceiling is met within this much of it.
_STEP: Final = 256 * 1024
# Small bodies of repeated rows honestly reach any ratio; below this size a bomb is harmless.
_RATIO_FROM: Final = 1024 * 1024
# A zstd frame asks for a window of its own; 8 MiB is what RFC 8878 tells decoders to support.
_ZSTD_WINDOW_MAX: Final = 8 * 1024 * 1024


class _Ceiling:
    def __init__(self, sent: int, *, inflated_max: int, ratio_max: int) -> None:
        self._sent = sent
        self._inflated_max = inflated_max
        self._ratio_max = ratio_max
        self.parts: list[bytes] = []
        self._size = 0

    def take(self, part: bytes) -> None:
        self.parts.append(part)
        self._size += len(part)
        if self._size > self._inflated_max:
            raise BodyTooLarge(
                f"the body inflates to more than {self._inflated_max} bytes", hint="Send the rows in several requests."
            )
        if self._size > _RATIO_FROM and self._size > self._ratio_max * self._sent:
            raise BodyTooLarge(
                f"the body inflates to more than {self._ratio_max} times its size", hint="Compress it less."
            )


def inflate(
    body: bytes | memoryview, encoding: str | None, *, sent_max: int, inflated_max: int, ratio_max: int
) -> bytes:
    """The body as its sender had it before Content-Encoding.

    Args:
        encoding: the header as sent; None, empty and `identity` mean none.
        sent_max: ceiling of the body as sent, bytes.
        inflated_max: ceiling of the result, bytes.
        ratio_max: ceiling of result / body, above a size where it matters.

    Raises:
        BodyTooLarge: over a ceiling.
        BodyUnreadable: corrupt, cut off, or followed by something else.
        MediaTypeUnsupported: another encoding, or several.
    """
    data = bytes(body)
    if len(data) > sent_max:
        raise BodyTooLarge(f"{len(data)} bytes sent, at most {sent_max}", hint="Send the rows in several requests.")
    name = (encoding or "identity").strip().lower()
    if name in ("", "identity"):
        return data
    ceiling = _Ceiling(len(data), inflated_max=inflated_max, ratio_max=ratio_max)
    if name in ("gzip", "x-gzip"):
        _inflate_members(data, ceiling)
    elif name == "deflate":
        # RFC 9110 means the zlib form; some senders leave its two-byte header out.
        zlib_form = len(data) >= 2 and data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
        rest = _inflate_one(zlib.decompressobj(15 if zlib_form else -15), data, ceiling)
        _refuse_rest(rest)
    elif name == "zstd":
        _inflate_zstd(data, ceiling)
    else:
        raise MediaTypeUnsupported(
            f"no decoder for Content-Encoding {name[:80]!r}", hint=f"Send one layer of {', '.join(ENCODINGS)}, or none."
        )
    return b"".join(ceiling.parts)


def _inflate_members(data: bytes, ceiling: _Ceiling) -> None:
    rest = data
    while rest:
        # RFC 1952: a gzip file is one or more members; zeros after the last are padding.
        rest = _inflate_one(zlib.decompressobj(31), rest, ceiling).lstrip(b"\x00")
    if not data:
        raise BodyUnreadable("the gzip body is empty", hint="Send it without Content-Encoding.")


def _inflate_one(decompressor: zlib._Decompress, data: bytes, ceiling: _Ceiling) -> bytes:
    """Bytes after the end of the stream."""
    try:
        while not decompressor.eof:
            part = decompressor.decompress(data, _STEP)
            data = decompressor.unconsumed_tail
            ceiling.take(part)
            if not part and not data and not decompressor.eof:
                raise BodyUnreadable("the compressed body is cut off", hint="Send the whole body again.")
    except zlib.error as error:
        raise BodyUnreadable(f"the compressed body is corrupt: {error}", hint="Send the body again.") from None
    return decompressor.unused_data


def _inflate_zstd(data: bytes, ceiling: _Ceiling) -> None:
    context = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_MAX)
    try:
        with context.stream_reader(data, read_across_frames=True) as reader:
            while part := reader.read(_STEP):
                ceiling.take(part)
        # The reader ends without a word where a frame is cut off. A second pass over the frames notices; it has no
        # ceiling of its own, which the first pass has made safe.
        rest = data
        while rest:
            frame = context.decompressobj()
            frame.decompress(rest)
            if not frame.eof:
                raise BodyUnreadable("the compressed body is cut off", hint="Send the whole body again.")
            rest = frame.unused_data
    except zstandard.ZstdError as error:
        raise BodyUnreadable(f"the compressed body is corrupt: {error}", hint="Send the body again.") from None
    if not data:
        raise BodyUnreadable("the zstd body is empty", hint="Send it without Content-Encoding.")


def _refuse_rest(rest: bytes) -> None:
    if rest:
        raise BodyUnreadable(f"{len(rest)} bytes follow the compressed body", hint="Send one compressed stream.")
