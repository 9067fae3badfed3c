"""The fields a question may name: what kind of value each holds, which tables have it, and how SQL reaches it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from cluster.contract.columns import ROLLUP_DIMENSIONS, TOKEN_FIELDS
from cluster.errors import RequestInvalid
from models.query.sql import Fragment

Type = Literal["text", "number", "boolean"]

ATTRIBUTE_PREFIX: Final = "attributes."
_ATTRIBUTE_LENGTH_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an event.

    Attributes:
        in_rollups: the minute roll-ups keep it, so a question about it needs no raw rows.
        groups: rows may be grouped by it.
    """

    name: str
    type: Type = "text"
    in_rollups: bool = False
    groups: bool = False

    @property
    def sql(self) -> Fragment:
        """Expression of the field's value over a row; an attribute is text, whatever it was sent as."""
        if not self.name.startswith(ATTRIBUTE_PREFIX):
            return Fragment(self.name)
        name = self.name[len(ATTRIBUTE_PREFIX) :]
        flat = Fragment("json_extract_string(attributes, ?)", (_pointer((name,)),))
        if "." not in name:
            return flat
        # Dialects write dotted names flat ("gen_ai.system"), people nest them; the flat one wins.
        nested = _pointer(tuple(name.split(".")))
        return Fragment(f"coalesce({flat.text}, json_extract_string(attributes, ?))", (*flat.parameters, nested))


_DIMENSIONS: Final = ("tenant_id", *ROLLUP_DIMENSIONS)
_EVENT_DIMENSIONS: Final = ("user_id", "session_id", "cache_status", "guardrail_action", "price_version")
_IDS: Final = ("event_id", "trace_id", "span_id", "parent_span_id", "correlation_id", "causation_id", "request_id")
_NUMBERS: Final = ("latency_ms", "ttft_ms", *TOKEN_FIELDS, "cost_usd", "cost_usd_computed")

FIELDS: Final[dict[str, Field]] = {
    **{name: Field(name, in_rollups=True, groups=True) for name in _DIMENSIONS},
    **{name: Field(name, groups=True) for name in _EVENT_DIMENSIONS},
    **{name: Field(name) for name in (*_IDS, "schema_version")},
    **{name: Field(name, "number") for name in _NUMBERS},
    **{name: Field(name, "boolean") for name in ("usage_conflict", "cost_is_sent")},
}
DIMENSIONS: Final = (*_DIMENSIONS, *_EVENT_DIMENSIONS)


def field(name: str, *, role: str) -> Field:
    """The field of that name.

    Args:
        role: the parameter that named it, for the message.

    Raises:
        RequestInvalid: no field of that name; the hint lists the near ones.
    """
    if name in FIELDS:
        return FIELDS[name]
    if name.startswith(ATTRIBUTE_PREFIX):
        key = name[len(ATTRIBUTE_PREFIX) :]
        if 0 < len(key) <= _ATTRIBUTE_LENGTH_MAX and "\x00" not in key:
            return Field(name, groups=True)
        raise RequestInvalid(
            f"{role}: an attribute's name has 1 to {_ATTRIBUTE_LENGTH_MAX} characters", hint="Write attributes.team."
        )
    raise RequestInvalid(f"{role} {name[:80]!r} is not a field", hint=near(name, (*FIELDS, "attributes.NAME")))


def near(name: str, known: Iterable[str], *, most: int = 60) -> str:
    """A hint that names what may have been meant, or what there is, up to `most` names, when nothing is near."""
    names = list(known)
    close = difflib.get_close_matches(name[:80].lower(), names, n=4, cutoff=0.5)
    if not close:
        close = [text for text in names if name and (name[:80].lower() in text)][:4]
    if close:
        return f"Did you mean {' or '.join(close)}?"
    more = " …" if len(names) > most else "."
    return f"Known: {', '.join(names[:most])}{more}"


def _pointer(steps: tuple[str, ...]) -> str:
    # A JSON pointer rather than a path: every name can be written in it, quotes and brackets included.
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)
