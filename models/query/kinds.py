"""The catalogue of questions: each kind is read, planned and answered by three functions, found here by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

from cluster.errors import NotFound, RequestInvalid
from models.correlate.trace import assemble
from models.query.ages import aged, gone, moved_out
from models.query.allocation import allocate, parse_allocation, plan_allocation
from models.query.cohort import cohort, parse_cohort
from models.query.comparison import compare, parse_compare_question, plan_compare
from models.query.distinct import distinct, parse_distinct, plan_distinct
from models.query.distribution import heatmap, histogram, parse_heatmap, parse_histogram, plan_distribution
from models.query.execute import execute
from models.query.fields import near
from models.query.funnel import funnel, parse_funnel
from models.query.parameters import Parameters, collect, one
from models.query.past import Past, parse_past
from models.query.percentile import parse_percentile, percentile, plan_percentile
from models.query.plan import NO_FLOORS, Floors, Plan, choose
from models.query.ratio import parse_ratio, plan_ratio, ratio
from models.query.request import MetricsRequest, parse_metrics
from models.query.search import SearchRequest, parse_search, parse_trace_id
from models.query.session import parse_session, session
from models.query.source import Context, PlannedSource, Source
from models.query.times import Range
from models.query.top import parse_top, plan_top, top

Request = TypeVar("Request")


@dataclass(frozen=True, slots=True)
class Kind(Generic[Request]):
    """One kind of question.

    Attributes:
        parse: names and texts -> a checked, hashable request.
        plan: the request's plans over the roll-ups or events, () where only raw events can answer.
        execute: the answer without `version`, ready for a JSON encoder.
        planned: the same, of a kind that reads only what its plans name.
    """

    parse: Callable[[Parameters, Context], Request]
    plan: Callable[[Request, int], tuple[Plan, ...]]
    execute: Callable[[Request, tuple[Plan, ...], Source], dict[str, Any]]
    planned: Callable[[Request, tuple[Plan, ...], PlannedSource], dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A checked question with its plans.

    Attributes:
        past: the version of the table it is about; None for the newest.
        floors: what has expired of the rows it may see.
    """

    kind: str
    request: Any
    plans: tuple[Plan, ...]
    execute: Callable[[Any, tuple[Plan, ...], Source], dict[str, Any]]
    planned: Callable[[Any, tuple[Plan, ...], PlannedSource], dict[str, Any]] | None = None
    past: Past | None = None
    floors: Floors = NO_FLOORS

    @property
    def from_rollups(self) -> bool:
        """The roll-ups answer it, not the events."""
        return any(plan.from_rollups for plan in self.plans)

    def answer(self, source: Source) -> dict[str, Any]:
        """The answer without `version`; `expired_before` where rows it asks for may have expired."""
        return self.execute(self.request, self.plans, source) | self.expired

    @property
    def expired(self) -> dict[str, Any]:
        """`{"expired_before"}` where rows it asks for may have expired."""
        spans: list[Range | None] = [span for plan in self.plans for span in plan.ranges]
        told: dict[str, Any] = {}
        for span in spans or [getattr(self.request, "span", None)]:
            told |= gone(span, self.floors, from_rollups=self.from_rollups)
        return told


def ask(kind: str, parameters: Parameters, context: Context) -> Question:
    """The question that a kind and (name, text) pairs stand for.

    Raises:
        RequestInvalid: an unknown kind or parameter, or a text that does not fit; near names are in the hint.
    """
    if kind == "as_of":
        return _as_of(parameters, context)
    if kind not in KINDS:
        raise RequestInvalid(f"kind {kind[:40]!r} is not one", hint=near(kind, KIND_NAMES))
    found = KINDS[kind]
    if context.floors != NO_FLOORS:
        parameters = moved_out(kind, parameters, context.floors, now_us=context.now_us)
    request = found.parse(parameters, context)
    plans = tuple(aged(plan, context.floors) for plan in found.plan(request, context.groups_max))
    return Question(kind, request, plans, found.execute, found.planned, floors=context.floors)


