"""Found anomalies over a real table: the latest revision, of one tenant; and feedback that moves a threshold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa
import pytest

from actors.detector import row_of
from actors.evidence import Evidence
from cluster.contract.found import FOUND_SCHEMA
from cluster.lake.commit import TableWriter
from cluster.lake.stage import stage
from cluster.lake.tables import TABLES
from models.anomaly.incidents import Incident
from tests.serving.conftest import SMALL, Hub, start

AT_US = 1_767_225_600_000_000
RANGE = "from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z"
ENTITY = "service=chat,model=m"


def incident(
    name: str,
    minute: int,
    *,
    revision: int = 0,
    state: str = "open",
    severity: str = "minor",
    feature: str = "error_share",
) -> Incident:
    driver = {"feature": feature, "measure": "error_ratio", "share": 0.8, "value": 0.5, "usual": 0.01}
    began_us = AT_US + minute * 60_000_000
    return Incident(
        anomaly_id=name,
        revision=revision,
        detector="seasonal",
        model_version=0,
        entity=ENTITY,
        started_us=began_us,
        ended_us=began_us + (revision + 1) * 300_000_000,
        peak_us=began_us + 60_000_000,
        score=7.0 + revision,
        threshold=6.0,
        severity=severity,
        state=state,
        drivers=({**driver, "direction": "up"},),
        baseline={"season": "none"},
    )


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    settings = replace(SMALL, data=tmp_path_factory.mktemp("hub"))
    told = {
        "default": [
            incident("a1", 10),
            incident("a1", 10, revision=1, state="closed"),
            incident("a2", 30, severity="critical"),
        ],
        "acme": [
            incident("b1", 20),
            incident("b2", 40, feature="latency_ms_p95_log"),
            replace(incident("b3", 60), baseline={"season": "none", "features": 14, "threshold_factor": 1.1}),
        ],
    }
    files = []
    for tenant, several in told.items():
        evidence = Evidence(("t1", "t2"), ({"at": "2026-01-01T00:00:00Z", "kind": "registry.version.promoted"},))
        rows = [row_of(one, evidence, {"service": "chat", "model": "m"}, at_us=AT_US) for one in several]
        table = pa.Table.from_pylist(rows, FOUND_SCHEMA)
        files += stage(settings.lake, TABLES["anomalies"], table, tenant_id=tenant, token=f"{tenant}-1")
    TableWriter(settings.lake, TABLES["anomalies"]).append(files, {"detector/local": 1})
    starting = start(settings, asks=True)
    made = next(starting)
    made.app.state.query.refresh()
    yield made
    next(starting, None)


def ask(hub: Hub, query: str, **more: Any) -> Any:
    return hub.call("GET", f"/api/v1/anomalies?{query}", key=more.pop("key", hub.admin), **more)


def test_the_latest_revision_of_each_is_told_newest_first_and_of_one_tenant(hub: Hub) -> None:
    found = ask(hub, RANGE).json()["anomalies"]
    assert [(one["id"], one["state"], one["revision"]) for one in found] == [("a2", "open", 0), ("a1", "closed", 1)]
    one = found[1]
    assert (one["from"], one["to"]) == ("2026-01-01T00:10:00.000000Z", "2026-01-01T00:20:00.000000Z")
    assert one["drivers"][0]["measure"] == "error_ratio"
    assert one["trace_ids"] == ["t1", "t2"]
    assert one["dimensions"] == {"service": "chat", "model": "m"}
    assert one["feedback"] is None


def test_filters_pages_and_ranges(hub: Hub) -> None:
    assert [one["id"] for one in ask(hub, f"{RANGE}&state=open").json()["anomalies"]] == ["a2"]
    assert [one["id"] for one in ask(hub, f"{RANGE}&severity=minor").json()["anomalies"]] == ["a1"]
    first = ask(hub, f"{RANGE}&limit=1").json()
    assert [one["id"] for one in first["anomalies"]] == ["a2"]
    second = ask(hub, f"{RANGE}&limit=1&cursor={first['next_cursor']}").json()
    assert ([one["id"] for one in second["anomalies"]], second["next_cursor"]) == (["a1"], None)
    # One that began before the range and reaches into it is in it.
    late = "from=2026-01-01T00:15:00Z&to=2026-01-01T00:16:00Z"
    assert [one["id"] for one in ask(hub, late).json()["anomalies"]] == ["a1"]
    for wrong in ("state=gone", "colour=red", "limit=0", "cursor=zzz", "from=never"):
        answer = ask(hub, f"{RANGE}&{wrong}" if not wrong.startswith("from") else wrong)
        assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid"), wrong


def test_feedback_is_kept_and_raises_the_threshold(hub: Hub) -> None:
    said = hub.call("POST", "/api/v1/anomalies/a1/feedback", key=hub.admin, json={"label": "false", "comment": "test"})
    assert said.status_code == 200
    assert (said.json()["verdicts"], said.json()["threshold_factor"]) == (1, pytest.approx(1.05))
    found = {one["id"]: one["feedback"] for one in ask(hub, RANGE).json()["anomalies"]}
    assert found == {"a2": None, "a1": "false"}
    told = said.json()
    assert (told["label"], told["alike"], told["threshold"]) == ("false", {"false": 1, "true": 0}, pytest.approx(6.3))
    [kept] = hub.app.state.feedback.by_threshold()[("default", "seasonal", ENTITY)]
    assert [one["feature"] for one in kept.drivers] == ["error_share"]
    again = hub.call("POST", "/api/v1/anomalies/a1/feedback", key=hub.admin, json={"label": "true"})
    assert (again.json()["threshold_factor"], again.json()["alike"]) == (1.0, {"false": 0, "true": 1})


def test_what_is_said_of_an_alarm_is_not_said_of_one_with_other_drivers(hub: Hub) -> None:
    hub.tenants.create_organisation("acme")
    hub.tenants.create("acme", organisation_id="acme")
    say = partial(hub.call, "POST", key=hub.key("anomalies", tenant="acme"), json={"label": "false"})
    assert say("/api/v1/anomalies/b1/feedback").json()["threshold_factor"] == pytest.approx(1.05)
    other = say("/api/v1/anomalies/b2/feedback").json()
    assert (other["verdicts"], other["alike"]) == (2, {"false": 1, "true": 0})
    assert other["threshold_factor"] == pytest.approx(1.05)
    # It was told over a level that had been raised by a tenth: what it had to pass without feedback counts.
    raised = say("/api/v1/anomalies/b3/feedback").json()
    assert (raised["threshold"], raised["threshold_factor"]) == (
        pytest.approx(6.0 / 1.1 * 1.1025),
        pytest.approx(1.1025),
    )


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("none", b'{"label":"true"}', 404, "not_found"),
        # Another tenant's is as absent as one that never was.
        ("b1", b'{"label":"true"}', 404, "not_found"),
        ("a1", b'{"label":"maybe"}', 422, "request_invalid"),
        ("a1", b'{"label":true}', 422, "request_invalid"),
        ("a1", b'{"label":"true","why":1}', 422, "request_invalid"),
        ("a1", b"{", 400, "body_unreadable"),
        ("a1", b'{"label":"true","comment":"' + b"x" * 3_000 + b'"}', 422, "request_invalid"),
    ],
)
def test_wrong_feedback_is_refused(hub: Hub, path: str, body: bytes, status: int, code: str) -> None:
    headers = {"content-type": "application/json"}
    answer = hub.call("POST", f"/api/v1/anomalies/{path}/feedback", key=hub.admin, content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_read_key_sees_and_does_not_judge(hub: Hub) -> None:
    reader = hub.key("read")
    assert ask(hub, RANGE, key=reader).status_code == 200
    said = hub.call("POST", "/api/v1/anomalies/a1/feedback", key=reader, json={"label": "true"})
    assert said.status_code == 403
    judge = hub.key("anomalies")
    assert hub.call("POST", "/api/v1/anomalies/a2/feedback", key=judge, json={"label": "true"}).status_code == 200
