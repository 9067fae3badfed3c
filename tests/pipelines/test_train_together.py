"""Entities beside each other by the road of the jobs, on real Ray, Delta and MLflow: trained, promoted, refused."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

# MLflow's own imports warn of what it depends on.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from cluster.artifacts import ModelStore, Record
    from pipelines import promote, train_together
    from pipelines.training_job import TOGETHER, order_of

from cluster.clock import SystemClock
from cluster.errors import RequestInvalid
from cluster.lake.commit import TableWriter
from cluster.lake.stage import stage
from cluster.lake.tables import TABLES
from cluster.settings import Settings
from cluster.tenancy import TenantId, TenantScope
from models.anomaly import together
from models.anomaly.neighbourhood import KIND
from models.anomaly.refusals import NotEnoughData
from tests.models.anomaly.neighbours import DAY_ROWS, ROW_US, minutes, name_of

pytestmark = [
    pytest.mark.usefixtures("cluster"),
    pytest.mark.journey,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(600),
]

ROWS = 6 * DAY_ROWS
OPTIONS = {"tenant": "acme", "from": "-8d", "holdout": "0.3", "budget": "2"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    made = replace(Settings(), data=tmp_path_factory.mktemp("hub"))
    start_us = SystemClock().now_us() // ROW_US * ROW_US - ROWS * ROW_US
    files = stage(made.lake, TABLES["rollup_1m"], minutes(ROWS, start_us=start_us), tenant_id="acme", token="acme-1")
    TableWriter(made.lake, TABLES["rollup_1m"]).append(files, {"test/acme": 1})
    return made


def learned(settings: Settings, store: ModelStore, **options: str) -> dict[str, Any]:
    order = order_of(KIND, OPTIONS | options, layout=TOGETHER, now_us=SystemClock().now_us())
    return train_together.learn(order, settings, store=store)


def test_a_fleet_is_trained_and_promoted_and_one_that_knows_less_is_not(settings: Settings, store: ModelStore) -> None:
    made = learned(settings, store)
    figures = made["figures"]
    assert figures["held_average_precision"] > 2 * figures["held_random_precision"]
    assert {"no_groups_average_precision", "job_s", "driver_peak_mb"} <= set(figures)
    verdict = promote.promote(store, settings, {"kind": KIND, "tenant": "acme", "from": "-8d"}, owner="acme")
    assert (verdict["promoted"], verdict["reason"]) == (True, "the first champion")
    scope = TenantScope.of(TenantId("acme"))
    stored = store.load(scope, KIND, owner="acme", version=made["version"])
    champion = together.load(stored.arrays, stored.configuration)
    assert name_of("search", "m") in champion.entities
    assert champion.threshold.budget_per_day == 2.0
    # Its rhythm shifted at random: usual rows are far off by it.
    arrays = dict(stored.arrays)
    arrays["usual.profile"] = arrays["usual.profile"] + np.random.default_rng(0).normal(
        0, 3, arrays["usual.profile"].shape
    )
    store.register("acme", KIND, Record({}, {}, {}), arrays=arrays, configuration=stored.configuration)
    refused = promote.promote(store, settings, {"kind": KIND, "tenant": "acme", "from": "-8d"}, owner="acme")
    assert not refused["promoted"]
    assert store.version_of("acme", KIND, "champion") == made["version"]


def test_too_few_days_and_layouts_of_others_are_refused(settings: Settings, store: ModelStore) -> None:
    with pytest.raises(NotEnoughData, match="3 are needed"):
        learned(settings, store, **{"from": "-2d"})
    with pytest.raises(NotEnoughData):
        learned(settings, store, tenant="nobody")
    with pytest.raises(RequestInvalid, match="layout"):
        order_of("autoencoder", {"layout": TOGETHER}, layout="entities", now_us=SystemClock().now_us())
