"""Who caused which cost: every nano-dollar of the total is told, in a group, among the others, or as unallocated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from cluster.errors import RequestInvalid
from models.query.answer import Key, Values, group_of, nothing, number, numbers, range_of, sortable
from models.query.compose import OTHER, compose, fold, largest, listed
from models.query.execute import head, values_of
from models.query.parameters import Parameters, collect, one, parse_limit
from models.query.plan import Plan, choose
from models.query.request import REPEATED, Asked, MetricsRequest, subject
from models.query.source import Context, PlannedSource
from models.query.sql import placed

LIMIT_MAX: Final = 1_000
_DEFAULT_LIMIT: Final = "100"
_KNOWN: Final = ("from", "to", "group_by", "filter", "limit")
# All of them add up.
_ASKED: Final = Asked(("cost_usd", "request_count", "total_tokens"))
# Shares are told in billionths.
_SHARE_PLACES: Final = 9


@dataclass(frozen=True, slots=True)
class AllocationRequest:
    """A checked question for costs by dimension; `limit` is how many groups are told one by one."""

    metrics: MetricsRequest
    limit: int


def parse_allocation(parameters: Parameters, context: Context) -> AllocationRequest:
    """`group_by` (repeat: the cost of each combination), range, filters, `limit`.

    Raises:
        RequestInvalid: a parameter is unknown or does not fit, or there is nothing to allocate to.
    """
    given = collect(parameters, known=_KNOWN, repeated=REPEATED)
    metrics = subject("cost_allocation", given, _ASKED, now_us=context.now_us)
    if not metrics.group_by:
        raise RequestInvalid(
            "cost_allocation needs a dimension", hint="Add group_by=project_id or group_by=attributes.team."
        )
    return AllocationRequest(metrics, parse_limit(one(given, "limit", _DEFAULT_LIMIT), most=LIMIT_MAX))


def plan_allocation(request: AllocationRequest, groups_max: int) -> tuple[Plan, ...]:
    """One plan; see `choose`."""
    return (choose(request.metrics, groups_max=groups_max),)


def allocate(request: AllocationRequest, plans: tuple[Plan, ...], source: PlannedSource) -> dict[str, Any]:
    """`rows` of `{"group", "values", "share"}` by cost, `other` (groups beyond the limit), `unallocated` (rows with
    none of the dimensions) and `total`. Values add up to the total's and shares to 1, both to the last digit."""
    (plan,) = plans
    width = len(plan.request.group_by)
    found = _found(plan, source)
    empty = nothing(plan.request)
    unallocated = found.pop((None,) * width, empty)
    others = [found.pop((OTHER,) * width, empty)]
    keys = sorted(sorted(found, key=sortable), key=lambda key: _cost(found[key]), reverse=True)
    others += [found[key] for key in keys[request.limit :]]
    keys = keys[: request.limit]
    parts = [*(found[key] for key in keys), _sum(others), unallocated]
    shares = _shares([_cost(part) for part in parts])

    def told(place: int) -> dict[str, Any]:
        return {"values": numbers(plan.request, parts[place]), "share": shares[place]}

    return {
        **head(plan),
        **range_of(plan),
        "rows": [{"group": group_of(plan, key), **told(place)} for place, key in enumerate(keys)],
        "other": told(-2),
        "unallocated": told(-1),
        "total": {"values": numbers(plan.request, _sum(parts))},
    }


def _found(plan: Plan, source: PlannedSource) -> dict[Key, Values]:
    """Values of each group; with too many of the largest, of OTHER, and of the rows with none of the dimensions."""
    span = plan.request.span
    part = compose(plan, source.rows(plan)(span), span)
    found, complete = values_of(part, source.run)
    if complete:
        return found
    nowhere = listed(plan, [(None,) * len(plan.request.group_by)])
    kept = placed("SELECT * FROM ({}) UNION SELECT * FROM ({})", largest(part, groups=plan.groups_max - 2), nowhere)
    return values_of(fold(part, kept), source.run)[0]


def _cost(values: Values) -> Decimal:
    return Decimal(values["cost_usd"] or 0)


def _sum(parts: Sequence[Values]) -> Values:
    return {name: sum((Decimal(part[name] or 0) for part in parts), Decimal(0)) for name in _ASKED.measures}


def _shares(costs: Sequence[Decimal]) -> list[Any]:
    """Share of each cost, adding up to exactly 1; null where nothing was spent.

    Source: largest remainder method (Hamilton): cut down to whole billionths, the missing ones go to the largest cuts.
    """
    total = sum(costs, Decimal(0))
    if not total:
        return [None] * len(costs)
    nano = 10**9
    units = [int(cost * nano) for cost in costs]
    whole = sum(units)
    cut = [divmod(unit * 10**_SHARE_PLACES, whole) for unit in units]
    missing = 10**_SHARE_PLACES - sum(share for share, _ in cut)
    places = sorted(range(len(cut)), key=lambda place: cut[place][1], reverse=True)[:missing]
    return [number(Decimal(share + (place in places)).scaleb(-_SHARE_PLACES)) for place, (share, _) in enumerate(cut)]
