"""How many different values a field has, by group: exactly, or from the sketches that the roll-ups keep."""
# ruff: noqa: S608 (the text is ours, every value is bound: models/query/sql.py)

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from cluster.errors import RequestInvalid
from models.aggregate.distinct import EXACT_COUNT_MAX, STANDARD_ERROR
from models.query.answer import aggregate
from models.query.compose import compose, group_columns
from models.query.execute import head, values_together
from models.query.fields import field
from models.query.pages import Page, parse_page
from models.query.parameters import Parameters, chosen, collect, one
from models.query.plan import Plan, choose
from models.query.request import REPEATED, Asked, MetricsRequest, subject
from models.query.source import Context, PlannedSource
from models.query.sql import placed

Method = Literal["exact", "sketch"]

# Fields of which the roll-ups keep a sketch, and the measure that reads it.
SKETCHED: Final = {"user_id": "unique_users", "session_id": "unique_sessions"}
# Counts of groups whose rows are told; groups beyond the largest of them are only counted.
_ROWS_MAX: Final = 10_000
_KNOWN: Final = ("field", "method", "from", "to", "group_by", "filter", "limit", "cursor")


@dataclass(frozen=True, slots=True)
class DistinctRequest:
    """A checked question for distinct counts.

    Attributes:
        metrics: for an exact count the counted field is the last of its groups.
        method: `sketch` may turn out exact, where the range or a filter needs raw events.
    """

    metrics: MetricsRequest
    field: str
    method: Method
    page: Page


def parse_distinct(parameters: Parameters, context: Context) -> DistinctRequest:
    """`field` (any text field or attribute), `method` (`auto exact sketch`), range, groups and filters.

    Raises:
        RequestInvalid: a parameter is unknown or does not fit, or no sketch is kept of the field.
    """
    given = collect(parameters, known=_KNOWN, repeated=REPEATED)
    name = one(given, "field", "")
    if not name:
        raise RequestInvalid("distinct needs a field", hint="Add field=user_id, or field=attributes.NAME.")
    counted = field(name, role="field")
    wanted = chosen(given, "method", ("auto", "exact", "sketch"))
    if wanted == "sketch" and name not in SKETCHED:
        raise RequestInvalid(
            f"no sketch is kept of {name[:80]}", hint=f"Sketches: {', '.join(SKETCHED)}. Use method=exact."
        )
    page = parse_page(given)
    method: Method = "sketch" if wanted != "exact" and name in SKETCHED else "exact"
    if method == "sketch":
        asked = Asked((SKETCHED[name],))
        metrics = replace(subject("distinct", given, asked, now_us=context.now_us), page=page)
        return DistinctRequest(metrics, name, method, page)
    metrics = subject("distinct", given, Asked(("event_count",)), now_us=context.now_us)
    return DistinctRequest(replace(metrics, group_by=(*metrics.group_by, counted)), name, method, page)


def plan_distinct(request: DistinctRequest, groups_max: int) -> tuple[Plan, ...]:
    """One plan; see `choose`."""
    return (choose(request.metrics, groups_max=groups_max),)


def distinct(request: DistinctRequest, plans: tuple[Plan, ...], source: PlannedSource) -> dict[str, Any]:
    """`rows` of `{"group", "value"}`, the largest first; `method` and, for a sketch, its standard error."""
    (plan,) = plans
    if request.method == "exact":
        return _exactly(request, plan, source)
    span = plan.request.span
    (found,), folded = values_together([compose(plan, source.rows(plan)(span), span)], source.run)
    answer = aggregate(plan, found, None)
    answer["rows"] = [
        {"group": row["group"], "value": row["values"][SKETCHED[request.field]]} for row in answer["rows"]
    ]
    told = {"field": request.field, "method": "sketch" if plan.from_rollups else "exact"}
    error = {"standard_error": STANDARD_ERROR, "exact_to": EXACT_COUNT_MAX} if plan.from_rollups else {}
    return head(plan, folded=folded) | told | error | answer


def _exactly(request: DistinctRequest, plan: Plan, source: PlannedSource) -> dict[str, Any]:
    span = plan.request.span
    part = compose(plan, source.rows(plan)(span), span)
    *groups, counted = group_columns(plan)
    keys = "".join(f"{column}, " for column in groups)
    grouped = f"GROUP BY {', '.join(groups)}" if groups else ""
    table = source.run(
        placed(
            f"SELECT {keys}count(DISTINCT {counted}) AS v_, count(*) OVER () AS groups_ FROM ({{}}) AS r {grouped} "
            f"ORDER BY v_ DESC{''.join(f', {column}' for column in groups)} LIMIT {_ROWS_MAX}",
            part.rows,
        )
    )
    names = [one.name for one in plan.request.group_by[:-1]]
    rows = [
        {"group": dict(zip(names, key, strict=True)), "value": value}
        for key, value in zip(table.keys(tuple(groups)), table.column("v_"), strict=True)
    ]
    told, cursor = request.page.cut(rows)
    count = table.column("groups_")[0] if table.rows else 0
    return {
        **head(plan),
        "field": request.field,
        "method": "exact",
        "group_count": count,
        "rows": told,
        "next_cursor": cursor,
    }
