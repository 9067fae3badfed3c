"""Which table answers a question about measures, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, Literal

from cluster.errors import RequestInvalid
from models.measures import MEASURES
from models.query.request import MetricsRequest
from models.query.times import DAY_US, HOUR_US, MINUTE_US, Range, points

Tier = Literal["rollup_1d", "rollup_1h", "rollup_1m", "events"]

# Roll-up tables, coarsest first, with the length of a window.
_WINDOWS: Final[tuple[tuple[Tier, int], ...]] = (
    ("rollup_1d", DAY_US),
    ("rollup_1h", HOUR_US),
    ("rollup_1m", MINUTE_US),
)
_CALLED: Final[dict[Tier, str]] = {"rollup_1d": "day", "rollup_1h": "hour", "rollup_1m": "minute"}
# Fewer whole windows than this in a range are not worth a table of their own.
_WINDOWS_MIN: Final = 2

# Values in one answer, all series together: what a browser draws and a replica holds without noticing.
VALUES_MAX: Final = 500_000


@dataclass(frozen=True, slots=True)
class Floors:
    """First instants, each a midnight in microseconds, from which on every row is there; 0 where none has gone.

    Attributes:
        minutes_us: of events and minute roll-ups.
        hours_us: of hour roll-ups.
        days_us: of day roll-ups.
    """

    minutes_us: int = 0
    hours_us: int = 0
    days_us: int = 0

    def window_us(self, at_us: int) -> int:
        """Length of the shortest windows that are left of an instant."""
        if at_us >= self.minutes_us:
            return MINUTE_US
        return HOUR_US if at_us >= self.hours_us else DAY_US


NO_FLOORS: Final = Floors()


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a range and the roll-up table that answers it; it begins and ends with a window of that table."""

    tier: Tier
    span: Range


@dataclass(frozen=True, slots=True)
class Plan:
    """A request with the table that answers it.

    Attributes:
        tier: coarsest table that answers a part of the range.
        reason: why that table, for the person who wonders about the time it took.
        groups_max: groups told one by one; with more, the largest are and the rest is folded into one.
        floors: what has expired of the days it asks for.
    """

    request: MetricsRequest
    tier: Tier
    reason: str
    groups_max: int
    floors: Floors = NO_FLOORS

    @property
    def from_rollups(self) -> bool:
        """The rows are partials of ROLLUP_SCHEMA, not events."""
        return self.tier != "events"

    @property
    def time_column(self) -> str:
        return "window_start" if self.from_rollups else "occurred_at"

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """Every table that answers a part of the range, coarsest first."""
        if not self.from_rollups:
            return (self.tier,)
        used = {piece.tier for piece in self.pieces(self.request.span)}
        return tuple(name for name, _ in _WINDOWS if name in used)

    def pieces(self, span: Range) -> tuple[Piece, ...]:
        """The range cut so that whole days and hours come from their tables and the rest from finer ones."""
        allowed = dict(_WINDOWS)[self.tier]
        edges = sorted({span.from_us, span.to_us, *self._floors_inside(span)})
        cut: list[Piece] = []
        for from_us, to_us in pairwise(edges):
            left_us = self.floors.window_us(from_us)
            cut += _cut(
                Range(from_us, to_us), tuple(one for one in _WINDOWS if left_us <= one[1] <= max(allowed, left_us))
            )
        return tuple(cut)

    def _floors_inside(self, span: Range) -> tuple[int, ...]:
        floors = (self.floors.hours_us, self.floors.minutes_us)
        return tuple(floor for floor in floors if span.from_us < floor < span.to_us)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the roll-ups that the answer reads, beside those of the scope; sorted."""
        request = self.request
        named = {field.name for field in request.group_by} | {one.field.name for one in request.filters}
        for name in (*request.measures, "event_count"):
            named.update(MEASURES[name].columns)
        return tuple(sorted({self.time_column, *named}))

    @property
    def ranges(self) -> tuple[Range, ...]:
        """The asked range, then the one it is compared with, if any."""
        span, shift = self.request.span, self.request.compare_us
        return (span, span.shifted(shift)) if shift else (span,)


def choose(request: MetricsRequest, *, groups_max: int) -> Plan:
    """The cheapest table that answers exactly.

    Args:
        groups_max: >= 1, groups an answer may tell one by one.

    Raises:
        RequestInvalid: so many points and measures that not even two groups fit an answer.
    """
    most = groups_max
    if request.step_us:
        values = points(request.span, request.step_us) * len(request.measures)
        most = min(groups_max, VALUES_MAX // values)
        if most < (2 if request.group_by else 1):
            raise RequestInvalid(
                f"the answer would hold over {VALUES_MAX} values",
                hint="Ask for fewer measures or a coarser granularity.",
            )
    raw = [field.name for field in request.group_by if not field.in_rollups]
    raw += [one.field.name for one in request.filters if not one.field.in_rollups]
    if raw:
        return Plan(request, "events", f"only raw events have {raw[0]}", most)
    if not request.span.on_minutes or request.compare_us % MINUTE_US:
        return Plan(request, "events", "the range does not start and end on a minute", most)
    return _coarsest(request, most)


def _coarsest(request: MetricsRequest, groups_max: int) -> Plan:
    """The plan over the coarsest roll-ups whose windows fit the buckets and at least twice into the range."""
    for name, window_us in _WINDOWS:
        fits = request.grid_us % window_us == 0
        if name == "rollup_1m" or (fits and _whole(request.span, window_us).length_us >= _WINDOWS_MIN * window_us):
            plan = Plan(request, name, f"{_CALLED[name]} roll-ups hold every asked field", groups_max)
            finer = plan.tiers[1:]
            if not finer:
                return plan
            ends = " and ".join(f"{_CALLED[one]} roll-ups" for one in finer)
            return replace(plan, reason=f"{plan.reason}; {ends} hold the ends of the range")
    raise AssertionError("unreachable")


def _whole(span: Range, window_us: int) -> Range:
    """The windows that lie in the range entirely; of no length when there is none."""
    from_us = -(-span.from_us // window_us) * window_us
    return Range(from_us, max(from_us, span.to_us // window_us * window_us))


def _cut(span: Range, windows: tuple[tuple[Tier, int], ...]) -> tuple[Piece, ...]:
    if span.length_us <= 0:
        return ()
    (name, window_us), *finer = windows
    if not finer:
        return (Piece(name, span),)
    middle = _whole(span, window_us)
    if middle.length_us < _WINDOWS_MIN * window_us:
        return _cut(span, tuple(finer))
    before, after = Range(span.from_us, middle.from_us), Range(middle.to_us, span.to_us)
    return (*_cut(before, tuple(finer)), Piece(name, middle), *_cut(after, tuple(finer)))
