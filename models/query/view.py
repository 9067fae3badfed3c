"""What a board is looked at through, as values that statements may name: `$from`, `$to`, and `$FIELD` for a choice."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cluster.errors import RequestInvalid
from models.query.fields import ATTRIBUTE_PREFIX, FIELDS, field, near
from models.query.times import parse_range

View = dict[str, datetime | str]

_MEMBERS: Final = ("from", "to", "where")
_CHOICES_MAX: Final = 32
_NO_IDENTIFIER: Final = re.compile(r"[^A-Za-z0-9_]")
_ATTRIBUTE: Final = _NO_IDENTIFIER.sub("_", ATTRIBUTE_PREFIX)
_HINT: Final = 'Send {"from": "-24h", "to": "now", "where": {"model": "m-1"}}.'
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_view(value: Any, *, now_us: int) -> View:
    """The values by the names that a statement knows them by: ends of the range as instants, choices as texts.

    Args:
        value: an object of `from`, `to` (`now`) and `where`, field -> the one value chosen.
    Raises:
        RequestInvalid: it is something else; the message names the member.
    """
    if not isinstance(value, dict):
        raise RequestInvalid("view is not an object", hint=_HINT)
    for name in value:
        if name not in _MEMBERS:
            raise RequestInvalid(f"view.{name[:80]!r} is not known here", hint=near(name, _MEMBERS))
    start, end, where = value.get("from"), value.get("to", "now"), value.get("where", {})
    if not isinstance(start, str) or not isinstance(end, str):
        raise RequestInvalid("view.from or view.to is not a time", hint=_HINT)
    if not isinstance(where, dict) or len(where) > _CHOICES_MAX:
        raise RequestInvalid(f"view.where is not an object of at most {_CHOICES_MAX} choices", hint=_HINT)
    span = parse_range(start, end, now_us=now_us)
    view: View = {"from": _instant(span.from_us), "to": _instant(span.to_us)}
    for name, chosen in where.items():
        if not isinstance(chosen, str):
            raise RequestInvalid(f"view.where.{name[:80]!r} is not a text", hint=_HINT)
        view[parameter_of(field(name, role="view.where").name)] = chosen
    return view


def parameter_of(name: str) -> str:
    """The name of a field in a statement, without its `$`: `attributes.team` is `attributes_team`; of ASCII alone."""
    return _NO_IDENTIFIER.sub("_", name)


def bound(
    names: Iterable[str], parameters: list[Any] | dict[str, Any], view: Mapping[str, Any] | None
) -> list[Any] | dict[str, Any]:
    """A value for each parameter that a statement names.

    What was sent goes first, then the view's; a field that nothing was chosen for is null. Of a view, a statement is
    given what it names and nothing else.

    Args:
        names: of the parameters of the statement, without `$`.
        parameters: what was sent; a list for `?`.
        view: None where the statement does not stand on a board.
    Raises:
        RequestInvalid: the statement names what is neither sent, nor of the view, nor a field.
    """
    if view is None or (isinstance(parameters, list) and parameters):
        return parameters
    values = dict(parameters) if isinstance(parameters, dict) else {}
    for name in sorted(set(names) - values.keys()):
        if name not in view and name not in FIELDS and not name.startswith(_ATTRIBUTE):
            raise RequestInvalid(f"the statement names ${name[:80]}, which has no value", hint=_known(name))
        values[name] = view.get(name)
    return values


def _known(name: str) -> str:
    return f"{near(name, ('from', 'to', *FIELDS))} Fields are null where nothing is chosen."


def _instant(at_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at_us)
