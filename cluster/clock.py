"""Time as a value passed in: a clock that can be moved by hand, and a deadline that several steps share."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time for what people read, monotonic time for what is measured."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch, UTC."""

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start that never go back."""


class SystemClock:
    """The machine's own clocks."""

    def now_us(self) -> int:
        return time.time_ns() // 1_000

    def monotonic_s(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to, for tests and simulation."""

    def __init__(self, now_us: int = 1_767_225_600_000_000) -> None:
        self._now_us = now_us
        self._monotonic_s = 0.0

    def now_us(self) -> int:
        return self._now_us

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Move both clocks forward by `seconds` (>= 0)."""
        self._now_us += int(seconds * 1_000_000)
        self._monotonic_s += seconds


@dataclass(frozen=True, slots=True)
class Deadline:
    """One monotonic budget for a chain of steps, so that their sum is bounded."""

    clock: Clock
    at_s: float

    @classmethod
    def after(cls, clock: Clock, seconds: float) -> Deadline:
        return cls(clock, clock.monotonic_s() + seconds)

    def left_s(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self.at_s - self.clock.monotonic_s())


def to_datetime(at_us: int) -> datetime:
    """Aware UTC datetime of a microsecond instant."""
    return datetime.fromtimestamp(at_us / 1_000_000, tz=UTC)


def format_rfc3339(at_us: int) -> str:
    """RFC 3339 in UTC with microseconds, as every answer of the hub writes instants."""
    seconds, micros = divmod(at_us, 1_000_000)
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{micros:06d}Z"
