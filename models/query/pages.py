"""Pages of an answer's rows: a limit, and a cursor that stands on the number of rows told before."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from cluster.errors import RequestInvalid
from models.query.parameters import one, parse_limit

ROWS_MAX: Final = 10_000
DEFAULT_LIMIT: Final = 1_000
# What may differ between two pages of one list.
_FREE: Final = frozenset({"limit", "cursor"})

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Page:
    """Rows `first` to `first + limit` of a list; `binding` ties its cursors to the question they were made for."""

    limit: int = DEFAULT_LIMIT
    first: int = 0
    binding: bytes = b""

    def cut(self, rows: Sequence[Row]) -> tuple[list[Row], str | None]:
        """The rows of this page, and the cursor of the next one, None on the last."""
        last = self.first + self.limit
        return list(rows[self.first : last]), self.after(more=last < len(rows))

    def after(self, *, more: bool) -> str | None:
        """The cursor of the next page; None where there are no more rows."""
        return _packed(self.binding, self.first + self.limit) if more else None


# The first page, as long as a page is when nobody says.
FIRST_PAGE: Final = Page()


def parse_page(given: Mapping[str, list[str]], *, most: int = ROWS_MAX, default: int = DEFAULT_LIMIT) -> Page:
    """The page that `limit` and `cursor` ask for.

    Raises:
        RequestInvalid: a limit outside 1..most, or a cursor of another question.
    """
    asked = sorted((name, tuple(texts)) for name, texts in given.items() if name not in _FREE)
    binding = hashlib.blake2b(repr(asked).encode(), digest_size=8).digest()
    limit = parse_limit(one(dict(given), "limit", str(default)), most=most)
    return Page(limit, _first(given["cursor"][0], binding) if given["cursor"] else 0, binding)


def _packed(binding: bytes, first: int) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode((binding, first))).decode().rstrip("=")


def _first(text: str, binding: bytes) -> int:
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        bound, first = msgspec.msgpack.decode(packed, type=tuple[bytes, int])
    except (binascii.Error, msgspec.MsgspecError, ValueError) as error:
        raise RequestInvalid("the cursor cannot be read", hint="Send next_cursor as it was answered.") from error
    if bound != binding or not 0 <= first < 2**31:
        raise RequestInvalid("the cursor belongs to another question", hint="Change nothing but cursor and limit.")
    return first
