"""One JSON value -> what a field holds. For rows that do not have the exact types; the others never come here."""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from cluster.contract.columns import TEXT_FIELDS, TOKEN_FIELDS
from cluster.contract.rows import RowRefused, shown

NUMBER_FIELDS: Final = ("latency_ms", "ttft_ms")
DOCUMENT_FIELDS: Final = ("attributes", "payload")
# Every field a row may have at its top level, in the order decoders build columns.
ROW_FIELDS: Final = (
    "event_id",
    "tenant_id",
    *TEXT_FIELDS,
    "occurred_at",
    *NUMBER_FIELDS,
    *TOKEN_FIELDS,
    "cost_usd",
    *DOCUMENT_FIELDS,
)
_TOKENS: Final = frozenset(TOKEN_FIELDS)
_NUMBERS: Final = frozenset(NUMBER_FIELDS)
_DOCUMENTS: Final = frozenset(DOCUMENT_FIELDS)
_INT64_MAX: Final = 2**63 - 1


def coerce(name: str, raw: bytes) -> Any:
    """The value of field `name` from JSON text: text fields take numbers and booleans, numbers take numeric text.

    Raises:
        RowRefused: the value cannot be what the field holds.
    """
    if name in _DOCUMENTS:
        return msgspec.Raw(raw)
    if raw == b"null":
        return msgspec.Raw(b"") if name == "cost_usd" else None
    if name == "cost_usd":
        return msgspec.Raw(raw.strip(b'"'))
    value = _parse(name, raw)
    if isinstance(value, dict | list):
        raise RowRefused("field_type", f"{name} is an {'object' if raw[:1] == b'{' else 'array'}; send a single value")
    if name in _TOKENS:
        return whole_number(name, value)
    if name in _NUMBERS:
        return number(name, value)
    if name == "occurred_at":
        return None if isinstance(value, bool) else value
    return value if isinstance(value, str) else raw.decode()


def whole_number(name: str, value: Any) -> int | None:
    """Tokens: integers, floats without a fraction, and texts of either.

    Raises:
        RowRefused: anything else, or beyond 64 bits.
    """
    if isinstance(value, str):
        value = number_of_text(value)
        if value is None:
            raise RowRefused("tokens_invalid", f"{name} is not a number; send a whole number or leave it out")
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _INT64_MAX:
        raise RowRefused("tokens_invalid", f"{name} is {shown(value)}; send a whole number or leave it out")
    return value


def number(name: str, value: Any) -> float:
    """Durations: finite numbers and texts of such.

    Raises:
        RowRefused: anything else.
    """
    sent = value
    if isinstance(value, str):
        value = number_of_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RowRefused("number_invalid", f"{name} is {shown(sent)}; send milliseconds as a number")
    try:
        return float(value)
    except OverflowError:
        raise RowRefused("number_invalid", f"{name} is {shown(sent)}; send milliseconds as a number") from None


def _parse(name: str, raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RowRefused("json_invalid", f"{name}: {error}") from None


def number_of_text(text: str) -> int | float | None:
    """The number that a text of at most 64 characters writes, an integer where it can; None where it is none."""
    if len(text) > 64 or "_" in text:
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return None
