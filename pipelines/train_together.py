"""Train the detector that judges a tenant's entities beside each other: `train_detector --set kind=neighbourhood`.

It has no training steps: the fit is one pass over the rows, in the job's own process.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cluster.artifacts import ModelStore, Record
from cluster.clock import SystemClock, format_rfc3339
from cluster.errors import RequestInvalid
from cluster.settings import Settings
from models.anomaly import together
from models.anomaly.judgement import judge
from models.anomaly.neighbourhood import KIND
from models.anomaly.series import Series
from models.anomaly.together import Together
from pipelines.joining import join_with_data
from pipelines.options import chosen
from pipelines.report import reported
from pipelines.training_job import OPTIONS, TOGETHER, Order, order_of, parted, read

# Rows before the held-back ones that are read as their past: a day, of which the first half has no score.
PAST_ROWS: Final = 288
_NAMES_MAX: Final = 200
_USE: Final = (
    "Scores how unusual five minutes of an entity are, given its rhythm and what others of the tenant do at the "
    "same time. A score is a surprisal against training time, not a probability of a fault."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 registered, 1 a failure or too little data, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog=f"python -m pipelines.train_detector --set kind={KIND}")
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help=", ".join(OPTIONS))
    try:
        options = chosen(parser.parse_args(arguments).set, (*OPTIONS, "kind"))
        order = order_of(KIND, options, layout=TOGETHER, now_us=SystemClock().now_us())
    except RequestInvalid as error:
        parser.error(f"{error.message} {error.hint}")
    join_with_data()
    return reported(lambda: learn(order, Settings.from_environment()))


def learn(order: Order, settings: Settings, *, store: ModelStore | None = None) -> dict[str, Any]:
    """Fit, judge on the held-back end, register; the report of what was made.

    Args:
        store: where models go, None for the hub's MLflow.

    Raises:
        NotEnoughData, SeriesInvalid: the windows do not suffice. Unavailable: MLflow does not answer.
    """
    began_s = time.monotonic()
    gathered = read(order, settings)
    parts = parted(gathered.series, order.holdout, past_rows=PAST_ROWS)
    model = together.fit(parts.fit, budget_per_day=order.budget_per_day)
    fit_s = time.monotonic() - began_s
    figures = judge(model, parts.whole, parts.first).metrics()
    # What the others add: the same model of each entity without its groups.
    alone = together.fit(parts.fit, budget_per_day=order.budget_per_day, groups=())
    figures |= judge(alone, parts.whole, parts.first).metrics("no_groups_")
    figures |= {
        "job_s": time.monotonic() - began_s,
        "fit_s": fit_s,
        "driver_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
    }
    trained_to_us = max(one.start_us + one.rows * one.step_s * 1_000_000 for one in parts.fit.values())
    record = Record(
        _parameters(order, gathered.source),
        dict(figures),
        _card(model, gathered.source, parts.fit, trained_to_us=trained_to_us, figures=figures),
    )
    meaning = {
        "layout": TOGETHER,
        "dimensions": list(order.dimensions),
        "columns": list(model.detector.features),
        "from_files": bool(order.files),
        "trained_to_us": trained_to_us,
    }
    version = (store or ModelStore.of(settings)).register(
        order.owner, KIND, record, arrays=model.arrays(), configuration={**model.configuration(), **meaning}
    )
    return {"owner": order.owner, "kind": KIND, "version": version, "source": gathered.source, "figures": figures}


def _parameters(order: Order, source: Mapping[str, str]) -> dict[str, str]:
    told = {
        "kind": KIND,
        "tenant": order.tenant,
        "from": format_rfc3339(order.span_us[0]),
        "to": format_rfc3339(order.span_us[1]),
        "dimensions": ",".join(order.dimensions),
        "holdout": str(order.holdout),
        "budget_per_day": str(order.budget_per_day),
    }
    return told | {f"data_{name}": value for name, value in source.items()}


def _card(
    model: Together,
    source: Mapping[str, str],
    series: Mapping[str, Series],
    *,
    trained_to_us: int,
    figures: Mapping[str, float],
) -> dict[str, Any]:
    return {
        "format": 1,
        "use": _USE,
        "kind": KIND,
        "features": list(model.detector.features),
        "step_s": model.detector.step_s,
        "entities": list(model.entities[:_NAMES_MAX]),
        "groups": [name for name, _ in model.detector.groups],
        "data": dict(source),
        "trained_from": format_rfc3339(next(iter(series.values())).start_us),
        "trained_to": format_rfc3339(trained_to_us),
        "threshold": model.threshold.value,
        "budget_per_day": model.threshold.budget_per_day,
        "figures": dict(figures),
    }
