"""The score route over a real registry: answers with the version, exchanges and refusals."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# MLflow's own imports warn of what it depends on.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from cluster.artifacts import ModelStore, Record

from cluster.clock import format_rfc3339
from cluster.metadata.feedback import Verdict
from cluster.tenancy import DEFAULT_TENANT, TenantId
from models.anomaly import detector, fleet, together, trace_detector, trace_model
from models.anomaly.fleet import Units
from serving.scorer import Scorer
from tests.bench import trace_faults
from tests.models.anomaly.neighbours import DAY_ROWS, minutes, series_of_rows
from tests.models.anomaly.synthetic import series_of, usual
from tests.serving.conftest import SMALL, Hub, start

pytestmark = pytest.mark.filterwarnings("ignore")


class Learned:
    """A hub with a scorer, and the registry behind it."""

    def __init__(self, hub: Hub, store: ModelStore) -> None:
        self.hub, self.store = hub, store
        self.key = hub.admin

    def register(self, owner: str = "default", seed: int = 1) -> int:
        series = {"a": series_of(usual(600, seed=seed)), "b": series_of(usual(600, seed=seed + 1))}
        units = Units.fit(series, seasons=False)
        head = detector.fit("pca", list(fleet.residuals_of(units, series).values()), seed=1)
        made = fleet.assemble(units, head, series)
        record = Record({}, {"held_recall": 0.5}, {})
        return self.store.register(owner, "pca", record, arrays=made.arrays(), configuration=made.configuration())

    def score(self, body: Any, key: str = "") -> Any:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        return self.hub.call("POST", "/api/v1/score", key=key or self.key, content=content, headers=headers)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Learned]:
    folder = tmp_path_factory.mktemp("hub")
    starting = start(replace(SMALL, data=folder))
    hub = next(starting)
    store = ModelStore(f"sqlite:///{folder}/m.db", folder, artifacts=str(folder / "artifacts"))
    scorer = Scorer(hub.settings, store=store, look_every_s=0.0)
    hub.app.state.scorer = scorer
    yield Learned(hub, store)
    scorer.close()
    next(starting, None)


def window(rows: int = 40, seed: int = 5) -> list[list[float]]:
    values: list[list[float]] = usual(rows, seed=seed).tolist()
    return values


def test_scores_name_their_version_and_a_rollback_brings_the_same_bits_back(learned: Learned) -> None:
    learned.hub.run(_exchanges(learned))
    told = learned.hub.call("GET", "/api/v1/detectors", key=learned.key).json()["detectors"]
    pca = next(one for one in told if one["detector"] == "pca")
    assert (pca["state"], pca["champion"]["version"], len(pca["versions"])) == ("serving", 1, 2)
    assert pca["champion"]["figures"] == {"held_recall": 0.5}


async def _exchanges(learned: Learned) -> None:
    """All on one loop: a champion is exchanged beside the requests that go on meanwhile."""
    body = {"detector": "pca", "entity": ["a", "b"], "windows": [window(), window(seed=6)]}

    async def score() -> Any:
        return await learned.hub.send("POST", "/api/v1/score", key=learned.key, json=body)

    async def of_version(version: int) -> Any:
        for _ in range(500):
            answer = await score()
            assert answer.status_code == 200
            if answer.json()["version"] == version:
                return answer.json()["scores"]
        raise AssertionError(f"version {version} never answered")

    refused = await score()
    assert (refused.status_code, refused.json()["code"]) == (409, "not_trained")
    learned.store.promote("default", "pca", learned.register())
    first = await of_version(1)
    assert [one["state"] for one in first] == ["scored", "scored"]
    learned.store.promote("default", "pca", learned.register(seed=11))
    assert await of_version(2) != first
    learned.store.roll_back("default", "pca")
    assert await of_version(1) == first


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "body_unreadable"),
        (b'{"detector":"pca","windows":[[[NaN]]]}', 400, "body_unreadable"),
        ({"detector": "pca"}, 422, "request_invalid"),
        ({"detector": "pca", "windows": [[["1"]]]}, 422, "request_invalid"),
        ({"detector": "pca", "windows": [], "extra": 1}, 422, "request_invalid"),
        ({"detector": "pca", "windows": []}, 422, "series_invalid"),
        ({"detector": "pca", "windows": [[[1.0, 2.0], [1.0]]]}, 422, "series_invalid"),
        ({"detector": "pca", "windows": [[[1.0, 2.0]]]}, 422, "series_invalid"),
        ({"detector": "pca", "windows": [[[1e39] * 6]]}, 422, "series_invalid"),
        ({"detector": "nobody", "windows": [[[1.0]]]}, 422, "detector_unknown"),
        ({"detector": "pca", "entity": "new", "windows": [window()]}, 422, "not_enough_data"),
        ({"detector": "pca", "features": list("abcdef"), "windows": [window()]}, 422, "series_invalid"),
        ({"detector": "pca", "start": "yesterday-ish", "windows": [window()]}, 422, "request_invalid"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_its_reason(learned: Learned, body: Any, status: int, code: str) -> None:
    if learned.store.version_of("default", "pca", "champion") is None:
        learned.store.promote("default", "pca", learned.register())
    answer = learned.score(body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


def test_missing_values_have_a_reason_and_constants_a_score(learned: Learned) -> None:
    if learned.store.version_of("default", "pca", "champion") is None:
        learned.store.promote("default", "pca", learned.register())
    missing, constant = [[None] * 6] * 40, [[10.0] * 6] * 40
    scores = learned.score({"detector": "pca", "windows": [missing, constant, constant]}).json()["scores"]
    assert (scores[0]["state"], scores[0]["score"]) == ("not_enough_data", None)
    assert "missing" in scores[0]["reason"]
    assert np.isfinite(scores[1]["score"])
    assert scores[1] == scores[2]


def test_traces_are_scored_by_their_graphs(learned: Learned) -> None:
    traces = trace_faults.usual("traces", 400, seed=1).spans
    made = trace_model.with_threshold(trace_detector.fit("trace_rarity", traces, seed=1))
    version = learned.store.register(
        "default", "trace_rarity", Record({}, {}, {}), arrays=made.arrays(), configuration=made.configuration()
    )
    learned.store.promote("default", "trace_rarity", version)
    span = {"span_id": "1", "operation": "invoke_agent", "service": "agent", "occurred_at": 0, "latency_ms": 5}
    alone = {"trace_id": "t", "spans": [span]}
    ring = {"trace_id": "r", "spans": [{**span, "parent_span_id": "1"}]}
    told = learned.score({"detector": "trace_rarity", "traces": [alone, ring]}).json()
    assert told["version"] == version
    assert [one["state"] for one in told["scores"]] == ["scored", "not_scored"]
    assert told["scores"][0]["drivers"][0]["span"]["operation"] == "invoke_agent"
    for body in ([], [{"trace_id": "t"}], [alone, alone]):
        answer = learned.score({"detector": "trace_rarity", "traces": body})
        assert (answer.status_code, answer.json()["code"]) == (422, "spans_invalid")
    answer = learned.score({"detector": "gnn", "traces": [alone]})
    assert (answer.status_code, answer.json()["code"]) == (409, "not_trained")


def test_entities_are_scored_beside_each_other(learned: Learned) -> None:
    table = minutes(5 * DAY_ROWS)
    made = together.fit(series_of_rows(0, 4 * DAY_ROWS, table), budget_per_day=1.0)
    version = learned.store.register(
        "default", made.kind, Record({}, {}, {}), arrays=made.arrays(), configuration=made.configuration()
    )
    learned.store.promote("default", made.kind, version)
    day = series_of_rows(4 * DAY_ROWS, 4 * DAY_ROWS + 200, table, made.detector.features)
    windows = [[[None if np.isnan(one) else float(one) for one in row] for row in day[name].values] for name in day]
    start = format_rfc3339(next(iter(day.values())).start_us)
    body = {"detector": made.kind, "entity": list(day), "start": start, "windows": windows}
    told = learned.score(body).json()
    assert told["version"] == version
    expected = [made.score(day)[name].score[-1] for name in day]
    assert [one["score"] for one in told["scores"]] == pytest.approx(expected, rel=1e-6)
    assert {one["threshold"] for one in told["scores"]} == {made.threshold.level}
    short = learned.score({**body, "windows": [one[:100] for one in windows]})
    assert (short.status_code, short.json()["code"]) == (422, "not_enough_data")
    twice = learned.score({**body, "entity": [next(iter(day))] * 4})
    assert (twice.status_code, twice.json()["code"]) == (422, "series_invalid")
    detectors = learned.hub.call("GET", "/api/v1/detectors", key=learned.key).json()["detectors"]
    assert next(one for one in detectors if one["detector"] == made.kind)["state"] == "serving"


def test_a_model_altered_by_one_byte_is_refused(learned: Learned, tmp_path: Path) -> None:
    version = learned.register(owner="acme")
    learned.store.promote("acme", "pca", version)
    [path] = [
        found
        for one in Path(learned.store.artifacts or "").glob("*/artifacts/model/arrays.npz")
        if b'"owner": "acme"' in (found := one).with_name("manifest.json").read_bytes()
    ]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    learned.hub.call("POST", "/api/v1/tenants", key=learned.key, json={"tenant_id": "acme", "name": "Acme"})
    headers = {"content-type": "application/json"}
    body = {"detector": "pca", "windows": [window()]}
    answer = learned.hub.call("POST", "/api/v1/score?tenant=acme", key=learned.key, json=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "model_refused")


def test_a_verdict_raises_the_threshold_of_windows_driven_the_same_way(learned: Learned) -> None:
    learned.store.promote("default", "pca", learned.register())
    windows = []
    for feature, way in ((0, 20.0), (1, 20.0), (0, -20.0)):
        pushed = np.array(window())
        pushed[-5:, feature] += way
        windows.append(pushed.tolist())
    body = {"detector": "pca", "entity": ["a"] * 3, "windows": windows}
    before = learned.score(body).json()["scores"]
    for number in range(40):
        said = Verdict(
            *(f"w-{number}", "pca", "a"),
            is_true=False,
            score=before[0]["score"],
            comment="",
            told_by="k",
            drivers=tuple(before[0]["drivers"]),
        )
        learned.hub.app.state.feedback.record(TenantId(DEFAULT_TENANT), said)
    known = learned.hub.app.state.scorer
    learned.hub.app.state.scorer = Scorer(learned.hub.settings, store=learned.store, look_every_s=0.0)
    after = learned.score(body).json()["scores"]
    learned.hub.app.state.scorer.close()
    learned.hub.app.state.scorer = known
    assert [one["score"] for one in after] == [one["score"] for one in before]
    assert after[0]["threshold"] == pytest.approx(1.25 * before[0]["threshold"])
    # Driven by another feature, or the other way.
    assert [one["threshold"] for one in after[1:]] == [one["threshold"] for one in before[1:]]
