"""Let a challenger take over from the champion, or say why not: `--set kind=NAME [--set tenant=NAME]`.

Both models are judged on the same rows that neither was fitted on, with the same planted faults, round after round. A
challenger that is not surely about as good is refused: the alias stays, the reason becomes a tag of the version, and
the job exits with 1. `--set rollback=yes` brings the champion before this one back, `--set version=N` names another
challenger. Also through `ray job submit` and `llmhub job`. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from cluster.artifacts import CHALLENGER, CHAMPION, Model, ModelStore
from cluster.clock import SystemClock, format_rfc3339
from cluster.errors import NotFound, RequestInvalid
from cluster.settings import Settings
from cluster.tenancy import DEFAULT_TENANT, TenantScope, tenant_id
from models.anomaly import fleet, together
from models.anomaly.fleet import POOLED
from models.anomaly.judgement import Judgement, judge, refusal, spread_of
from models.anomaly.neighbourhood import KIND as NEIGHBOURHOOD
from models.anomaly.refusals import NotEnoughData
from models.anomaly.series import Series
from models.anomaly.trace_detector import TRACE_DETECTORS
from pipelines.joining import join_with_data
from pipelines.options import chosen
from pipelines.promote_traces import promote_traces
from pipelines.report import reported
from pipelines.train_together import PAST_ROWS as TOGETHER_PAST_ROWS
from pipelines.training_job import Order, order_of, read

OPTIONS: Final = ("kind", "tenant", "owner", "version", "rollback", "from", "to", "files", "entities", "step_s")
_PAST_ROWS: Final = 64


@dataclass(frozen=True, slots=True)
class Road:
    """How models of series are read and judged.

    Attributes:
        past_rows: read before the held-back ones, as their past.
        budget_per_day: alarms for one entity that a model was given.
    """

    load: Callable[..., Any]
    budget_per_day: Callable[[Any], float]
    past_rows: int


FLEET_ROAD: Final = Road(fleet.load, lambda model: model.threshold(POOLED).budget_per_day, _PAST_ROWS)
TOGETHER_ROAD: Final = Road(
    together.load,
    lambda model: model.threshold.budget_per_day / len(model.entities),
    TOGETHER_PAST_ROWS,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 promoted or rolled back, 1 refused or failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.promote", description=__doc__)
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help=", ".join(OPTIONS))
    try:
        options = chosen(parser.parse_args(arguments).set, OPTIONS, needed=("kind",))
        tenant = tenant_id(options.get("tenant", DEFAULT_TENANT))
        owner = options.get("owner", tenant)
    except RequestInvalid as error:
        parser.error(error.message)
    return reported(lambda: _run(options, owner), lambda report: bool(report["promoted"]))


def _run(options: Mapping[str, str], owner: str) -> dict[str, Any]:
    settings = Settings.from_environment()
    store = ModelStore.of(settings)
    if options.get("rollback") == "yes":
        return {"promoted": True, "champion": store.roll_back(owner, options["kind"]), "rolled_back": True}
    join_with_data()
    decided = promote_traces if options["kind"] in TRACE_DETECTORS else promote
    return decided(store, settings, options, owner=owner)


def promote(store: ModelStore, settings: Settings, options: Mapping[str, str], *, owner: str) -> dict[str, Any]:
    """Judge the challenger beside the champion and move the alias, or tag the version with the reason not to.

    Raises:
        NotFound: there is no challenger. NotEnoughData: nothing is held back from both.
    """
    kind = options["kind"]
    scope = TenantScope.of(tenant_id(options.get("tenant", DEFAULT_TENANT)))
    number = int(options["version"]) if "version" in options else store.version_of(owner, kind, CHALLENGER)
    if number is None:
        raise NotFound(f"{kind} of {owner} has no challenger", hint="Train one first.")
    road = TOGETHER_ROAD if kind == NEIGHBOURHOOD else FLEET_ROAD
    challenger = store.load(scope, kind, owner=owner, version=number)
    held = store.version_of(owner, kind, CHAMPION)
    champion = None if held in (None, number) else store.load(scope, kind, owner=owner, version=int(held or 0))
    judgements, span_us = _judged(road, settings, options, [challenger, *([champion] if champion else [])])
    budget = road.budget_per_day(road.load(challenger.arrays, challenger.configuration))
    ours, theirs = judgements[0], judgements[1] if champion else None
    why = refusal(ours, theirs, budget_per_day=budget)
    report = {
        "promoted": not why,
        "reason": why or "no worse than the champion" if champion else why or "the first champion",
        "challenger": {"version": challenger.version, **ours.metrics("")},
        "champion": None if champion is None or theirs is None else {"version": champion.version, **theirs.metrics("")},
        "held_back": [format_rfc3339(at) for at in span_us],
    }
    tags = {"judged_average_precision": f"{ours.average_precision:.6f}", "judged_recall": f"{ours.recall:.6f}"}
    if why:
        store.tag(owner, kind, challenger.version, {**tags, "refused": why})
    else:
        store.promote(owner, kind, challenger.version, tags=tags)
    return report


def _judged(
    road: Road, settings: Settings, options: Mapping[str, str], models: Sequence[Model]
) -> tuple[list[Judgement], tuple[int, int]]:
    """Each model on the rows that none of them was fitted on."""
    order = order_as(models[0], options, now_us=SystemClock().now_us())
    gathered = read(order, settings)
    from_us = max(int(one.configuration["trained_to_us"]) for one in models)
    whole, first = held_back(gathered.series, from_us, past_rows=road.past_rows)
    judgements = []
    loaded = [road.load(model.arrays, model.configuration) for model in models]
    # The champion's, where there is one: a challenger with wide units would be given faults that are easy to see.
    spread = spread_of(loaded[-1])
    for model, judged in zip(models, loaded, strict=True):
        own = {name: one for name, one in whole.items() if list(one.features) == model.configuration["features"]}
        if not own:
            raise NotEnoughData(f"the rows of now are not those that version {model.version} reads")
        judgements.append(judge(judged, own, first, compared=True, spread=spread))
    last = max(one.start_us + one.rows * one.step_s * 1_000_000 for one in whole.values())
    return judgements, (from_us, last)


def held_back(
    series: Mapping[str, Series], from_us: int, *, past_rows: int = _PAST_ROWS
) -> tuple[dict[str, Series], dict[str, int]]:
    """The rows from an instant on, with some of their past, and where they begin.

    Raises:
        NotEnoughData: there are none.
    """
    whole, first = {}, {}
    for name, one in series.items():
        start = (from_us - one.start_us) // (one.step_s * 1_000_000)
        if start < one.rows:
            whole[name] = one.part(start - past_rows, one.rows)
            first[name] = max(0, start - max(0, start - past_rows))
    if not whole:
        raise NotEnoughData(
            f"no row is later than {format_rfc3339(from_us)}, up to which the models were fitted",
            hint="Wait for more data, or train with a larger holdout.",
        )
    return whole, first


def order_as(model: Model, options: Mapping[str, str], *, now_us: int) -> Order:
    """The order that reads windows as the model was trained on."""
    told = {name: options[name] for name in ("tenant", "from", "to", "files", "entities", "step_s") if name in options}
    order = order_of(model.kind, told, layout=str(model.configuration["layout"]), now_us=now_us)
    return replace(
        order,
        dimensions=tuple(model.configuration["dimensions"]),
        columns=tuple(model.configuration["columns"]),
    )


if __name__ == "__main__":
    sys.exit(main())
