"""What may be asked about measures: a timeseries or an aggregate, read from the names and texts people send."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal

from cluster.errors import RequestInvalid
from models.measures import MEASURES
from models.query.fields import Field, field, near
from models.query.filters import Filter, parse_filters
from models.query.times import Range, parse_granularity, parse_range, parse_span

Kind = Literal["timeseries", "aggregate"]
Fill = Literal["none", "zero", "null", "previous"]
Parameters = Sequence[tuple[str, str]]

MEASURES_MAX: Final = 24
GROUP_BY_MAX: Final = 5
ROWS_MAX: Final = 10_000
DEFAULT_LIMIT: Final = 1_000
DEFAULT_FROM: Final = "-24h"

_SHARED: Final = ("measure", "from", "to", "group_by", "filter")
_OWN: Final[dict[str, tuple[str, ...]]] = {
    "timeseries": ("granularity", "fill"),
    "aggregate": ("having", "order", "limit", "compare"),
}
_REPEATED: Final = frozenset({"measure", "group_by", "filter", "having", "order"})
_FILLS: Final = ("none", "zero", "null", "previous")
_COMPARISON: Final = re.compile(r"(eq|ne|gt|ge|lt|le):(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Having:
    """Keeps the groups whose measure compares so with `value`; a null value never does."""

    measure: str
    operator: str
    value: Decimal


@dataclass(frozen=True, slots=True)
class Order:
    """`name` is a requested measure or a dimension of `group_by`."""

    name: str
    descending: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsRequest:
    """A question about measures, checked: every name in it exists.

    Attributes:
        step_us: bucket length; 0 for an aggregate.
        compare_us: how much earlier the range lies that `previous` is taken from; 0 for none.
    """

    kind: Kind
    measures: tuple[str, ...]
    span: Range
    group_by: tuple[Field, ...] = ()
    filters: tuple[Filter, ...] = ()
    step_us: int = 0
    fill: Fill = "none"
    having: tuple[Having, ...] = ()
    order: tuple[Order, ...] = ()
    limit: int = DEFAULT_LIMIT
    compare_us: int = 0


def parse_metrics(kind: str, parameters: Parameters, *, now_us: int) -> MetricsRequest:
    """The question that (name, text) pairs ask.

    Args:
        parameters: as in a query string; `measure`, `group_by`, `filter`, `having` and `order` may repeat.
        now_us: what relative times stand on.

    Raises:
        RequestInvalid: an unknown or repeated parameter, or a text that does not fit it; near names are in the hint.
    """
    if kind not in _OWN:
        raise RequestInvalid(f"kind {kind[:40]!r} is not answered yet", hint=near(kind, _OWN))
    given = collect(parameters, known=(*_SHARED, *_OWN[kind]), repeated=_REPEATED)
    measures = _measures(given["measure"])
    span = parse_range(one(given, "from", DEFAULT_FROM), one(given, "to", "now"), now_us=now_us)
    fields = _group_by(given["group_by"])
    filters = parse_filters(given["filter"])
    if kind == "timeseries":
        fill = one(given, "fill", "none")
        if fill not in _FILLS:
            raise RequestInvalid(f"fill={fill[:40]!r} is not one", hint=f"Use one of {', '.join(_FILLS)}.")
        return MetricsRequest(
            kind="timeseries",
            measures=measures,
            span=span,
            group_by=fields,
            filters=filters,
            step_us=parse_granularity(one(given, "granularity", "auto"), span),
            fill=fill,  # type: ignore[arg-type]
        )
    return MetricsRequest(
        kind="aggregate",
        measures=measures,
        span=span,
        group_by=fields,
        filters=filters,
        having=tuple(_having(text, measures) for text in given["having"]),
        order=tuple(_order(text, (*measures, *(one.name for one in fields))) for text in given["order"]),
        limit=parse_limit(one(given, "limit", str(DEFAULT_LIMIT)), most=ROWS_MAX),
        compare_us=_compare(one(given, "compare", ""), span),
    )


def collect(parameters: Parameters, *, known: Iterable[str], repeated: frozenset[str]) -> dict[str, list[str]]:
    """Texts of each known parameter, [] where it was not sent.

    Raises:
        RequestInvalid: a parameter that is not known, or one sent twice that may be sent once.
    """
    given: dict[str, list[str]] = {name: [] for name in known}
    for name, text in parameters:
        if name not in given:
            raise RequestInvalid(f"parameter {name[:80]!r} is not known here", hint=near(name, given))
        if given[name] and name not in repeated:
            raise RequestInvalid(f"parameter {name!r} was sent twice", hint=f"{name} takes one value.")
        given[name].append(text)
    return given


def one(given: dict[str, list[str]], name: str, default: str) -> str:
    """The text of a parameter that may be sent once."""
    return given[name][0] if given[name] else default


def parse_limit(text: str, *, most: int) -> int:
    """A row limit in 1..most.

    Raises:
        RequestInvalid: not a whole number in that range.
    """
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= most:
        raise RequestInvalid(f"limit={text[:40]!r} is not a whole number from 1 to {most}")
    return int(text)


def _measures(texts: list[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(texts))
    if not names:
        raise RequestInvalid("no measure was asked for", hint="Add measure=request_count; /api/v1/catalog lists all.")
    if len(names) > MEASURES_MAX:
        raise RequestInvalid(f"{len(names)} measures are over the limit of {MEASURES_MAX}")
    for name in names:
        if name not in MEASURES:
            raise RequestInvalid(f"measure {name[:80]!r} is not known", hint=near(name, MEASURES))
    return names


def _group_by(texts: list[str]) -> tuple[Field, ...]:
    names = tuple(dict.fromkeys(texts))
    if len(names) > GROUP_BY_MAX:
        raise RequestInvalid(f"group_by names {len(names)} fields, over the limit of {GROUP_BY_MAX}")
    fields = tuple(field(name, role="group_by") for name in names)
    for found in fields:
        if not found.groups:
            raise RequestInvalid(
                f"rows cannot be grouped by {found.name}",
                hint="/api/v1/catalog lists the dimensions; ids are for search.",
            )
    return fields


def _having(text: str, measures: tuple[str, ...]) -> Having:
    name, _, rest = text.partition(":")
    if name not in measures:
        raise RequestInvalid(f"having {name[:80]!r} is not an asked measure", hint=near(name, measures))
    found = _COMPARISON.fullmatch(rest)
    try:
        value = Decimal(found[2]) if found and len(found[2]) <= 40 else None
    except InvalidOperation:
        value = None
    if found is None or value is None or not value.is_finite():
        raise RequestInvalid(f"having {text[:80]!r} cannot be read", hint=f"Write {name}:gt:10 (eq ne gt ge lt le).")
    return Having(name, found[1], value)


def _order(text: str, names: tuple[str, ...]) -> Order:
    """`name`, `-name`, `name:asc` or `name:desc`; a bare name is ascending."""
    name, colon, way = text.partition(":")
    descending = name.startswith("-") or way == "desc"
    name = name.removeprefix("-")
    if name not in names or (colon and way not in ("asc", "desc")):
        raise RequestInvalid(
            f"order {text[:80]!r} cannot be read", hint=f"Write -NAME or NAME:desc. {near(name, names)}"
        )
    return Order(name, descending)


def _compare(text: str, span: Range) -> int:
    if not text:
        return 0
    shift = span.length_us if text == "previous" else parse_span(text)
    if shift is None or not 0 < shift <= span.from_us:
        raise RequestInvalid(f"compare={text[:40]!r} cannot be read", hint="Use previous, or a time back such as -7d.")
    return shift


def parse_body(body: Any) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Kind and (name, text) pairs of a question sent as a JSON object: the same names, lists where they repeat.

    Raises:
        RequestInvalid: not an object with a `kind`, or a value that is not a text, a number or a list of them.
    """
    if not isinstance(body, dict) or not isinstance(body.get("kind"), str):
        raise RequestInvalid("a question is a JSON object with a kind", hint='{"kind": "aggregate", "measure": [...]}')
    pairs: list[tuple[str, str]] = []
    for name, value in body.items():
        if name == "kind" or value is None:
            continue
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, bool) or not isinstance(entry, str | int | float):
                raise RequestInvalid(f"parameter {str(name)[:80]!r} is neither a text, a number nor a list of them")
            pairs.append((str(name), str(entry)))
    return body["kind"], tuple(pairs)
