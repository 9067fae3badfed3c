"""Questions about measures, read from the names and texts people send: a timeseries, an aggregate, and their parts."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Final, Literal

from cluster.errors import RequestInvalid
from models.measures import MEASURES, measure
from models.query.calendar import Buckets, buckets, parse_zone
from models.query.expression import CALCULATIONS_MAX, Calculation, parse_calculation
from models.query.fields import Field, field, near
from models.query.filters import Filter, parse_filters
from models.query.pages import FIRST_PAGE, Page, parse_page
from models.query.parameters import Parameters, chosen, collect, one
from models.query.times import Range, parse_granularity, parse_range, parse_span

Fill = Literal["none", "zero", "null", "previous"]

MEASURES_MAX: Final = 24
GROUP_BY_MAX: Final = 5
DEFAULT_FROM: Final = "-24h"

_SHARED: Final = ("measure", "calculate", "from", "to", "group_by", "filter")
_OWN: Final[dict[str, tuple[str, ...]]] = {
    "timeseries": ("granularity", "fill", "time_zone"),
    "aggregate": ("having", "order", "limit", "cursor", "compare"),
}
REPEATED: Final = frozenset({"measure", "calculate", "group_by", "filter", "having", "order"})
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


@dataclass(frozen=True, slots=True)
class Asked:
    """The measures of a question: those to be told, and those only calculated from.

    Attributes:
        measures: names in `models.measures`, each once, the hidden ones last.
        hidden: how many of them nobody asked to be told.
    """

    measures: tuple[str, ...]
    calculations: tuple[Calculation, ...] = ()
    hidden: int = 0

    @property
    def told(self) -> tuple[str, ...]:
        """Names of the values in an answer, in its order."""
        named = self.measures[: len(self.measures) - self.hidden]
        return (*named, *(one.name for one in self.calculations))


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsRequest:
    """A question about measures, checked: every name in it exists.

    Attributes:
        measures, calculations, hidden: see `Asked`.
        step_us: bucket length; 0 for one value over the whole range.
        zone: time zone whose days the buckets are; empty for UTC.
        compare_us: how much earlier the range lies that `previous` is taken from; 0 for none.
    """

    kind: str
    measures: tuple[str, ...]
    span: Range
    calculations: tuple[Calculation, ...] = ()
    hidden: int = 0
    group_by: tuple[Field, ...] = ()
    filters: tuple[Filter, ...] = ()
    step_us: int = 0
    zone: str = ""
    fill: Fill = "none"
    having: tuple[Having, ...] = ()
    order: tuple[Order, ...] = ()
    page: Page = FIRST_PAGE
    compare_us: int = 0

    @property
    def told(self) -> tuple[str, ...]:
        """Names of the values in the answer, in its order."""
        return Asked(self.measures, self.calculations, self.hidden).told

    def unit(self, name: str) -> str:
        """Unit of a told value."""
        units = {one.name: one.unit for one in self.calculations}
        return units[name] if name in units else MEASURES[name].unit

    @property
    def buckets(self) -> Buckets:
        """Buckets of the range; `step_us` is set."""
        return buckets(self.span, self.step_us, self.zone)

    @property
    def grid_us(self) -> int:
        """The longest window, counted from 1970 UTC, of which every bucket is made; 0 without buckets."""
        return self.buckets.grid_us if self.step_us else 0


def parse_metrics(kind: str, parameters: Parameters, *, now_us: int) -> MetricsRequest:
    """The timeseries or aggregate that (name, text) pairs ask for.

    Args:
        parameters: as in a query string; `measure`, `calculate`, `group_by`, `filter`, `having` and `order` may repeat.
        now_us: what relative times stand on.

    Raises:
        RequestInvalid: an unknown or repeated parameter, or a text that does not fit it; near names are in the hint.
    """
    given = collect(parameters, known=(*_SHARED, *_OWN[kind]), repeated=REPEATED)
    asked = parse_measures(given)
    plain = subject(kind, given, asked, now_us=now_us)
    if kind == "timeseries":
        step_us, zone = parse_buckets(given, plain.span)
        fill: Fill = chosen(given, "fill", _FILLS)  # type: ignore[assignment]
        return replace(plain, step_us=step_us, zone=zone, fill=fill)
    return replace(
        plain,
        having=tuple(_having(text, asked.told) for text in given["having"]),
        order=tuple(_order(text, (*asked.told, *(one.name for one in plain.group_by))) for text in given["order"]),
        page=parse_page(given),
        compare_us=parse_compare(one(given, "compare", ""), plain.span),
    )


def subject(kind: str, given: dict[str, list[str]], asked: Asked, *, now_us: int) -> MetricsRequest:
    """The range, groups and filters that every question about measures has.

    Args:
        given: with `from`, `to`, `group_by` and `filter`.
    """
    return MetricsRequest(
        kind=kind,
        measures=asked.measures,
        calculations=asked.calculations,
        hidden=asked.hidden,
        span=parse_range(one(given, "from", DEFAULT_FROM), one(given, "to", "now"), now_us=now_us),
        group_by=parse_group_by(given["group_by"]),
        filters=parse_filters(given["filter"]),
    )


def parse_buckets(given: dict[str, list[str]], span: Range) -> tuple[int, str]:
    """Length of a bucket in microseconds and time zone that `granularity` and `time_zone` ask for."""
    zone = one(given, "time_zone", "")
    text = one(given, "granularity", "auto" if zone in ("", "UTC") else "1d")
    step_us = parse_granularity(text, span)
    return step_us, parse_zone(zone, step_us)


def parse_measures(given: dict[str, list[str]]) -> Asked:
    """The measures that `measure` and `calculate` name; `measure` may be a calculation too.

    Raises:
        RequestInvalid: none, too many, or one that is not known.
    """
    names = [text for text in dict.fromkeys(given["measure"]) if "=" not in text]
    texts = [text for text in given["measure"] if "=" in text] + given["calculate"]
    if not names and not texts:
        raise RequestInvalid("no measure was asked for", hint="Add measure=request_count; /api/v1/catalog lists all.")
    if len(names) > MEASURES_MAX or len(texts) > CALCULATIONS_MAX:
        raise RequestInvalid(
            f"{len(names)} measures and {len(texts)} calculations are over the limits of {MEASURES_MAX} and "
            f"{CALCULATIONS_MAX}",
            hint="Ask two questions.",
        )
    for name in names:
        check_measure(name)
    calculations = tuple(parse_calculation(text) for text in texts)
    if len({one.name for one in calculations}) < len(calculations):
        raise RequestInvalid("two calculations have the same name", hint="Give each a name of its own.")
    used = dict.fromkeys(name for one in calculations for name in one.measures)
    hidden = [name for name in used if name not in names]
    return Asked((*names, *hidden), calculations, len(hidden))


def check_measure(name: str, *, role: str = "measure") -> str:
    """The name itself.

    Raises:
        RequestInvalid: no measure has it; the hint lists the near ones.
    """
    if measure(name[:80]) is None or len(name) > len(name[:80]):
        raise RequestInvalid(f"{role} {name[:80]!r} is not known", hint=near(name, MEASURES))
    return name


def parse_group_by(texts: list[str]) -> tuple[Field, ...]:
    """The fields that rows are grouped by.

    Raises:
        RequestInvalid: too many, or one that is not known or does not group.
    """
    names = tuple(dict.fromkeys(texts))
    if len(names) > GROUP_BY_MAX:
        raise RequestInvalid(
            f"group_by names {len(names)} fields, over the limit of {GROUP_BY_MAX}", hint="Ask in several questions."
        )
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


def parse_compare(text: str, span: Range, *, name: str = "compare") -> int:
    """How much earlier the compared range lies, in microseconds; 0 for an empty text.

    Raises:
        RequestInvalid: neither `previous` nor a time back, or one before 1970.
    """
    if not text:
        return 0
    shift = span.length_us if text == "previous" else parse_span(text)
    if shift is None or not 0 < shift <= span.from_us:
        raise RequestInvalid(f"{name}={text[:40]!r} cannot be read", hint="Use previous, or a time back such as -7d.")
    return shift
