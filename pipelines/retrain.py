"""Look whether champions still know what is usual, and train and promote again where they do not.

`python -m pipelines.retrain [--set tenant=NAME] [--set age_days=7] [--set force=yes]`, also by `ray job submit` and
`llmhub job`; the hub starts it each `HUB_RETRAIN_HOURS`. For every champion the features of the last two days are
compared with those of its training time (population stability index, season and level taken off). It is trained again
when one has drifted, or when it is older than `age_days`; the new version takes over only if `promote` lets it. Prints
one JSON object; exits 0 even when a challenger was refused, since the champion then goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cluster.artifacts import Model, ModelStore
from cluster.clock import SystemClock
from cluster.errors import RequestInvalid
from cluster.lake.scan import TableReader
from cluster.lake.tables import MINUTES
from cluster.settings import Settings
from cluster.tenancy import TenantId, TenantScope, tenant_id
from models.anomaly import fleet
from models.anomaly.detector import DETECTORS
from models.anomaly.drift import Drift
from models.anomaly.refusals import NotEnoughData
from pipelines import promote, train_detector, training_job
from pipelines.joining import join_with_data
from pipelines.options import chosen
from pipelines.report import reported
from pipelines.training_job import number, order_of

OPTIONS: Final = ("tenant", "age_days", "force", "from", "workers", "steps", "holdout")
AGE_DAYS: Final = 7.0
_COMPARED: Final = "-48h"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 looked at all of them, 1 a failure, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.retrain", description=__doc__)
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help=", ".join(OPTIONS))
    try:
        options = chosen(parser.parse_args(arguments).set, OPTIONS)
        number(options, "age_days", AGE_DAYS, (0, 3_650))
        tenants = [tenant_id(options["tenant"])] if "tenant" in options else None
    except RequestInvalid as error:
        parser.error(error.message)
    return reported(lambda: _run(options, tenants))


def _run(options: Mapping[str, str], tenants: Sequence[TenantId] | None) -> dict[str, Any]:
    settings = Settings.from_environment()
    join_with_data()
    store = ModelStore.of(settings)
    known = tenants or [tenant_id(one) for one in sorted(TableReader(settings.lake, MINUTES).refresh().by_tenant)]
    return {"looked_at": [one for tenant in known for one in look(store, settings, str(tenant), options)]}


def look(store: ModelStore, settings: Settings, tenant: str, options: Mapping[str, str]) -> list[dict[str, Any]]:
    """Each champion of a tenant: what was found, and what was done about it."""
    told = []
    for kind, (version, _) in sorted(store.champions(tenant).items()):
        # Kinds that read something else than minutes have jobs of their own.
        if kind in DETECTORS:
            model = store.load(TenantScope.of(tenant_id(tenant)), kind, owner=tenant, version=version)
            told.append(_looked(store, settings, model, options))
    return told


def _looked(store: ModelStore, settings: Settings, model: Model, options: Mapping[str, str]) -> dict[str, Any]:
    report: dict[str, Any] = {"tenant": model.owner, "detector": model.kind, "version": model.version}
    if model.configuration.get("from_files"):
        return {**report, "reason": "", "note": "trained on files, which do not go on"}
    try:
        drift = drift_of(settings, model)
    except NotEnoughData as error:
        return {**report, "reason": "", "note": error.message}
    worst = float((drift.index / drift.limit).max())
    store.tag(model.owner, model.kind, model.version, {"drift": f"{worst:.3f}", "drifted": ",".join(drift.drifted)})
    report |= {"drift_of_limit": worst, "drifted": drift.drifted}
    reason = reason_of(model, drift, options, now_us=SystemClock().now_us())
    return {**report, "reason": reason, **(_trained_again(store, settings, model, options) if reason else {})}


def drift_of(settings: Settings, model: Model) -> Drift:
    """The last two days beside training time: what was off on both.

    Raises:
        NotEnoughData: too few rows to compare.
    """
    known = fleet.load(model.arrays, model.configuration)
    now_us = SystemClock().now_us()
    order = promote.order_as(model, {"tenant": model.owner, "from": _COMPARED}, now_us=now_us)
    series = training_job.read(order, settings).series
    own = {name: one for name, one in series.items() if name in known.units.names}
    if not own:
        raise NotEnoughData("no entity of the model was called in the last days")
    residuals = [known.units.residual_series(one, name) for name, one in own.items()]
    before = known.reference.compare([one.part(0, one.rows // 2) for one in residuals])
    return known.reference.compare([one.part(one.rows // 2, one.rows) for one in residuals]).lasting(before)


def reason_of(model: Model, drift: Drift, options: Mapping[str, str], *, now_us: int) -> str:
    """Why to train again; empty where there is none."""
    if options.get("force") == "yes":
        return "asked for"
    if drift.drifted:
        return f"drift of {', '.join(drift.drifted)}"
    age_days = (now_us - int(model.configuration["trained_to_us"])) / 86_400_000_000
    limit = number(options, "age_days", AGE_DAYS, (0, 3_650))
    return f"{age_days:.1f} days old" if age_days > limit else ""


def _trained_again(store: ModelStore, settings: Settings, model: Model, options: Mapping[str, str]) -> dict[str, Any]:
    told = {name: options[name] for name in ("from", "workers", "steps", "holdout") if name in options}
    now_us = SystemClock().now_us()
    layout = str(model.configuration["layout"])
    order = order_of(model.kind, {**told, "tenant": model.owner}, layout=layout, now_us=now_us)
    try:
        made = training_job.train(order, settings, fit=train_detector.fitted, store=store)
        asked = {"kind": model.kind, "tenant": model.owner, **({"from": told["from"]} if "from" in told else {})}
        judged = promote.promote(store, settings, asked, owner=model.owner)
    except NotEnoughData as error:
        return {"note": error.message}
    return {"challenger": made["version"], "promoted": judged["promoted"], "verdict": judged["reason"]}


if __name__ == "__main__":
    sys.exit(main())
