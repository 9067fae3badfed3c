"""Buckets of time: steps of equal length, or days and weeks of a time zone, which are 23 to 25 hours long twice a year.

Calendar buckets are kept as stretches of equal buckets, so that SQL finds a row's bucket by arithmetic alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from cluster.errors import RequestInvalid
from models.query.fields import near
from models.query.times import DAY_US, Range, points

WEEK_US: Final = 7 * DAY_US
# 1970-01-05, the first Monday: weeks begin on Mondays.
_MONDAY_US: Final = 4 * DAY_US
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Buckets of `step_us` that begin at `from_us`, `from_us + step_us` … and end before `to_us`."""

    from_us: int
    to_us: int
    step_us: int


@dataclass(frozen=True, slots=True)
class Buckets:
    """Every bucket that a range touches, oldest first; the first and last may reach outside it."""

    stretches: tuple[Stretch, ...]

    @property
    def starts(self) -> list[int]:
        """First instant of each bucket, microseconds."""
        return [at for one in self.stretches for at in range(one.from_us, one.to_us, one.step_us)]

    @property
    def ends(self) -> list[int]:
        """First instant after each bucket."""
        return [at + one.step_us for one in self.stretches for at in range(one.from_us, one.to_us, one.step_us)]

    @property
    def grid_us(self) -> int:
        """The longest window, counted from 1970 UTC, of which every bucket is made."""
        return math.gcd(*(edge for one in self.stretches for edge in (one.from_us, one.step_us)))

    def start_sql(self, time: str) -> str:
        """DuckDB expression of the start, in microseconds, of the bucket that the instant `time` lies in."""
        at = f"epoch_us({time})"
        return self._by_stretch(
            at, lambda one: f"({at} - {one.from_us}) // {one.step_us} * {one.step_us} + {one.from_us}"
        )

    def length_sql(self, start: str) -> str:
        """DuckDB expression of the length, in microseconds, of the bucket that starts at `start`."""
        return self._by_stretch(start, lambda one: str(one.step_us))

    def _by_stretch(self, at: str, told: Callable[[Stretch], str]) -> str:
        *earlier, last = self.stretches
        if not earlier:
            return f"({told(last)})"
        cases = " ".join(f"WHEN {at} < {one.to_us} THEN {told(one)}" for one in earlier)
        return f"(CASE {cases} ELSE {told(last)} END)"


def parse_zone(text: str, step_us: int) -> str:
    """The name of a time zone; empty for UTC.

    Args:
        step_us: length of a bucket: only days and weeks differ between zones, hours and minutes are the same instants
            everywhere but in the few zones that are half an hour apart.

    Raises:
        RequestInvalid: no zone of that name, or buckets shorter than a day.
    """
    if text in ("", "UTC"):
        return ""
    if text not in _zones():
        raise RequestInvalid(f"time_zone={text[:80]!r} is not known", hint=near(text, sorted(_zones()), most=12))
    if step_us % DAY_US:
        raise RequestInvalid(
            "time_zone shifts days, and the buckets are shorter", hint="Leave time_zone out, or ask for 1d."
        )
    return text


@lru_cache(maxsize=64)
def buckets(span: Range, step_us: int, zone: str = "") -> Buckets:
    """Buckets of a length over a range.

    Args:
        step_us: of a bucket; with a zone one or several whole days of its calendar, weeks from Monday.
        zone: IANA name; empty for UTC.
    """
    anchor_us = _MONDAY_US if step_us == WEEK_US else 0
    if not zone:
        moved = Range(span.from_us - anchor_us, span.to_us - anchor_us)
        first = moved.from_us // step_us * step_us + anchor_us
        return Buckets((Stretch(first, first + points(moved, step_us) * step_us, step_us),))
    edges = _edges(span, step_us, zone)
    return Buckets(tuple(_joined(edges)))


def _edges(span: Range, step_us: int, zone: str) -> list[int]:
    """Starts of the calendar buckets that the range touches, and the first instant after the last of them."""
    known = ZoneInfo(zone)
    days = step_us // DAY_US
    day = (_EPOCH + timedelta(microseconds=span.from_us)).astimezone(known).date()
    anchor = 4 if step_us == WEEK_US else 0
    day -= timedelta(days=((day - _EPOCH.date()).days - anchor) % days)
    edges = [_midnight(day, known)]
    while edges[-1] < span.to_us:
        day += timedelta(days=days)
        at = _midnight(day, known)
        # A day that a zone left out, when it moved over the date line, is no bucket.
        if at > edges[-1]:
            edges.append(at)
    return edges


def _midnight(day: date, zone: ZoneInfo) -> int:
    """First instant of a day there. Where clocks jump over midnight that is the instant of the jump."""
    at = datetime(day.year, day.month, day.day, tzinfo=zone)
    return (at.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)


def _joined(edges: list[int]) -> Iterator[Stretch]:
    """Neighbouring buckets of the same length as one stretch."""
    first = edges[0]
    for before, at, after in zip(edges, edges[1:], [*edges[2:], None], strict=False):
        if after is None or after - at != at - before:
            yield Stretch(first, at, at - before)
            first = at


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    # Reads a hundred folders; zones do not change while a process runs.
    return frozenset(available_timezones())
