"""A model's life by the road of the jobs, on real Ray, Delta and MLflow: trained, promoted, refused, trained again."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

# MLflow's own imports warn of what it depends on.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from cluster.artifacts import ModelStore, Record
    from pipelines import promote, retrain, train_detector, training_job

from cluster.clock import SystemClock
from cluster.contract import event
from cluster.settings import Settings
from cluster.tenancy import TenantId, TenantScope
from models.aggregate.rollup import MINUTE_US
from models.anomaly.refusals import NotEnoughData
from tests.models.aggregate.events import Row
from tests.pipelines.test_rebuild_rollups import seal

pytestmark = [
    pytest.mark.usefixtures("cluster"),
    pytest.mark.journey,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(600),
]

MINUTES = 1_500
_COUNTED = event.COUNTED_REQUEST | event.COUNTED_TOKENS | event.COUNTED_LATENCY
ASKED = {"tenant": "acme", "from": "-25h", "seasons": "no"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    made = Settings(data=tmp_path_factory.mktemp("hub"))
    now_us = SystemClock().now_us() // MINUTE_US * MINUTE_US
    rows = {tenant: _calls(now_us, tenant, seed) for seed, tenant in enumerate(("acme", "globex"))}
    seal(made.lake, 1, rows)
    return made


def _calls(now_us: int, service: str, seed: int) -> list[Row]:
    source = np.random.default_rng(seed)
    rows: list[Row] = []
    for minute in range(MINUTES):
        for number in range(int(source.integers(2, 5))):
            rows.append(
                {
                    "occurred_at": now_us - (MINUTES - minute) * MINUTE_US + number,
                    "kind": "gateway.request",
                    "counted": _COUNTED,
                    "service": service,
                    "model": "m",
                    "latency_ms": float(source.lognormal(6, 0.3)),
                    "input_tokens": int(source.integers(800, 1_200)),
                    "output_tokens": int(source.integers(80, 120)),
                }
            )
    return rows


def trained(settings: Settings, store: ModelStore, kind: str, **options: str) -> dict[str, Any]:
    order = training_job.order_of(kind, ASKED | options, layout="entities", now_us=SystemClock().now_us())
    return training_job.train(order, settings, fit=train_detector.fitted, store=store)


def test_a_model_is_trained_promoted_refused_and_trained_again(settings: Settings, store: ModelStore) -> None:
    first = trained(settings, store, "pca")
    assert first["source"]["version"] == "1"
    assert first["figures"]["held_average_precision"] > 2 * first["figures"]["held_random_precision"]
    scope = TenantScope.of(TenantId("acme"))
    model = store.load(scope, "pca", owner="acme", version=first["version"])
    # Only this tenant's rows were read.
    assert [name for name in model.configuration["names"] if name] == ["service=acme,provider=,model=m,operation="]
    options = {"kind": "pca", "tenant": "acme", "from": "-25h"}
    assert promote.promote(store, settings, options, owner="acme")["promoted"]
    # One that was fitted on noise of another kind knows less of what is usual.
    worse = _spoiled(model)
    number = store.register("acme", "pca", Record({}, {}, {}), **worse)
    verdict = promote.promote(store, settings, options, owner="acme")
    assert not verdict["promoted"]
    assert store.version_of("acme", "pca", "champion") == first["version"]
    [tags] = [one.tags for one in store.versions(scope) if one.version == number]
    assert tags["refused"] == verdict["reason"]
    [kept] = retrain.look(store, settings, "acme", {"from": "-25h"})
    assert (kept["version"], kept["reason"]) == (first["version"], "")
    [again] = retrain.look(store, settings, "acme", {"from": "-25h", "force": "yes"})
    assert (again["reason"], again["promoted"]) == ("asked for", True)


def _spoiled(model: Any) -> dict[str, Any]:
    """The same model with its scales gone: every usual row is far off by it, and no fault stands out."""
    arrays = dict(model.arrays)
    generator = np.random.default_rng(0)
    arrays["units.centre"] = arrays["units.centre"] + generator.normal(0, 30, arrays["units.centre"].shape)
    return {
        "arrays": {**arrays, "units.centre": arrays["units.centre"].astype(np.float32)},
        "configuration": model.configuration,
    }


def test_too_little_data_is_said(settings: Settings, store: ModelStore) -> None:
    with pytest.raises(NotEnoughData, match="120 are needed"):
        trained(settings, store, "pca", **{"from": "-60m"})
    with pytest.raises(NotEnoughData):
        trained(settings, store, "pca", tenant="nobody")


def test_a_network_is_trained_with_the_bar_beside_it(settings: Settings, store: ModelStore) -> None:
    report = trained(settings, store, "autoencoder", steps="20", checkpoint_every="10", workers="1")
    assert report["figures"]["resumed_at_step"] == 0
    assert report["figures"]["worker_peak_mb"] > 0
    assert "pca_average_precision" in report["figures"]
