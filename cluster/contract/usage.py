"""Usage and cost objects of providers and products -> the contract's columns: inclusive token totals, dollars as text.

An object is inclusive where its details are parts of its totals (OpenAI, LiteLLM), exclusive where every member counts
for itself (Langfuse, Anthropic). Names are data: to know one more, add it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Context, Decimal
from typing import Any, Final

import msgspec

from cluster.contract.coerce import number_of_text

Usage = Mapping[str, Any]


class NumberText(str):
    """A JSON number with a point or an exponent, as its sender wrote it: money must not pass through a float."""

    __slots__ = ()


JSON_VALUE: Final = msgspec.json.Decoder(float_hook=NumberText)

# Column -> places in an inclusive object, a dot for each level; the first that holds a number is taken.
INCLUSIVE: Final[dict[str, tuple[str, ...]]] = {
    "input_tokens": ("prompt_tokens", "input_tokens", "promptTokens", "inputTokens", "input"),
    "output_tokens": ("completion_tokens", "output_tokens", "completionTokens", "outputTokens", "output"),
    "cache_read_tokens": (
        "prompt_tokens_details.cached_tokens",
        "input_tokens_details.cached_tokens",
        "input_token_details.cache_read",
        "cache_read_input_tokens",
        "cached_tokens",
    ),
    "cache_write_tokens": (
        "prompt_tokens_details.cache_creation_tokens",
        "prompt_tokens_details.cache_write_tokens",
        "input_token_details.cache_creation",
        "cache_creation_input_tokens",
    ),
    "reasoning_tokens": (
        "completion_tokens_details.reasoning_tokens",
        "output_tokens_details.reasoning_tokens",
        "output_token_details.reasoning",
        "reasoning_tokens",
    ),
}
_DETAILS: Final = frozenset(place.split(".", 1)[0] for places in INCLUSIVE.values() for place in places if "." in place)

# Words in the name of an exclusive bucket -> the total it is part of; the first that fits.
_TOTAL_OF: Final = (
    *(("output", "output_tokens"), ("completion", "output_tokens"), ("reasoning", "output_tokens")),
    *(("input", "input_tokens"), ("prompt", "input_tokens"), ("cache", "input_tokens")),
)
# Words in the name of an exclusive bucket -> the column it has beside its total; all words must be in it.
_PART_OF: Final = (
    (("reasoning",), "reasoning_tokens"),
    (("cache", "creation"), "cache_write_tokens"),
    (("cache", "write"), "cache_write_tokens"),
    (("cache",), "cache_read_tokens"),
)

_AMOUNT_TEXT_MAX: Final = 64
# Digits enough for the sum of any amounts that are dollars; the others are out of range anyway.
_EXACT: Final = Context(prec=2 * _AMOUNT_TEXT_MAX, traps=[])


def inclusive_tokens(usage: Usage) -> dict[str, int]:
    """Token columns of an object whose details are parts of its totals."""
    found: dict[str, int] = {}
    for column, places in INCLUSIVE.items():
        for place in places:
            count = whole(_at(usage, place))
            if count is not None:
                found[column] = count
                break
    return found


def exclusive_tokens(usage: Usage) -> dict[str, Any]:
    """Token columns of an object whose members each count for themselves, as Langfuse's `usageDetails`.

    An object with OpenAI's nested details is inclusive whatever it was sent as. Where the members exceed the
    object's own `total`, `usage_conflict` is True: what was meant cannot be known.
    """
    if not _DETAILS.isdisjoint(usage):
        return dict(inclusive_tokens(usage))
    found: dict[str, Any] = {}
    for name, value in usage.items():
        count = whole(value)
        total = _total_of(name.lower())
        if count is None or total is None:
            continue
        found[total] = found.get(total, 0) + count
        part = next((column for words, column in _PART_OF if all(word in name.lower() for word in words)), None)
        if part is not None:
            found[part] = found.get(part, 0) + count
    told = whole(usage.get("total"))
    if told is not None and sum(found.get(name, 0) for name in ("input_tokens", "output_tokens")) > told:
        found["usage_conflict"] = True
    return found


def cost_of(costs: Usage) -> str | None:
    """Dollars of an object of costs: its total, else the exact sum of its members."""
    for name in ("total", "total_cost", "totalCost"):
        if (text := number_text(costs.get(name))) is not None:
            return text
    parts = [amount for value in costs.values() if (amount := _amount(value)) is not None]
    if not parts:
        return None
    total = Decimal(0)
    for part in parts:
        total = _EXACT.add(total, part)
    return str(total)


def number_text(value: Any) -> str | None:
    """A number as its sender wrote it; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    return str(value) or None


def whole(value: Any) -> int | None:
    """A count of tokens: integers, floats without a fraction, texts of either; None for anything else."""
    if isinstance(value, str):
        value = number_of_text(value)
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 1 << 63:
        return None
    return value


def json_object(text: Any) -> dict[str, Any]:
    """The object in a text of JSON, or the object itself; empty where it is none."""
    if isinstance(text, str):
        try:
            text = JSON_VALUE.decode(text)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return {}
    return text if isinstance(text, dict) else {}


def _amount(value: Any) -> Decimal | None:
    text = number_text(value)
    if text is None or len(text) > _AMOUNT_TEXT_MAX or "_" in text:
        return None
    amount = _EXACT.create_decimal(text)
    return amount if amount.is_finite() else None


def _total_of(name: str) -> str | None:
    return None if "total" in name else next((column for word, column in _TOTAL_OF if word in name), None)


def _at(usage: Usage, place: str) -> Any:
    value: Any = usage
    for name in place.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
