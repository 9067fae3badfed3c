"""What every training job does around the fit: read windows, hold back the end, judge, and register a challenger."""

from __future__ import annotations

import argparse
import re
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from cluster.artifacts import SHARED, ModelStore, Record
from cluster.clock import SystemClock, format_rfc3339
from cluster.errors import RequestInvalid
from cluster.settings import Settings
from cluster.tenancy import DEFAULT_TENANT, TenantScope, tenant_id
from models.anomaly import detector, together
from models.anomaly.calibrated import fitting_rows
from models.anomaly.features import ENTITY_DIMENSIONS, STEP_S
from models.anomaly.fleet import BUDGET_PER_DAY, Fleet, Units, assemble, residuals_of
from models.anomaly.judgement import judge
from models.anomaly.scores import Fitted
from models.anomaly.series import Series, told_features
from models.anomaly.side_by_side import FLEET, columns_of, side_by_side
from models.anomaly.sieve import sieve
from models.query.times import parse_range
from pipelines.fitting import Outcome, Work
from pipelines.joining import join_with_data
from pipelines.model_card import card_of, plots_of
from pipelines.options import chosen
from pipelines.report import reported
from pipelines.windows import Gathered, from_files, from_rollups

OPTIONS: Final = (
    *("tenant", "owner", "from", "to", "dimensions", "files", "entities", "step_s", "layout", "seasons", "sieve"),
    *("seed", "workers", "steps", "holdout", "budget", "name", "checkpoint_every"),
)
# Three weekends and more after a fifth is held back: with fewer, the drift monitor takes a weekend for a drift.
_FROM: Final = "-28d"
LAYOUTS: Final = ("entities", "fleet")
# Of detectors that judge entities beside each other: a series each, in rows of five minutes.
TOGETHER: Final = "together"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,80}")
# Rows before the held-back ones that are read as their past.
_PAST_ROWS: Final = 64


@dataclass(frozen=True, slots=True)
class Order:
    """A training job as it was asked for.

    Attributes:
        owner: whose model it becomes; only this tenant's rows are read, also for a shared one.
        span_us: [from, to).
        files: folder of series to train on in place of the tenant's roll-ups.
        layout: one series an entity, all entities side by side in one, or TOGETHER.
        holdout: share of the range, at its end, that nothing is fitted on.
    """

    kind: str
    tenant: str
    owner: str
    span_us: tuple[int, int]
    dimensions: tuple[str, ...]
    files: str
    entities: tuple[str, ...]
    step_s: int
    layout: str
    seasons: bool
    holdout: float
    budget_per_day: float
    work: Work
    # Leave rows out of training that are surely no usual ones.
    sieve: bool = True
    # Features, or `entity|feature` of the layout `fleet`, as a model has them; () chooses those that are told of.
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Parted:
    """Series up to the held-back time, whole, and where that begins in each."""

    fit: dict[str, Series]
    whole: dict[str, Series]
    first: dict[str, int]


Fit = Callable[[Order, Mapping[str, Series], Path], Outcome]


def run(kind: str | None, arguments: Sequence[str] | None, *, program: str, layout: str, fit: Fit) -> int:
    """A job from its command line; exit code 0 registered, 1 failed or not enough data, 2 wrong usage.

    Args:
        kind: of the detector; None lets `--set kind=` say it.
        layout: where `--set layout=` does not say.
    """
    parser = argparse.ArgumentParser(prog=f"python -m pipelines.{program}")
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help=", ".join(OPTIONS))
    pairs = parser.parse_args(arguments).set
    try:
        names = OPTIONS if kind else (*OPTIONS, "kind")
        options = chosen(pairs, names, needed=() if kind else ("kind",))
        order = order_of(kind or options["kind"], options, layout=layout, now_us=SystemClock().now_us())
    except RequestInvalid as error:
        parser.error(f"{error.message} {error.hint}")
    join_with_data()
    return reported(lambda: train(order, Settings.from_environment(), fit=fit))


