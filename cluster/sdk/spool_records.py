"""One spooled batch as bytes: a checksummed header, then the body as it is sent."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

from cluster.sdk.requests import Compression

_MAGIC: Final = 0x3153484C  # "LHS1"
# magic, state, encoding, nothing, rows, length of the body, crc32 of the body
_FIELDS: Final = struct.Struct("<IBBHIII")
# crc32 of the fields with the state left out: the state changes in place.
_CRC: Final = struct.Struct("<I")
HEADER_BYTES: Final = _FIELDS.size + _CRC.size
STATE_AT: Final = 4
_ENCODINGS: Final[tuple[Compression, ...]] = ("none", "gzip", "zstd")

_WAITING: Final = 0x00
# Eight bits away from waiting, so that no flipped bit turns an event that waits into one that was sent.
SETTLED: Final = b"\xff"


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of a record without its body."""

    rows: int
    length: int
    encoding: Compression
    crc: int
    settled: bool

    @property
    def size(self) -> int:
        """Bytes of the whole record."""
        return HEADER_BYTES + self.length


def header_of(rows: int, body: bytes, encoding: Compression) -> bytes:
    """The header of a record that waits."""
    fields = _FIELDS.pack(_MAGIC, _WAITING, _ENCODINGS.index(encoding), 0, rows, len(body), zlib.crc32(body))
    return fields + _CRC.pack(zlib.crc32(fields))


def read_header(content: bytes) -> Header | None:
    """The header that these bytes begin with; None where it is not intact."""
    if len(content) < HEADER_BYTES:
        return None
    fields = bytearray(content[: _FIELDS.size])
    settled = fields[STATE_AT : STATE_AT + 1] == SETTLED
    fields[STATE_AT] = _WAITING
    (checksum,) = _CRC.unpack_from(content, _FIELDS.size)
    magic, _, encoding, _, rows, length, crc = _FIELDS.unpack(fields)
    if magic != _MAGIC or zlib.crc32(fields) != checksum or encoding >= len(_ENCODINGS):
        return None
    return Header(rows, length, _ENCODINGS[encoding], crc, settled)


def find_header(content: bytes, offset: int) -> int | None:
    """Offset of the next intact header at or behind `offset`."""
    magic = _FIELDS.pack(_MAGIC, 0, 0, 0, 0, 0, 0)[:STATE_AT]
    while (offset := content.find(magic, offset)) >= 0:
        if read_header(content[offset : offset + HEADER_BYTES]) is not None:
            return offset
        offset += 1
    return None


def intact(header: Header, body: bytes) -> bool:
    """Whether the body is the one that was written."""
    return len(body) == header.length and zlib.crc32(body) == header.crc
