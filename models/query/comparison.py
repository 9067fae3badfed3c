"""Two sets of rows side by side: two ranges, or two sets of filters, with the difference and the change in percent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from cluster.errors import RequestInvalid
from models.measures import Value
from models.query.answer import Values, group_of, nothing, number, numbers, sortable
from models.query.compose import compose
from models.query.execute import head, values_together
from models.query.filters import parse_filters
from models.query.pages import parse_page
from models.query.parameters import Parameters, collect, one
from models.query.plan import Plan, choose
from models.query.request import REPEATED, MetricsRequest, parse_compare, parse_measures, subject
from models.query.source import Context, PlannedSource
from models.query.times import Range, format_instant, parse_range

_KNOWN: Final = (
    *("measure", "calculate", "from", "to", "group_by", "filter", "limit", "cursor"),
    *("current_filter", "baseline", "baseline_from", "baseline_to", "baseline_filter"),
)


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """A checked comparison; both sides have the same measures and groups."""

    current: MetricsRequest
    baseline: MetricsRequest


def parse_compare_question(parameters: Parameters, context: Context) -> CompareRequest:
    """`filter` holds for both sides, `current_filter` and `baseline_filter` for one. The baseline's range is `baseline`
    (`previous`, `-7d`) or `baseline_from` to `baseline_to`; the range before without filters of its own, else the same.

    Raises:
        RequestInvalid: a parameter is unknown or does not fit, or both ways of a baseline's range are used.
    """
    given = collect(parameters, known=_KNOWN, repeated=REPEATED | {"current_filter", "baseline_filter"})
    shared = replace(subject("compare", given, parse_measures(given), now_us=context.now_us), page=parse_page(given))
    own = [parse_filters([*given["filter"], *given[name]]) for name in ("current_filter", "baseline_filter")]
    span = _baseline(given, shared.span, now_us=context.now_us)
    return CompareRequest(replace(shared, filters=own[0]), replace(shared, filters=own[1], span=span))


def plan_compare(request: CompareRequest, groups_max: int) -> tuple[Plan, ...]:
    """A plan for each side, over the same sort of table."""
    return choose_alike((request.current, request.baseline), groups_max)


def compare(request: CompareRequest, plans: tuple[Plan, ...], source: PlannedSource) -> dict[str, Any]:
    """`rows` of `{"group", "values", "baseline", "delta", "percent"}`, largest first; groups of either side."""
    parts = [compose(plan, source.rows(plan)(plan.request.span), plan.request.span) for plan in plans]
    (current, baseline), folded = values_together(parts, source.run)
    empty, leading = nothing(request.current), request.current.told[0]
    keys = sorted({*current, *baseline}, key=sortable)

    def rank(values: Values) -> tuple[bool, Any]:
        value = values[leading]
        return (value is not None, 0 if value is None else value)

    keys.sort(key=lambda key: (rank(current.get(key, empty)), rank(baseline.get(key, empty))), reverse=True)
    page, cursor = request.current.page.cut(keys)
    rows = []
    for key in page:
        now, then = current.get(key, empty), baseline.get(key, empty)
        delta = {name: _delta(now[name], then[name]) for name in request.current.told}
        rows.append(
            {
                "group": group_of(plans[0], key),
                "values": numbers(request.current, now),
                "baseline": numbers(request.current, then),
                "delta": {name: number(value) for name, value in delta.items()},
                "percent": {name: _percent(delta[name], then[name]) for name in request.current.told},
            }
        )
    return {
        **head(plans[0], folded=folded),
        "current": _told(request.current.span),
        "baseline": _told(request.baseline.span),
        "group_count": len(keys),
        "rows": rows,
        "next_cursor": cursor,
    }


def choose_alike(requests: Sequence[MetricsRequest], groups_max: int) -> tuple[Plan, ...]:
    """A plan for each request; all over roll-ups or all over events, so that they stand on one version."""
    plans = [choose(request, groups_max=groups_max) for request in requests]
    raw = next((plan for plan in plans if not plan.from_rollups), None)
    if raw is None:
        return tuple(plans)
    return tuple(replace(plan, tier="events", reason=raw.reason) for plan in plans)


def _baseline(given: dict[str, list[str]], span: Range, *, now_us: int) -> Range:
    explicit = bool(given["baseline_from"] or given["baseline_to"])
    if explicit and given["baseline"]:
        raise RequestInvalid(
            "the baseline has two ranges", hint="Use baseline, or baseline_from and baseline_to, not both."
        )
    if explicit:
        if not given["baseline_from"] or not given["baseline_to"]:
            raise RequestInvalid("the baseline's range has one end", hint="Send baseline_from and baseline_to.")
        return parse_range(given["baseline_from"][0], given["baseline_to"][0], now_us=now_us)
    filtered = bool(given["current_filter"] or given["baseline_filter"])
    if filtered and not given["baseline"]:
        return span
    return span.shifted(parse_compare(one(given, "baseline", "previous"), span, name="baseline"))


def _delta(now: Value, then: Value) -> Value:
    if now is None or then is None:
        return None
    if isinstance(now, float) or isinstance(then, float):
        return float(now) - float(then)
    return now - then


def _percent(delta: Value, then: Value) -> float | None:
    return None if delta is None or not then else float(delta) / float(then) * 100


def _told(span: Range) -> dict[str, str]:
    return {"from": format_instant(span.from_us), "to": format_instant(span.to_us)}
