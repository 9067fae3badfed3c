"""An answer taken apart to be kept row by row, and put together again a page at a time, digit for digit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from models.query.pages import ROWS_MAX, Page
from models.query.parameters import Parameters
from models.query.plan import Floors

# Kinds that tell their rows by page.
_PAGED: Final = ("aggregate", "percentile", "ratio", "compare", "distinct")
_OVER_TIME: Final = frozenset(("granularity", "time_zone"))
# The lists that an answer may have; the first that it has is kept entry by entry.
_MEMBERS: Final = ("rows", "series", "cells")
_CURSOR: Final = "next_cursor"
_encoder = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True, slots=True)
class Stored:
    """An answer in parts, each of them JSON.

    Attributes:
        head: the answer, its list empty.
        member: name of that list.
        entries: what stood in it.
    """

    head: str
    member: str
    entries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """What a job is told of its question, beside its kind.

    Attributes:
        floors: what had expired when it was asked.
    """

    parameters: Parameters
    floors: Floors

    def text(self) -> str:
        """As `read_told` reads it."""
        return _text({"parameters": self.parameters, "floors": self.floors})


class _Written(msgspec.Struct):
    parameters: list[tuple[str, str]]
    floors: Floors


def read_told(text: str) -> Told:
    """Inverse of `Told.text`."""
    found = msgspec.json.decode(text, type=_Written)
    return Told(tuple(found.parameters), found.floors)


def whole(kind: str, parameters: Parameters) -> Parameters:
    """The question with all its rows on one page, ROWS_MAX at most."""
    if not _is_paged(kind, parameters):
        return parameters
    return (*((name, text) for name, text in parameters if name not in ("limit", "cursor")), ("limit", str(ROWS_MAX)))


def page_limit(kind: str, parameters: Parameters) -> str | None:
    """The `limit` with which rows were asked for; None where it is left to the hub, or means something else."""
    return dict(parameters).get("limit") if _is_paged(kind, parameters) else None


def _is_paged(kind: str, parameters: Parameters) -> bool:
    told = dict(parameters)
    inner = told.get("of", "aggregate") if kind == "as_of" else kind
    return inner in _PAGED and not _OVER_TIME & told.keys()


def taken_apart(answer: dict[str, Any]) -> Stored:
    """The parts of an answer that an encoder of JSON takes."""
    member = next(name for name in _MEMBERS if name in answer)
    head = {**answer, member: []} | ({_CURSOR: None} if _CURSOR in answer else {})
    return Stored(_text(head), member, tuple(_text(entry) for entry in answer[member]))


def put_together(head: str, member: str, entries: Sequence[str], cursor: str | None) -> bytes:
    """The answer with some of its entries.

    Args:
        cursor: of the next entries; None where there are none.
    """
    told = msgspec.json.decode(head, type=dict[str, msgspec.Raw])
    told[member] = msgspec.Raw(b"[" + ",".join(entries).encode() + b"]")
    if cursor is not None or _CURSOR in told:
        told[_CURSOR] = msgspec.Raw(_encoder.encode(cursor))
    return _encoder.encode(told)


def cursor_after(page: Page, count: int) -> str | None:
    """Cursor of the page behind this one, of `count` entries."""
    return page.after(more=page.first + page.limit < count)


def _text(value: Any) -> str:
    return _encoder.encode(value).decode()