def _as_of(parameters: Parameters, context: Context) -> Question:
    """Another question about a past version; with `at`, relative times in it stand on that instant too."""
    kind, past, rest = parse_past(parameters, now_us=context.now_us)
    if kind in ("as_of", *_FROM_FILES):
        raise RequestInvalid(f"of={kind!r} has no past version", hint="of is a kind about measures, as aggregate.")
    # A past version has its own rows, those that expired since included.
    context = replace(context, now_us=past.at_us or context.now_us, floors=NO_FLOORS)
    question = ask(kind, rest, context)
    # Hours and days are rolled from the minutes later than those are written: only the minutes stand for one moment.
    plans = tuple(
        replace(plan, tier="rollup_1m", reason="minute roll-ups of a past version") if plan.from_rollups else plan
        for plan in question.plans
    )
    return replace(question, plans=plans, past=past)


def _planned(
    parse: Callable[[Parameters, Context], Request],
    plan: Callable[[Request, int], tuple[Plan, ...]],
    execute: Callable[[Request, tuple[Plan, ...], PlannedSource], dict[str, Any]],
) -> Kind[Request]:
    return Kind(parse, plan, execute, execute)


def _metrics(kind: str) -> Kind[MetricsRequest]:
    return _planned(
        lambda parameters, context: parse_metrics(kind, parameters, now_us=context.now_us),
        lambda request, groups_max: (choose(request, groups_max=groups_max),),
        lambda request, plans, source: execute(plans[0], source.rows(plans[0]), source.run),
    )


def _unplanned(request: Any, groups_max: int) -> tuple[Plan, ...]:
    return ()


def _parse_search(parameters: Parameters, context: Context) -> SearchRequest:
    return parse_search(parameters, context.tenants, now_us=context.now_us)


def _search(request: SearchRequest, plans: tuple[Plan, ...], source: Source) -> dict[str, Any]:
    return {"tier": "events", "reason": "events themselves are asked for", **source.page(request)}


def _parse_trace(parameters: Parameters, context: Context) -> str:
    given = collect(parameters, known=("trace_id",), repeated=frozenset())
    return parse_trace_id(one(given, "trace_id", ""))


def _trace(trace_id: str, plans: tuple[Plan, ...], source: Source) -> dict[str, Any]:
    rows = source.trace(trace_id)
    if not rows:
        raise NotFound(f"no trace {trace_id!r}", hint="An event is found within seconds of its acknowledgement.")
    return {"tier": "events", "reason": "events themselves are asked for", **assemble(trace_id, rows)}


KINDS: Final[dict[str, Kind[Any]]] = {
    "timeseries": _metrics("timeseries"),
    "aggregate": _metrics("aggregate"),
    "percentile": _planned(parse_percentile, plan_percentile, percentile),
    "histogram": _planned(parse_histogram, plan_distribution, histogram),
    "heatmap": _planned(parse_heatmap, plan_distribution, heatmap),
    "top": _planned(parse_top, plan_top, top),
    "ratio": _planned(parse_ratio, plan_ratio, ratio),
    "compare": _planned(parse_compare_question, plan_compare, compare),
    "search": Kind(_parse_search, _unplanned, _search),
    "trace": Kind(_parse_trace, _unplanned, _trace),
    "session": Kind(parse_session, _unplanned, session),
    "cost_allocation": _planned(parse_allocation, plan_allocation, allocate),
    "cohort": Kind(parse_cohort, _unplanned, cohort),
    "funnel": Kind(parse_funnel, _unplanned, funnel),
    "distinct": _planned(parse_distinct, plan_distinct, distinct),
}
KIND_NAMES: Final = (*KINDS, "as_of")
# Answered file by file, newest first, so that most are not opened.
_FROM_FILES: Final = ("search", "trace")
