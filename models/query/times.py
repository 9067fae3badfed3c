"""Instants, ranges and granularities as people write them: RFC 3339, `-24h`, `now`, `1h`, `auto`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from cluster.errors import RequestInvalid

SECOND_US: Final = 1_000_000
MINUTE_US: Final = 60 * SECOND_US
HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US

GRANULARITIES: Final[dict[str, int]] = {
    "1m": MINUTE_US,
    "5m": 5 * MINUTE_US,
    "15m": 15 * MINUTE_US,
    "1h": HOUR_US,
    "6h": 6 * HOUR_US,
    "1d": DAY_US,
}
# A chart is a few hundred pixels wide; more points only cost.
AUTO_POINTS: Final = 200
POINTS_MAX: Final = 11_000

_UNITS: Final = {"s": SECOND_US, "m": MINUTE_US, "h": HOUR_US, "d": DAY_US, "w": 7 * DAY_US}
_SPAN: Final = re.compile(r"-([0-9]{1,6})([smhdw])")
# Timestamps outside are unset clocks or typing errors, and some do not fit the database's instants.
_YEARS: Final = range(1970, 2200)
_TIME_HINT: Final = "Use RFC 3339 with a zone, as 2026-05-01T00:00:00Z, or a relative time: now, -15m, -24h, -7d."


@dataclass(frozen=True, slots=True)
class Range:
    """Half-open range of instants, microseconds since the epoch.

    Attributes:
        relative: both ends were written relative to now, and so were moved out to whole minutes.
    """

    from_us: int
    to_us: int
    relative: bool = False

    @property
    def length_us(self) -> int:
        return self.to_us - self.from_us

    @property
    def on_minutes(self) -> bool:
        return self.from_us % MINUTE_US == 0 and self.to_us % MINUTE_US == 0

    def shifted(self, by_us: int) -> Range:
        """The same length, `by_us` earlier."""
        return Range(self.from_us - by_us, self.to_us - by_us, self.relative)


def parse_range(from_text: str, to_text: str, *, now_us: int) -> Range:
    """The range between two written instants.

    Relative ends move out to whole minutes, so that the answer can come from minute roll-ups and the same question
    asked twice in a minute is the same question. Absolute ends stay to the microsecond.

    Raises:
        RequestInvalid: an end cannot be read, or `from` is not before `to`.
    """
    from_us, from_relative = _parse("from", from_text, now_us)
    to_us, to_relative = _parse("to", to_text, now_us)
    if from_relative:
        from_us -= from_us % MINUTE_US
    if to_relative:
        to_us += -to_us % MINUTE_US
    if from_us >= to_us:
        raise RequestInvalid(
            f"from ({format_instant(from_us)}) is not before to ({format_instant(to_us)})",
            hint="Ranges are half-open: from is the first instant inside, to the first one outside.",
        )
    return Range(from_us, to_us, from_relative and to_relative)


def parse_instant(name: str, text: str, *, now_us: int) -> int:
    """Microseconds of one written instant, absolute or relative, to the microsecond.

    Raises:
        RequestInvalid: it cannot be read; the message names the parameter `name`.
    """
    return _parse(name, text, now_us)[0]


def _parse(name: str, text: str, now_us: int) -> tuple[int, bool]:
    if text == "now":
        return now_us, True
    span = parse_span(text)
    if span is not None:
        at_us = now_us - span
        if at_us < 0:
            raise RequestInvalid(f"{name}={text[:40]!r} lies before 1970", hint=_TIME_HINT)
        return at_us, True
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    # A "+" in a query string arrives as a blank, so "+02:00" sent unescaped lands here too.
    if at is None or at.tzinfo is None or at.year not in _YEARS or len(text) < 11:
        raise RequestInvalid(f"{name}={text[:40]!r} is not a time", hint=_TIME_HINT)
    delta = at.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    at_us = delta.days * DAY_US + delta.seconds * SECOND_US + delta.microseconds
    if at_us < 0:
        raise RequestInvalid(f"{name}={text[:40]!r} lies before 1970", hint=_TIME_HINT)
    return at_us, False


def parse_span(text: str) -> int | None:
    """Microseconds of a relative time such as `-24h`, `-7d`; None when it is not one."""
    found = _SPAN.fullmatch(text)
    return int(found[1]) * _UNITS[found[2]] if found else None


def parse_granularity(text: str, span: Range) -> int:
    """Length of a bucket in microseconds; `auto` takes the finest that gives at most AUTO_POINTS.

    Raises:
        RequestInvalid: not a granularity, or more than POINTS_MAX buckets.
    """
    if text == "auto":
        for step in GRANULARITIES.values():
            if points(span, step) <= AUTO_POINTS:
                return step
        step = DAY_US
    elif text in GRANULARITIES:
        step = GRANULARITIES[text]
    else:
        raise RequestInvalid(
            f"granularity={text[:40]!r} is not one", hint=f"Use one of auto, {', '.join(GRANULARITIES)}."
        )
    if points(span, step) > POINTS_MAX:
        fits = [name for name, size in GRANULARITIES.items() if points(span, size) <= POINTS_MAX]
        hint = f"The finest granularity for this range is {fits[0]}." if fits else "Ask for a shorter range."
        raise RequestInvalid(f"granularity={text} would give {points(span, step)} points, over {POINTS_MAX}", hint=hint)
    return step


def points(span: Range, step_us: int) -> int:
    """Buckets of `step_us`, aligned to the epoch, that the range touches."""
    return (span.to_us - 1) // step_us - span.from_us // step_us + 1


def granularity_name(step_us: int) -> str:
    """`1h` for 3,600,000,000."""
    return next(name for name, size in GRANULARITIES.items() if size == step_us)


@lru_cache(maxsize=100_000)
def format_instant(at_us: int) -> str:
    """RFC 3339 in UTC with microseconds."""
    seconds, micros = divmod(at_us, SECOND_US)
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{micros:06d}Z"
