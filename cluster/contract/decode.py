"""A request body -> events and dead letters: the one door of the contract for rows in any format but OTLP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cluster.contract.attribute_columns import fill_from_attributes
from cluster.contract.normalise import seal
from cluster.contract.rows import DecodeContext, Decoded, RawRows, Refusal
from cluster.contract.sources.ndjson import read_json, read_ndjson
from cluster.contract.sources.tabular import read_arrow, read_parquet
from cluster.errors import MediaTypeUnsupported

__all__ = ["MEDIA_TYPES", "DecodeContext", "Decoded", "Refusal", "decode"]

_READERS: Final[dict[str, Callable[[bytes, DecodeContext], RawRows]]] = {
    "application/x-ndjson": read_ndjson,
    "application/ndjson": read_ndjson,
    "application/jsonl": read_ndjson,
    "application/x-jsonlines": read_ndjson,
    "application/json": read_json,
    "application/vnd.apache.arrow.stream": read_arrow,
    "application/vnd.apache.parquet": read_parquet,
}
MEDIA_TYPES: Final = tuple(_READERS)


def decode(body: bytes | memoryview, *, content_type: str, context: DecodeContext) -> Decoded:
    """The rows of a body, each an event or a dead letter.

    Args:
        body: inflated already, see `inflate`.
        content_type: the header as sent; parameters such as `charset` are ignored.

    Raises:
        MediaTypeUnsupported: no decoder for the content type.
        BodyUnreadable: the body as a whole is not what it claims to be.
        BodyTooLarge: more rows, or more bytes once unpacked, than the context allows.
    """
    media_type = content_type.split(";", 1)[0].strip().lower()
    reader = _READERS.get(media_type)
    if reader is None:
        raise MediaTypeUnsupported(
            f"no decoder for Content-Type {media_type[:80]!r}", hint=f"Send one of {', '.join(MEDIA_TYPES)}."
        )
    rows = reader(bytes(body), context)
    fill_from_attributes(rows.columns)
    return seal(rows, context)