def train(order: Order, settings: Settings, *, fit: Fit, store: ModelStore | None = None) -> dict[str, Any]:
    """Train, judge and register; the report of what was made.

    Args:
        store: where models go, None for the hub's MLflow.

    Raises:
        NotEnoughData, SeriesInvalid: the windows do not suffice. Unavailable: MLflow does not answer.
    """
    began_s = time.monotonic()
    gathered = read(order, settings)
    parts = parted(gathered.series, order.holdout)
    if order.sieve:
        parts = replace(parts, fit=sieve(Units.fit(parts.fit, seasons=order.seasons), parts.fit))
    units = Units.fit(parts.fit, seasons=order.seasons)
    residuals = residuals_of(units, parts.fit)
    outcome = fit(order, residuals, settings.data / "training")
    fleet = assemble(units, outcome.head, parts.fit, budget_per_day=order.budget_per_day)
    judgement = judge(fleet, parts.whole, parts.first)
    # The bar: what costs nothing, and the same network without its graph.
    bars: dict[str, Fitted] = {"pca": detector.fit("pca", list(residuals.values()), seed=order.work.seed)}
    if outcome.twin is not None:
        bars["no_edges"] = outcome.twin
    beside: dict[str, float] = {}
    for name, head in bars.items():
        bar = assemble(units, head, parts.fit, budget_per_day=order.budget_per_day)
        beside |= judge(bar, parts.whole, parts.first).metrics(f"{name}_")
    seconds = time.monotonic() - began_s
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    figures: dict[str, float | Sequence[float]] = {
        **judgement.metrics(),
        **beside,
        "job_s": seconds,
        "fit_s": outcome.seconds,
        "driver_peak_mb": peak_bytes / 1e6,
        "worker_peak_mb": outcome.peak_bytes / 1e6,
        "resumed_at_step": float(outcome.resumed_at),
    }
    if outcome.losses:
        figures["loss"] = outcome.losses
    card = card_of(gathered.source, fleet, parts.fit, whole=parts.whole, figures=figures)
    record = Record(_parameters(order, gathered), figures, card, plots_of(fleet, parts.whole, outcome.losses))
    trained_to_us = max(one.start_us + one.rows * one.step_s * 1_000_000 for one in parts.fit.values())
    calibrated_from_us = min(one.start_us + fitting_rows(one) * one.step_s * 1_000_000 for one in parts.fit.values())
    times = {"calibrated_from_us": calibrated_from_us, "trained_to_us": trained_to_us}
    configuration = {**fleet.configuration(), **_meaning(order, fleet), **times}
    version = (store or ModelStore.of(settings)).register(
        order.owner, order.kind, record, arrays=fleet.arrays(), configuration=configuration
    )
    told = {name: value for name, value in figures.items() if isinstance(value, float)}
    return {"owner": order.owner, "kind": order.kind, "version": version, "source": gathered.source, "figures": told}


def read(order: Order, settings: Settings) -> Gathered:
    """The windows an order is about."""
    if order.files:
        gathered = from_files(Path(order.files), entities=order.entities, step_s=order.step_s)
    else:
        scope = TenantScope.of(tenant_id(order.tenant))
        step_s = together.STEP_S if order.layout == TOGETHER else STEP_S
        gathered = from_rollups(settings.lake, scope, order.span_us, order.dimensions, step_s=step_s)
    if order.layout == "fleet":
        one = side_by_side(gathered.series, order.columns or columns_of(gathered.series))
        return Gathered({FLEET: one}, gathered.source)
    features = order.columns or told_features(list(gathered.series.values()))
    return Gathered({name: one.only(features) for name, one in gathered.series.items()}, gathered.source)


