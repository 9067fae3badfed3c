"""What people send with a question: (name, text) pairs from a query string, or the same names in a JSON object."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from cluster.errors import RequestInvalid
from models.query.fields import near

Parameters = Sequence[tuple[str, str]]

# Between the conditions of one step of a funnel.
AND: Final = " && "
PAIRS_MAX: Final = 500
# An attribute's name, an operator, 200 values of 1,000 characters and their commas.
TEXT_LENGTH_MAX: Final = 250_000


def collect(parameters: Parameters, *, known: Iterable[str], repeated: frozenset[str]) -> dict[str, list[str]]:
    """Texts of each known parameter, [] where it was not sent.

    Raises:
        RequestInvalid: a parameter that is not known, or one sent twice that may be sent once.
    """
    if len(parameters) > PAIRS_MAX:
        raise RequestInvalid(
            f"{len(parameters)} parameters are over the limit of {PAIRS_MAX}", hint="Ask in several questions."
        )
    given: dict[str, list[str]] = {name: [] for name in known}
    for name, text in parameters:
        if name not in given:
            raise RequestInvalid(f"parameter {name[:80]!r} is not known here", hint=near(name, given))
        if given[name] and name not in repeated:
            raise RequestInvalid(f"parameter {name!r} was sent twice", hint=f"{name} takes one value.")
        if len(text) > TEXT_LENGTH_MAX:
            raise RequestInvalid(
                f"parameter {name!r} is over {TEXT_LENGTH_MAX} characters", hint="Ask in several questions."
            )
        given[name].append(text)
    return given


def one(given: dict[str, list[str]], name: str, default: str) -> str:
    """The text of a parameter that may be sent once."""
    return given[name][0] if given[name] else default


def chosen(given: dict[str, list[str]], name: str, allowed: Sequence[str]) -> str:
    """The text of a parameter that is one of a few words; the first of them where it was not sent.

    Raises:
        RequestInvalid: another word.
    """
    text = one(given, name, allowed[0])
    if text not in allowed:
        raise RequestInvalid(f"{name}={text[:40]!r} is not one", hint=f"Use one of {', '.join(allowed)}.")
    return text


def parse_limit(text: str, *, most: int, name: str = "limit") -> int:
    """A whole number in 1..most.

    Raises:
        RequestInvalid: not a whole number in that range.
    """
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= most:
        raise RequestInvalid(
            f"{name}={text[:40]!r} is not a whole number from 1 to {most}", hint=f"Leave {name} out, or lower it."
        )
    return int(text)


def parse_body(body: Any) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Kind and (name, text) pairs of a question sent as a JSON object: the same names, lists where they repeat.

    `calculate` may be an object of name and expression, and a step of a funnel a list of filters.

    Raises:
        RequestInvalid: not an object with a `kind`, or a value that is not a text, a number or a list of them.
    """
    if not isinstance(body, dict) or not isinstance(body.get("kind"), str):
        raise RequestInvalid("a question is a JSON object with a kind", hint='{"kind": "aggregate", "measure": [...]}')
    pairs: list[tuple[str, str]] = []
    for name, value in body.items():
        if name == "kind" or value is None:
            continue
        if name == "calculate" and isinstance(value, dict):
            value = [f"{key}={text}" for key, text in value.items()]  # noqa: PLW2901
        for entry in value if isinstance(value, list) else [value]:
            pairs.append((str(name), _text(str(name), entry)))
    return body["kind"], tuple(pairs)


def _text(name: str, entry: Any) -> str:
    if name == "step" and isinstance(entry, list):
        return AND.join(_text(name, one) for one in entry)
    if isinstance(entry, bool) or not isinstance(entry, str | int | float):
        raise RequestInvalid(
            f"parameter {name[:80]!r} is neither a text, a number nor a list of them",
            hint="Write values as texts, as in a query string; lists where a parameter repeats.",
        )
    return str(entry)
