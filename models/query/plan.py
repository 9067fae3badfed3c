"""Which table answers a question about measures, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from cluster.errors import RequestInvalid
from models.measures import MEASURES
from models.query.request import MetricsRequest
from models.query.times import MINUTE_US, Range, points

Tier = Literal["rollup_1m", "events"]

# Values in one answer, all series together: what a browser draws and a replica holds without noticing.
VALUES_MAX: Final = 500_000


@dataclass(frozen=True, slots=True)
class Plan:
    """A request with the table that answers it.

    Attributes:
        reason: why that table, for the person who wonders about the time it took.
        groups_max: groups told one by one; with more, the largest are and the rest is folded into one.
    """

    request: MetricsRequest
    tier: Tier
    reason: str
    groups_max: int

    @property
    def time_column(self) -> str:
        return "window_start" if self.tier == "rollup_1m" else "occurred_at"

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
    return Plan(request, "rollup_1m", "minute roll-ups hold every asked field", most)
