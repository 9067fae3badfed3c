"""The body of a hook as items, each with its bytes, and the rows made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from cluster.contract.documents import OBJECT
from cluster.contract.instants import instant_us
from cluster.contract.normalise import seal
from cluster.contract.rows import DecodeContext, Decoded, RawRows, Refusal, RowRefused
from cluster.contract.sources.arrays import columns_of, texts
from cluster.contract.usage import JSON_VALUE, NumberText
from cluster.errors import BodyTooLarge, BodyUnreadable, MediaTypeUnsupported

JSON: Final = "application/json"
_LINES: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])
_BROKEN: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)
_BOM: Final = b"\xef\xbb\xbf"
# Longer texts are not for filtering; the payload has them.
_TEXT_MAX: Final = 1_024

Fields = dict[str, Any]


def items_of(body: bytes, headers: Mapping[str, str], batch: str, context: DecodeContext) -> list[bytes]:
    """The items of a body: an array, an object whose member `batch` is one, a single object, or one object a line.

    Args:
        headers: of the request, names in lower case; `content-type` says which form.

    Raises:
        MediaTypeUnsupported: neither JSON nor lines of JSON.
        BodyUnreadable: no JSON.
        BodyTooLarge: more items than the context allows.
    """
    media_type = headers.get("content-type", "").split(";", 1)[0].strip().lower()
    body = body.removeprefix(_BOM).strip()
    if media_type in _LINES and not body.startswith(b"["):
        items = [line for line in body.split(b"\n") if line.strip()]
    elif media_type == JSON or media_type in _LINES:
        items = _items_of_document(body, batch)
    else:
        raise MediaTypeUnsupported(f"no decoder for Content-Type {media_type[:80]!r}", hint=f"Send {JSON}.")
    if len(items) > context.rows_max:
        raise BodyTooLarge(
            f"{len(items)} items in one body, at most {context.rows_max}", hint="Send the items in several requests."
        )
    return items


def _items_of_document(body: bytes, batch: str) -> list[bytes]:
    try:
        if body.startswith(b"["):
            return list(map(bytes, _ARRAY.decode(body)))
        member = OBJECT.decode(body).get(batch)
        if member is not None and bytes(member).startswith(b"["):
            return list(map(bytes, _ARRAY.decode(member)))
    except _BROKEN as error:
        raise BodyUnreadable(
            f"the body is not JSON: {error}", hint="Send one object, an array of objects, or one object a line."
        ) from None
    return [body]


def fields_of(item: bytes, context: DecodeContext) -> Fields:
    """The members of an item, numbers with a point as NumberText.

    Raises:
        RowRefused: too large, or no JSON object.
    """
    if len(item) > context.row_bytes_max:
        raise RowRefused("row_too_large", f"{len(item)} bytes in one item; send at most {context.row_bytes_max}")
    try:
        fields = JSON_VALUE.decode(item)
    except _BROKEN as error:
        raise RowRefused("json_invalid", f"{error}; the item is kept as sent, correct it and send it again") from None
    if not isinstance(fields, dict):
        raise RowRefused("item_not_object", "the item is no JSON object; send the product's object as it is")
    return fields


def text_of(value: Any) -> str | None:
    """A single value as text; None for nothing, objects and arrays."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) or None if isinstance(value, str | int | float) else None


def first_text(*values: Any) -> str | None:
    return next((text for value in values if (text := text_of(value)) is not None), None)


def mapping_of(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def document(members: Mapping[str, Any]) -> str:
    """A JSON object of the members that say something; exact numbers stay numbers, long texts are left out."""
    kept = {name: _exact(value) for name, value in members.items() if _says(value)}
    return msgspec.json.encode(kept, order="sorted").decode()


def _says(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(member, str | int) for member in value) and _length(value) <= _TEXT_MAX
    return isinstance(value, int | float) or (isinstance(value, str) and 0 < len(value) <= _TEXT_MAX)


def _length(values: Sequence[Any]) -> int:
    return sum(len(str(value)) for value in values)


def _exact(value: Any) -> Any:
    if isinstance(value, list):
        return [_exact(member) for member in value]
    return msgspec.Raw(value.encode()) if isinstance(value, NumberText) else value


class HookRows:
    """Rows of the items of one body; an item may be several, each with the number of the item."""

    def __init__(self, items: Sequence[bytes], context: DecodeContext) -> None:
        self._items = items
        self._context = context
        self._indexes: list[int] = []
        self._rows: list[Fields] = []
        self._refused: list[Refusal] = []

    def add(self, index: int, row: Fields) -> None:
        """One row, by column, of the item of that number.

        Beside the columns it may have `ended_at` and `first_token_at`, times in any form: with `occurred_at` they make
        the durations. A row that ends before it begins is refused.
        """
        began, ended, first = (instant_us(row.get(name)) for name in ("occurred_at", "ended_at", "first_token_at"))
        if began is not None and ended is not None:
            if ended < began:
                self.refuse(index, "times_invalid", f"it ends {(began - ended) / 1e6:.3f} s before it starts")
                return
            row["latency_ms"] = (ended - began) / 1e3
        if began is not None and first is not None and first >= began:
            row["ttft_ms"] = (first - began) / 1e3
        self._indexes.append(index)
        self._rows.append(row)

    def refuse(self, index: int, code: str, message: str) -> None:
        self._refused.append(Refusal(index, code, message))

    def seal(self) -> Decoded:
        """The rows after the contract's rules."""
        columns = columns_of(self._rows)
        if any("occurred_at" in row for row in self._rows):
            columns["occurred_at"] = texts(text_of(row.get("occurred_at")) for row in self._rows)
        rows = RawRows(
            columns=columns,
            indexes=np.array(self._indexes, np.int64),
            original=self._items.__getitem__,
            row_count=len(self._rows) + len(self._refused),
            refused=sorted(self._refused, key=lambda refusal: refusal.index),
            place=lambda index: f"item {index}",
        )
        return seal(rows, self._context)
