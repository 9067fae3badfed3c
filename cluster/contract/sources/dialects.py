"""GenAI attributes in every dialect -> the contract's columns. The names are data: dialects.toml, beside this file."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from cluster.contract.columns import TOKEN_FIELDS
from cluster.contract.usage import cost_of, exclusive_tokens, inclusive_tokens, json_object

_TABLES: Final = tomllib.loads(Path(__file__).with_name("dialects.toml").read_text())

VERSION: Final[str] = _TABLES["version"]

# Column -> attribute names of all dialects, in order of trust.
ATTRIBUTES: Final[dict[str, tuple[str, ...]]] = {
    column: tuple(name for name, _ in names) for column, names in _TABLES["names"].items()
}

# Names whose unit is seconds; the column holds milliseconds.
SECONDS: Final = frozenset(_TABLES["units"]["seconds"])

# Names whose texts are written as JSON.
JSON_TEXTS: Final = frozenset(_TABLES["forms"]["json"])

# (attribute, value in lower case) -> operation, where a dialect's word is not already one the hub knows.
OPERATION_VALUES: Final[dict[str, dict[str, str]]] = _TABLES["operations"]

# Not columns but objects that tell of several, see `_spread`.
OBJECTS: Final = ("exclusive_usage", "inclusive_usage", "input_details", "output_details", "costs")

GUARDRAIL_OPERATION: Final = "run_guardrail"
EVALUATION_EVENT: Final = "gen_ai.evaluation.result"

# Attribute -> (column, rank within the column); the table above turned round, so that a span costs one look-up for
# each attribute it has rather than one for each name there is.
_BY_NAME: Final = {name: (column, rank) for column, names in ATTRIBUTES.items() for rank, name in enumerate(names)}
_TEXT: Final = frozenset(ATTRIBUTES) - frozenset(TOKEN_FIELDS) - {"ttft_ms", "cost_usd", *OBJECTS}
_DETAILS_OF: Final = {"input_details": "input_token_details", "output_details": "output_token_details"}


def canonical(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Columns that the attributes tell of: texts, token counts, `ttft_ms`, `cost_usd` as text.

    A value that is no value of its column stays an attribute only. Tokens are inclusive totals, as OpenTelemetry
    means them; attributes marked `usage_semantics=exclusive` (Anthropic raw, Langfuse) are summed up to that.
    """
    values: dict[str, Any] = {}
    for column, name, usual in chosen(attributes):
        value = attributes[name]
        if type(value) is not usual:
            value = converted(column, name, value)
            if value is None:
                continue
        values[column] = value
    if values.pop("usage_semantics", None) == "exclusive":
        make_inclusive(values)
    for name in OBJECTS:
        if name in values:
            _spread(name, json_object(values.pop(name)), values)
    return values


def _spread(name: str, told: Mapping[str, Any], values: dict[str, Any]) -> None:
    """What an object tells, into the columns. Exclusive buckets are complete; the others fill in what is missing."""
    if name == "exclusive_usage":
        values.update(exclusive_tokens(told))
        return
    if name == "costs":
        found: Mapping[str, Any] = {"cost_usd": cost_of(told)} if told else {}
    elif name == "inclusive_usage":
        found = inclusive_tokens(told)
    else:
        found = inclusive_tokens({_DETAILS_OF[name]: told})
    values.update({column: value for column, value in found.items() if values.get(column) is None})


def chosen(names: Iterable[str]) -> tuple[tuple[str, str, type | None], ...]:
    """(column, attribute, type of a value that is taken as it is) of spans with these attributes."""
    return _choice(tuple(filter(_BY_NAME.__contains__, names)))


@lru_cache(maxsize=1024)
def _choice(names: tuple[str, ...]) -> tuple[tuple[str, str, type | None], ...]:
    """`chosen` of known attributes.

    An instrument sends the same names again and again, so the choice among them is made once.
    """
    found: dict[str, tuple[int, str]] = {}
    for name in names:
        column, rank = _BY_NAME[name]
        if column not in found or rank < found[column][0]:
            found[column] = (rank, name)
    chosen = [(column, name) for column, (_, name) in found.items()]
    return tuple((column, name, _usual_type(column, name)) for column, name in chosen)


def _usual_type(column: str, name: str) -> type | None:
    if column in TOKEN_FIELDS:
        return int
    return str if column in _TEXT and name not in OPERATION_VALUES and name not in JSON_TEXTS else None


def make_inclusive(values: dict[str, Any]) -> None:
    """Exclusive buckets to inclusive totals: cache reads and writes into input, reasoning into output."""
    parts = (("input_tokens", ("cache_read_tokens", "cache_write_tokens")), ("output_tokens", ("reasoning_tokens",)))
    for total, names in parts:
        if values.get(total) is not None:
            values[total] += sum(values.get(name) or 0 for name in names)


def converted(column: str, name: str, value: Any) -> Any:
    """A value of an unusual type as its column holds it, None where it is none."""
    if column in OBJECTS:
        return value if isinstance(value, str | dict) else None
    if column in _TEXT:
        if column == "operation" and name in OPERATION_VALUES and isinstance(value, str):
            return OPERATION_VALUES[name].get(value.lower(), value)
        if name in JSON_TEXTS and isinstance(value, str):
            return value.strip('"')
        return value if isinstance(value, str) else None if isinstance(value, list | dict) else str(value)
    if column == "cost_usd":
        # repr of a float is its shortest text: what the instrument's programmer wrote.
        return None if isinstance(value, bool | list | dict) else str(value)
    if isinstance(value, str):
        value = _number(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    if column == "ttft_ms":
        return float(value) * 1000.0 if name in SECONDS else float(value)
    return int(value) if value == int(value) and abs(value) < 2**63 else None


def _number(text: str) -> float | None:
    try:
        return float(text) if len(text) < 32 else None
    except ValueError:
        return None
