"""Filters: `field:op:value` in, one SQL condition with bound values out."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from cluster.errors import RequestInvalid
from models.query.fields import ATTRIBUTE_PREFIX, Field, field
from models.query.sql import Fragment, joined

FILTERS_MAX: Final = 32
VALUES_MAX: Final = 200
VALUE_LENGTH_MAX: Final = 1_000

_COMPARISONS: Final = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_TEXT_ONLY: Final = {"contains": "contains", "prefix": "starts_with"}
# Doubles count exactly up to here.
_NUMBER_MAX: Final = Decimal(10) ** 15
OPERATORS: Final = ("eq", "ne", "in", "nin", *_COMPARISONS, *_TEXT_ONLY, "exists")


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition. `values` has one entry except for `in` and `nin`; text, Decimal or bool as the field's type."""

    field: Field
    operator: str
    values: tuple[Any, ...]


def parse_filters(texts: list[str]) -> tuple[Filter, ...]:
    """Conditions that must all hold.

    Raises:
        RequestInvalid: too many, an unknown field, or an operator or value that does not fit the field.
    """
    if len(texts) > FILTERS_MAX:
        raise RequestInvalid(
            f"{len(texts)} filters are over the limit of {FILTERS_MAX}", hint="Put values together: field:in:a,b,c."
        )
    return tuple(parse_filter(text) for text in texts)


def parse_filter(text: str) -> Filter:
    """`field:op:value`, or `field:value` for equals; `in` and `nin` take values with commas, `\\,` is a comma.

    Raises:
        RequestInvalid: see `parse_filters`.
    """
    name, colon, rest = text.partition(":")
    if not colon:
        raise RequestInvalid(f"filter {text[:80]!r} has no value", hint="Write field:value or field:op:value.")
    target = field(name, role="filter")
    operator, colon, value = rest.partition(":")
    if not colon or operator not in OPERATORS:
        operator, value = "eq", rest
    if operator == "exists":
        return Filter(target, operator, (_boolean(target, value or "true"),))
    if operator in _TEXT_ONLY and target.type != "text":
        raise RequestInvalid(f"filter on {target.name}: {operator} needs text", hint="Use eq, gt, ge, lt or le.")
    is_attribute = target.name.startswith(ATTRIBUTE_PREFIX)
    if operator in _COMPARISONS:
        if target.type != "number" and not is_attribute:
            raise RequestInvalid(f"filter on {target.name}: {operator} needs a number", hint="Use eq, in or prefix.")
        return Filter(target, operator, (_number(target, value),))
    written = _split(value) if operator in ("in", "nin") else [value]
    if len(written) > VALUES_MAX:
        raise RequestInvalid(
            f"filter on {target.name} names {len(written)} values, over {VALUES_MAX}", hint="Ask in several questions."
        )
    return Filter(target, operator, tuple(_value(target, one) for one in written))


def condition(one: Filter) -> Fragment:
    """SQL that is true for the rows to keep, never null; `ne` and `nin` keep rows without the field."""
    left = one.field.sql
    if one.operator == "exists":
        return Fragment(f"{left.text} IS {'NOT ' if one.values[0] else ''}NULL", left.parameters)
    marks = Fragment(", ".join("?" * len(one.values)), one.values)
    if one.operator in _COMPARISONS:
        text = left.text if one.field.type == "number" else f"TRY_CAST({left.text} AS DOUBLE)"
        return Fragment(f"{text} {_COMPARISONS[one.operator]} ?", (*left.parameters, *one.values))
    if one.operator in _TEXT_ONLY:
        return Fragment(f"{_TEXT_ONLY[one.operator]}({left.text}, ?)", (*left.parameters, *one.values))
    if one.operator == "eq":
        return Fragment(f"{left.text} = ?", (*left.parameters, *one.values))
    if one.operator == "ne":
        return Fragment(f"{left.text} IS DISTINCT FROM ?", (*left.parameters, *one.values))
    inside = Fragment(f"{left.text} IN ({marks.text})", (*left.parameters, *marks.parameters))
    if one.operator == "in":
        return inside
    return Fragment(f"NOT coalesce({inside.text}, false)", inside.parameters)


def passes(one: Filter, value: str | None) -> bool:
    """What `condition` says of a row whose field, a text one, has this value."""
    if one.operator == "exists":
        return (value is not None) is one.values[0]
    if one.operator in ("ne", "nin"):
        return value not in one.values
    if value is None:
        return False
    if one.operator == "prefix":
        return value.startswith(str(one.values[0]))
    if one.operator == "contains":
        return one.values[0] in value
    return value in one.values


def conditions(filters: tuple[Filter, ...]) -> Fragment:
    """All of them, joined by AND; `true` when there is none."""
    return joined((condition(one) for one in filters), " AND ") if filters else Fragment("true")


def _value(target: Field, text: str) -> Any:
    if target.type == "number":
        return _number(target, text)
    if target.type == "boolean":
        return _boolean(target, text)
    if len(text) > VALUE_LENGTH_MAX:
        raise RequestInvalid(
            f"filter on {target.name}: the value is over {VALUE_LENGTH_MAX} characters", hint="Use prefix or contains."
        )
    return text


def _number(target: Field, text: str) -> Decimal | float:
    try:
        value = Decimal(text) if len(text) <= 40 else None
    except InvalidOperation:
        value = None
    if value is None or not value.is_finite() or abs(value) > _NUMBER_MAX:
        raise RequestInvalid(
            f"filter on {target.name}: {text[:40]!r} is not a number", hint=f"Up to {_NUMBER_MAX:.0e}."
        )
    if target.name not in ("cost_usd", "cost_usd_computed"):
        return float(value)
    if value != round(value, 9):
        raise RequestInvalid(
            f"filter on {target.name}: {text[:40]!r} is finer than a nano-dollar", hint="Use 9 decimals."
        )
    return Decimal(f"{value:.9f}")


def _boolean(target: Field, text: str) -> bool:
    if text not in ("true", "false"):
        raise RequestInvalid(
            f"filter on {target.name}: {text[:40]!r} is neither true nor false", hint="Write true or false."
        )
    return text == "true"


def _split(text: str) -> list[str]:
    values, current, escaped = [], "", False
    for letter in text:
        if escaped:
            current, escaped = current + letter, False
        elif letter == "\\":
            escaped = True
        elif letter == ",":
            values.append(current)
            current = ""
        else:
            current += letter
    return [*values, current]
