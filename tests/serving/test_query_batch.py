"""Questions in one request: each answered as it would be alone, or refused by itself, and never another tenant's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.metadata.tenants import Quota
from cluster.tenancy import TenantId
from serving.query_batch import QUESTIONS_MAX
from tests.serving.conftest import Hub
from tests.serving.small_lake import Lake, tenants_apart
from tests.serving.sql_hub import application

QUERY = "/api/v1/query"
WHEN = {"from": "2025-12-29T00:00:00Z", "to": "2026-01-01T00:00:00Z"}
SOUND: list[dict[str, Any]] = [
    {"kind": "timeseries", "measure": ["cost_usd"], "group_by": ["model"], **WHEN},
    {"kind": "aggregate", "measure": ["event_count"], **WHEN},
    {"kind": "top", "measure": "event_count", "group_by": "user_id", **WHEN},
]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return tenants_apart(tmp_path_factory.mktemp("lake"), {"alpha": 300, "beta": 200})


@pytest.fixture(scope="module")
def hub(lake: Lake) -> Iterator[Hub]:
    with application(lake) as (hub, _):
        hub.made = {name: hub.key("read", tenant=name) for name in ("alpha", "beta")}
        yield hub


def ask(hub: Hub, body: Any, *, tenant: str = "alpha", **more: Any) -> Any:
    return hub.call("POST", QUERY, key=hub.made[tenant], json=body, **more)


def test_each_is_answered_as_alone(hub: Hub) -> None:
    answer = ask(hub, {"kind": "batch", "queries": SOUND})
    assert answer.status_code == 200
    for question, told in zip(SOUND, answer.json()["answers"], strict=True):
        alone = ask(hub, question)
        assert told == {"status": 200, "etag": alone.headers["etag"], "answer": alone.json()}


def test_one_that_is_refused_leaves_the_others_theirs(hub: Hub) -> None:
    wrong = [{"kind": "forecast"}, {"kind": "batch", "queries": SOUND}, 7, {"kind": "trace", "trace_id": "nobodys"}]
    told = ask(hub, {"kind": "batch", "queries": [SOUND[0], *wrong, SOUND[1]]}).json()["answers"]
    assert [one["status"] for one in told] == [200, 422, 422, 422, 404, 200]
    for question, one in zip(wrong, told[1:-1], strict=True):
        assert one.keys() == {"status", "problem"} and one["problem"]["detail"]
        if not isinstance(question, dict) or question["kind"] != "batch":
            assert one["problem"] == ask(hub, question).json()


def test_what_is_held_is_not_sent_again(hub: Hub) -> None:
    first = ask(hub, {"kind": "batch", "queries": SOUND})
    etags = [one["etag"] for one in first.json()["answers"]]
    again = ask(hub, {"kind": "batch", "queries": SOUND}, headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 304 and not again.content
    told = ask(hub, {"kind": "batch", "queries": SOUND, "etags": [etags[0], None, '"other"']}).json()["answers"]
    assert told[0] == {"status": 304, "etag": etags[0]}
    assert [one["status"] for one in told] == [304, 200, 200]


def test_no_tenant_sees_another_or_is_told_that_it_holds_its_answers(hub: Hub) -> None:
    mine = ask(hub, {"kind": "batch", "queries": SOUND})
    etags = [one["etag"] for one in mine.json()["answers"]]
    body = {"kind": "batch", "queries": SOUND, "etags": etags}
    theirs = ask(hub, body, tenant="beta", headers={"if-none-match": mine.headers["etag"]})
    assert theirs.status_code == 200 and all(one["status"] == 200 for one in theirs.json()["answers"])
    count = [one["answer"]["rows"][0]["values"]["event_count"] for one in (theirs.json()["answers"][1],)]
    assert count == [ask(hub, SOUND[1], tenant="beta").json()["rows"][0]["values"]["event_count"]]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"queries": []},
        {"queries": {}},
        {"queries": "x"},
        {"queries": [SOUND[0]] * (QUESTIONS_MAX + 1)},
        {"queries": SOUND, "etags": ["x"]},
        {"queries": SOUND, "etags": [1, 2, 3]},
        {"queries": SOUND, "etags": "xyz"},
        {"queries": SOUND, "tenant": "beta"},
    ],
    ids=lambda more: json.dumps(more)[:40],
)
def test_a_batch_of_a_wrong_form_is_refused_whole(hub: Hub, more: dict[str, Any]) -> None:
    answer = ask(hub, {"kind": "batch", **more})
    assert answer.status_code == 422 and answer.json()["hint"]


def test_every_question_counts_in_the_quota(tmp_path: Path) -> None:
    with application(tenants_apart(tmp_path, {"alpha": 20})) as (hub, _):
        hub.made["alpha"] = hub.key("read", tenant="alpha")
        hub.tenants.set_quota(TenantId("alpha"), replace(Quota(), questions_per_s=1, burst_s=2))
        answer = ask(hub, {"kind": "batch", "queries": SOUND * 2})
        statuses = [one["status"] for one in answer.json()["answers"]]
        assert statuses == [200, 200, 429, 429, 429, 429]
        # It will be another a moment later.
        assert "etag" not in answer.headers
