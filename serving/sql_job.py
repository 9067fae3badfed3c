"""What goes to the process that runs SQL and what comes back: frames of MessagePack, a length before each."""

from __future__ import annotations

import struct
from enum import StrEnum
from typing import Any, Final

import msgspec

_LENGTH: Final = struct.Struct(">I")
HEAD_BYTES: Final = _LENGTH.size
# A longer answer travels in parts of about this size, so that nobody on its way holds it whole.
PART_BYTES: Final = 512 * 1024
# What one row, which is never divided, may take.
ROW_BYTES_MAX: Final = 32 * 1024 * 1024


class SqlForm(StrEnum):
    """How rows are written, by their media type."""

    JSON = "application/json"
    CSV = "text/csv"
    ARROW = "application/vnd.apache.arrow.stream"


class SqlView(msgspec.Struct, frozen=True):
    """One table as its asker may see it.

    Attributes:
        select: SELECT of the visible rows.
        paths: files it reads.
    """

    select: str
    paths: tuple[str, ...]
    version: int


class SqlJob(msgspec.Struct, frozen=True):
    """One statement with everything it may see.

    Attributes:
        key: equal for equal views, so that a connection that has them is used again.
        parameters: values of `?` in their order, or of `$name`.
        view: values that the statement may name beside them; None where it stands on no board.
        limit: most rows of the answer.
        bytes_max: most bytes of the answer.
        timeout_s: time it may run from now.
    """

    key: str
    views: dict[str, SqlView]
    sql: str
    parameters: list[Any] | dict[str, Any]
    view: dict[str, Any] | None
    limit: int
    form: SqlForm
    bytes_max: int
    timeout_s: float


class SqlPart(msgspec.Struct, frozen=True, tag=True):
    """The beginning of the rows, or what follows it; not the last.

    Attributes:
        versions: Delta version of each table that is read.
    """

    body: bytes
    versions: dict[str, int]


class SqlRows(msgspec.Struct, frozen=True, tag=True):
    """The rows, written; of an answer in parts, the last.

    Attributes:
        row_count: of the whole answer.
        truncated: there are more rows than the limit.
        versions: Delta version of each table that was read.
    """

    body: bytes
    row_count: int
    truncated: bool
    versions: dict[str, int]


class SqlRefusal(msgspec.Struct, frozen=True, tag=True):
    """Why there are none.

    Attributes:
        code: of the error, see `cluster.errors`.
        spent: the process is not to be used again.
    """

    code: str
    message: str
    hint: str = ""
    spent: bool = False


_encoder = msgspec.msgpack.Encoder()
decode_job = msgspec.msgpack.Decoder(SqlJob).decode
decode_reply = msgspec.msgpack.Decoder(SqlPart | SqlRows | SqlRefusal).decode


def frame(message: msgspec.Struct) -> bytes:
    """A message with its length before it."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


def length(head: bytes) -> int:
    """Bytes that follow a head of HEAD_BYTES."""
    size: int = _LENGTH.unpack(head)[0]
    return size