def parted(series: Mapping[str, Series], holdout: float, *, past_rows: int = _PAST_ROWS) -> Parted:
    """Hold back the last share of the rows of each series; those before it, as its past, are read again."""
    cut = {name: one.rows - int(one.rows * holdout) for name, one in series.items()}
    return Parted(
        {name: one.part(0, cut[name]) for name, one in series.items()},
        {name: one.part(cut[name] - past_rows, one.rows) for name, one in series.items()},
        {name: min(past_rows, cut[name]) for name in series},
    )


def order_of(kind: str, options: Mapping[str, str], *, layout: str, now_us: int) -> Order:
    """The order that `--set` options make.

    Raises:
        RequestInvalid: a value does not fit.
    """
    tenant = tenant_id(options.get("tenant", DEFAULT_TENANT))
    span = parse_range(options.get("from", _FROM), options.get("to", "now"), now_us=now_us)
    name = options.get("name", f"{kind}-{tenant}-{now_us // 1_000_000}")
    if not _NAME.fullmatch(name):
        raise RequestInvalid(f"--set name={name[:100]}: use letters, digits, '-', '_' and '.'")
    chosen_layout = options.get("layout", layout)
    if "layout" in options and chosen_layout not in LAYOUTS:
        raise RequestInvalid(f"--set layout={chosen_layout[:40]}: one of {', '.join(LAYOUTS)}")
    work = Work(
        kind,
        name,
        seed=int(number(options, "seed", 1, (0, 2**31))),
        workers=int(number(options, "workers", 1, (1, 64))),
        steps=int(number(options, "steps", 0, (1, 1_000_000))) if "steps" in options else None,
        checkpoint_every=int(number(options, "checkpoint_every", 100, (1, 100_000))),
    )
    files = options.get("files", "")
    owner = options.get("owner", tenant)
    return Order(
        kind=kind,
        tenant=tenant,
        owner=owner if owner == SHARED else tenant_id(owner),
        span_us=(span.from_us, span.to_us),
        dimensions=tuple(options["dimensions"].split(",")) if "dimensions" in options else ENTITY_DIMENSIONS,
        files=files,
        entities=tuple(options["entities"].split(",")) if "entities" in options else (),
        step_s=int(number(options, "step_s", 60, (1, 86_400))),
        layout=chosen_layout,
        # Of files nobody knows what time of the day their first row is.
        seasons=options.get("seasons", "no" if files else "yes") == "yes",
        holdout=number(options, "holdout", 0.2, (0.05, 0.8)),
        budget_per_day=number(options, "budget", BUDGET_PER_DAY, (0.01, 100)),
        work=work,
        sieve=options.get("sieve", "no" if files else "yes") == "yes",
    )


def number(options: Mapping[str, str], name: str, default: float, bounds: tuple[float, float]) -> float:
    """A number among the options.

    Raises:
        RequestInvalid: it is none, or out of bounds.
    """
    text = options.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not bounds[0] <= value <= bounds[1]:
        raise RequestInvalid(f"--set {name}={text[:40]}: a number from {bounds[0]} to {bounds[1]}")
    return value


def _parameters(order: Order, gathered: Gathered) -> dict[str, str]:
    told = {
        "kind": order.kind,
        "tenant": order.tenant,
        "from": format_rfc3339(order.span_us[0]),
        "to": format_rfc3339(order.span_us[1]),
        "layout": order.layout,
        "dimensions": ",".join(order.dimensions),
        "seasons": str(order.seasons),
        "sieve": str(order.sieve),
        "holdout": str(order.holdout),
        "budget_per_day": str(order.budget_per_day),
        **{name: str(getattr(order.work, name)) for name in ("seed", "workers", "steps")},
    }
    return told | {f"data_{name}": value for name, value in gathered.source.items()}


def _meaning(order: Order, fleet: Fleet) -> dict[str, Any]:
    """What a reader of windows needs to make the same ones."""
    return {
        "layout": order.layout,
        "dimensions": list(order.dimensions),
        "columns": list(fleet.units.features),
        "from_files": bool(order.files),
    }
