"""A detector of traces from files to champion: trained on real Ray Train, registered, judged, promoted or refused."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

# MLflow's own imports warn of what it depends on.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from cluster.artifacts import ModelStore

from cluster.settings import Settings
from cluster.tenancy import DEFAULT_TENANT, TenantScope, tenant_id
from models.anomaly import trace_model
from models.anomaly.refusals import NotEnoughData
from pipelines import train_gnn
from pipelines.promote_traces import promote_traces
from pipelines.train_traces import learn
from pipelines.training_job import order_of
from tests.bench import trace_faults

NOW_US = 1_800_000_000_000_000

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.filterwarnings("ignore")]


@pytest.mark.journey
def test_traces_become_a_champion_that_scores(tmp_path: Path) -> None:
    spans = trace_faults.usual("traces", 700, seed=1).spans
    pq.write_table(spans, tmp_path / "spans.parquet")
    settings = replace(Settings(), data=tmp_path / "hub")
    store = ModelStore(f"sqlite:///{tmp_path}/m.db", tmp_path, artifacts=str(tmp_path / "artifacts"))
    options = {"files": str(tmp_path), "steps": "20", "checkpoint_every": "8", "name": "t"}
    report = learn(order_of("gnn_trace", options, layout="entities", now_us=NOW_US), settings, store=store)
    assert {"held_average_precision", "no_edges_recall", "rarity_average_precision"} <= set(report["figures"])
    told = promote_traces(store, settings, {"kind": "gnn_trace", "files": str(tmp_path)}, owner=DEFAULT_TENANT)
    # So few traces cannot keep what the threshold promises; then it is refused with that reason.
    assert told["promoted"] or "promised" in told["reason"], told
    assert told["held_back_spans"] > 500
    scope = TenantScope.of(tenant_id(DEFAULT_TENANT))
    stored = store.load(scope, "gnn_trace", owner=DEFAULT_TENANT, version=report["version"])
    champion = trace_model.load("gnn_trace", stored.arrays, stored.configuration)
    assert len(trace_model.answers(champion, spans.slice(0, 50))) > 1


def test_without_spans_nothing_is_trained(tmp_path: Path) -> None:
    pq.write_table(trace_faults.usual("traces", 2, seed=1).spans.slice(0, 0), tmp_path / "spans.parquet")
    order = order_of("gnn_trace", {"files": str(tmp_path)}, layout="entities", now_us=NOW_US)
    with pytest.raises(NotEnoughData, match="no spans"):
        learn(order, replace(Settings(), data=tmp_path))
    with pytest.raises(NotEnoughData, match="no spans"):
        learn(order_of("gnn_trace", {}, layout="entities", now_us=NOW_US), replace(Settings(), data=tmp_path))


def test_an_unknown_graph_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert train_gnn.main(["--set", "graph=words"]) == 2
    assert "traces" in capsys.readouterr().err
    assert set(train_gnn.GRAPHS) == {"metrics", "traces"}
