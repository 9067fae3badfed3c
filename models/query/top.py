"""The largest groups by a measure, each with its share of the whole, and what all others come to together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from cluster.errors import RequestInvalid
from models.measures import MEASURES, Measure, Value
from models.query.answer import Key, Values, group_of, nothing, numbers, range_of, sortable
from models.query.compose import OTHER, Composition, compose, fold, largest
from models.query.execute import head, values_of
from models.query.parameters import Parameters, collect, one, parse_limit
from models.query.plan import Plan, choose
from models.query.request import REPEATED, MetricsRequest, parse_measures, subject
from models.query.source import Context, PlannedSource
from models.query.sql import Run

LIMIT_MAX: Final = 1_000
_DEFAULT_LIMIT: Final = "10"
_KNOWN: Final = ("measure", "calculate", "from", "to", "group_by", "filter", "limit")


@dataclass(frozen=True, slots=True)
class TopRequest:
    """A checked question for the largest groups; the first told measure ranks them."""

    metrics: MetricsRequest
    limit: int


def parse_top(parameters: Parameters, context: Context) -> TopRequest:
    """`measure` (the first one ranks), `group_by`, `limit`, range and filters.

    Raises:
        RequestInvalid: a parameter is unknown or does not fit, or there is nothing to group by.
    """
    given = collect(parameters, known=_KNOWN, repeated=REPEATED)
    metrics = subject("top", given, parse_measures(given), now_us=context.now_us)
    if not metrics.group_by:
        raise RequestInvalid("top needs a dimension", hint="Add group_by=model; /api/v1/catalog lists the dimensions.")
    most = min(LIMIT_MAX, max(1, context.groups_max - 1))
    return TopRequest(metrics, parse_limit(one(given, "limit", str(min(most, int(_DEFAULT_LIMIT)))), most=most))


def plan_top(request: TopRequest, groups_max: int) -> tuple[Plan, ...]:
    """One plan; see `choose`."""
    return (choose(request.metrics, groups_max=groups_max),)


def top(request: TopRequest, plans: tuple[Plan, ...], source: PlannedSource) -> dict[str, Any]:
    """`rows` of `{"group", "values", "share"}`, largest first, `rest` of all other groups, and `total`.

    `share` is of the ranking measure, null where its parts do not add up to the whole (a ratio, a quantile).
    """
    (plan,) = plans
    span = plan.request.span
    part = compose(plan, source.rows(plan)(span), span)
    ranking = request.metrics.told[0]
    found, complete = _candidates(part, ranking, source.run)
    group_count = len(found) if complete else int(source.run(part.group_count()).rows[0][0])
    keys = _ranked(found, ranking)[: request.limit]
    total = _total(plan, source)
    rest: Values | None = None
    if group_count > len(keys):
        found = values_of(part, source.run, kept=keys)[0]
        rest = found[(OTHER,) * len(request.metrics.group_by)]
    share = _Share(ranking, total[ranking])
    rows = [
        {
            "group": group_of(plan, key),
            "values": numbers(plan.request, found[key]),
            "share": share.of(found[key]),
        }
        for key in keys
    ]
    answer = {**head(plan), **range_of(plan), "ranked_by": ranking, "group_count": group_count, "rows": rows}
    if rest is not None:
        told = {"group_count": group_count - len(keys), "values": numbers(plan.request, rest), "share": share.of(rest)}
        answer["rest"] = told
    return answer | {"total": numbers(plan.request, total)}


@dataclass(frozen=True, slots=True)
class _Share:
    measure: str
    total: Value

    def of(self, values: Values) -> float | None:
        value = values[self.measure]
        if self.measure not in MEASURES or not MEASURES[self.measure].additive or not self.total or value is None:
            return None
        return float(value) / float(self.total)


def _candidates(part: Composition, ranking: str, run: Run) -> tuple[dict[Key, Values], bool]:
    """Values of the groups that may be among the largest, and whether those are all groups."""
    found, complete = values_of(part, run)
    if complete:
        return found, True
    by: Measure | None = MEASURES[ranking] if ranking in part.plan.request.measures else None
    if by is not None and part.sql(by) is None:
        # Merged outside SQL: only the groups with most events are looked at.
        by = None
    kept = largest(part, groups=part.plan.groups_max - 1, by=by)
    found, _ = values_of(fold(part, kept), run)
    found.pop((OTHER,) * len(part.plan.request.group_by), None)
    return found, False


def _ranked(found: dict[Key, Values], ranking: str) -> list[Key]:
    def rank(key: Key) -> tuple[bool, Any]:
        value = found[key][ranking]
        return (value is not None, 0 if value is None else value)

    # Sorts are stable: equal values come in the order of their groups.
    return sorted(sorted(found, key=sortable), key=rank, reverse=True)


def _total(plan: Plan, source: PlannedSource) -> Values:
    whole = replace(plan, request=replace(plan.request, group_by=()))
    span = whole.request.span
    found, _ = values_of(compose(whole, source.rows(whole)(span), span), source.run)
    return found.get((), nothing(whole.request))
