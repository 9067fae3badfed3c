"""Which version of a table a question is answered from, when it is not the newest one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cluster.errors import RequestInvalid
from models.query.parameters import Parameters
from models.query.times import parse_instant


@dataclass(frozen=True, slots=True)
class Past:
    """A version of a table: by its number, or the newest one at an instant. Exactly one of them is set."""

    version: int | None = None
    at_us: int | None = None


def parse_past(parameters: Parameters, *, now_us: int) -> tuple[str, Past, Parameters]:
    """The kind of question, the version, and the question's own parameters, from those of an `as_of`.

    Raises:
        RequestInvalid: not exactly one of `version` and `at`, or one that cannot be read.
    """
    own = {"of", "version", "at"}
    given = [(name, text) for name, text in parameters if name in own]
    told = dict(given)
    if len(told) < len(given):
        raise RequestInvalid("of, version and at are sent once", hint="Send each at most once.")
    if ("version" in told) == ("at" in told):
        raise RequestInvalid(
            "as_of needs version or at, and not both",
            hint='Write version=42 (the version an answer told) or at=2026-05-03T00:00:00Z, and of="aggregate".',
        )
    rest = tuple((name, text) for name, text in parameters if name not in own)
    if "at" in told:
        return told.get("of", "aggregate"), Past(at_us=parse_instant("at", told["at"], now_us=now_us)), rest
    text = told["version"]
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise RequestInvalid(f"version={text[:40]!r} is not a version", hint="Versions are whole numbers from 0.")
    return told.get("of", "aggregate"), Past(version=int(text)), rest
