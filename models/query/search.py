"""Search for events: filters and free text, newest first, page by page with a cursor that stands on a row."""
# ruff: noqa: S608 (the text is ours, every value is bound: models/query/sql.py)

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from cluster.contract.columns import EVENT_SCHEMA
from cluster.errors import RequestInvalid
from models.query.filters import Filter, conditions, parse_filters
from models.query.parameters import Parameters, collect, one, parse_limit
from models.query.sql import Fragment, bound, joined, placed
from models.query.times import Range, format_instant, parse_range

LIMIT_MAX: Final = 1_000
_DEFAULT_LIMIT: Final = 100
_DEFAULT_FROM: Final = "-7d"
_TEXT_LENGTH_MAX: Final = 200
_IDS: Final = (
    "event_id",
    "trace_id",
    "span_id",
    "parent_span_id",
    "correlation_id",
    "session_id",
    "user_id",
    "request_id",
)
_TEXTS: Final = ("payload", "attributes")
# `counted` is the shard's book-keeping, nothing a sender told.
EVENT_COLUMNS: Final = ("tenant_id", *(name for name in EVENT_SCHEMA.names if name != "counted"))
_TRACE_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended: the next one starts with the first older event, or one as old with a smaller id."""

    occurred_us: int
    event_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """A checked search. `binding` ties its cursors to the tenants, filters and text they were made for."""

    span: Range
    filters: tuple[Filter, ...]
    text: str
    limit: int
    after: Place | None
    binding: bytes


def parse_search(parameters: Parameters, tenants: Sequence[str], *, now_us: int) -> SearchRequest:
    """The search that (name, text) pairs ask: `filter`, `q`, `from`, `to`, `limit`, `cursor`.

    Raises:
        RequestInvalid: a parameter is unknown or does not fit, or the cursor is of another search or tenant.
    """
    given = collect(parameters, known=("filter", "q", "from", "to", "limit", "cursor"), repeated=frozenset({"filter"}))
    text = one(given, "q", "")
    if len(text) > _TEXT_LENGTH_MAX:
        raise RequestInvalid(f"q is over {_TEXT_LENGTH_MAX} characters", hint="Search for a part of it.")
    bound = repr((tuple(tenants), sorted(given["filter"]), text))
    binding = hashlib.blake2b(bound.encode(), digest_size=8).digest()
    return SearchRequest(
        span=parse_range(one(given, "from", _DEFAULT_FROM), one(given, "to", "now"), now_us=now_us),
        filters=parse_filters(given["filter"]),
        text=text,
        limit=parse_limit(one(given, "limit", str(_DEFAULT_LIMIT)), most=LIMIT_MAX),
        after=read_cursor(given["cursor"][0], binding) if given["cursor"] else None,
        binding=binding,
    )


def parse_trace_id(text: str) -> str:
    """Raises:
    RequestInvalid: empty, over 128 characters, or not printable ASCII.
    """
    if not _TRACE_ID.fullmatch(text):
        raise RequestInvalid("a trace id has 1 to 128 printable characters", hint="Copy the trace_id of an event.")
    return text


def write_cursor(place: Place, binding: bytes) -> str:
    """Opaque text of a place."""
    packed = msgspec.msgpack.encode((binding, place.occurred_us, place.event_id))
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def read_cursor(text: str, binding: bytes) -> Place:
    """The place in a cursor.

    Raises:
        RequestInvalid: not a cursor of ours, or one of another search or tenant.
    """
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        bound, occurred_us, event_id = msgspec.msgpack.decode(packed, type=tuple[bytes, int, str])
    except (binascii.Error, msgspec.MsgspecError, ValueError) as error:
        raise RequestInvalid("the cursor cannot be read", hint="Send next_cursor as it was answered.") from error
    if bound != binding or not 0 <= occurred_us < 2**62:
        raise RequestInvalid("the cursor belongs to another search", hint="Keep q and filter as they were.")
    return Place(occurred_us, event_id)


def page_keys(request: SearchRequest, rows: Fragment) -> Fragment:
    """SELECT of `at_` and `event_id` of the page's events among `rows`, newest first.

    Only the columns that decide are read: an event's texts are most of its bytes and a page needs a hundred of them.
    """
    parts = [inside(request.span), conditions(request.filters)]
    if request.after is not None:
        at, place = "make_timestamptz(?::BIGINT)", request.after
        parts.append(
            Fragment(
                f"occurred_at <= {at} AND (occurred_at < {at} OR event_id < ?)",
                (place.occurred_us, place.occurred_us, place.event_id),
            )
        )
    if request.text:
        needle = request.text.lower()
        texts = [Fragment(f"contains(lower({name}), ?)", (needle,)) for name in _TEXTS]
        ids = [Fragment(f"{name} = ?", (request.text,)) for name in _IDS]
        parts.append(placed("coalesce({}, false)", joined([*ids, *texts], " OR ")))
    return placed(
        "SELECT epoch_us(occurred_at) AS at_, event_id FROM ({}) AS r WHERE {} "
        f"ORDER BY occurred_at DESC, event_id DESC LIMIT {request.limit + 1}",
        rows,
        joined(parts, " AND "),
    )


def events_by_key(rows: Fragment, keys: Sequence[Place]) -> Fragment:
    """SELECT of the whole events at the keys' instants with the keys' ids, newest first."""
    marks = ", ".join("?" * len(keys))
    instants = [place.occurred_us for place in keys]
    return placed(
        f"SELECT {event_columns()} FROM ({{}}) AS r WHERE {{}} AND event_id IN ({marks}) "
        "ORDER BY occurred_at DESC, event_id DESC",
        rows,
        inside(Range(min(instants), max(instants) + 1)),
        bound(*(place.event_id for place in keys)),
    )


def inside(span: Range) -> Fragment:
    """Condition: the event occurred in the range."""
    return Fragment(
        "occurred_at >= make_timestamptz(?::BIGINT) AND occurred_at < make_timestamptz(?::BIGINT)",
        (span.from_us, span.to_us),
    )


def event_columns() -> str:
    """Columns of an answered event; instants as microseconds."""
    instants = ("occurred_at", "received_at")
    return ", ".join(f"epoch_us({name}) AS {name}" if name in instants else name for name in EVENT_COLUMNS)


def event_json(row: dict[str, Any]) -> dict[str, Any]:
    """An event as people sent it: RFC 3339, attributes and payload as JSON, fields without value left out."""
    told = {name: value for name, value in row.items() if value is not None}
    for name in ("occurred_at", "received_at"):
        if name in told:
            told[name] = format_instant(told[name])
    for name in _TEXTS:
        if name in told:
            told[name] = as_json(told[name])
    return told


def as_json(text: str) -> Any:
    """JSON text as itself, digit for digit; text that is no JSON as a string."""
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return msgspec.Raw(text.encode())
