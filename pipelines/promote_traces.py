"""A challenger of traces beside its champion, on traces that neither was fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow.compute as pc

from cluster.artifacts import ModelStore
from cluster.clock import SystemClock, format_rfc3339
from cluster.errors import NotFound
from cluster.settings import Settings
from cluster.tenancy import DEFAULT_TENANT, TenantScope, tenant_id
from models.anomaly import trace_model
from models.anomaly.trace_judgement import judge, refusal
from pipelines.train_traces import parted_at, read
from pipelines.training_job import order_of


def promote_traces(store: ModelStore, settings: Settings, options: Mapping[str, str], *, owner: str) -> dict[str, Any]:
    """Move the alias, or tag the version with the reason not to.

    Raises:
        NotFound: there is no challenger. NotEnoughData: nothing is held back from both.
    """
    kind = options["kind"]
    tenant = options.get("tenant", DEFAULT_TENANT)
    scope = TenantScope.of(tenant_id(tenant))
    number = int(options["version"]) if "version" in options else store.version_of(owner, kind, "challenger")
    if number is None:
        raise NotFound(f"{kind} of {owner} has no challenger", hint="Train one first.")
    held = store.version_of(owner, kind, "champion")
    models = [store.load(scope, kind, owner=owner, version=number)]
    if held not in (None, number):
        models.append(store.load(scope, kind, owner=owner, version=int(held or 0)))
    told = {name: options[name] for name in ("tenant", "from", "to", "files") if name in options}
    spans, _ = read(order_of(kind, told, layout="entities", now_us=SystemClock().now_us()), settings)
    from_us = max(int(one.configuration["trained_to_us"]) for one in models)
    _, late = parted_at(spans, from_us)
    judged = [judge(trace_model.load(kind, one.arrays, one.configuration), late) for one in models]
    theirs = judged[1] if len(judged) > 1 else None
    why = refusal(judged[0], theirs)
    tags = {"judged_average_precision": f"{judged[0].average_precision:.6f}"}
    if why:
        store.tag(owner, kind, number, {**tags, "refused": why})
    else:
        store.promote(owner, kind, number, tags=tags)
    return {
        "promoted": not why,
        "reason": why or ("no worse than the champion" if theirs else "the first champion"),
        "challenger": {"version": number, **judged[0].metrics("")},
        "champion": None if theirs is None else {"version": held, **theirs.metrics("")},
        "held_back_from": format_rfc3339(from_us),
        "held_back_spans": int(pc.count(late["span_id"]).as_py()),
    }
