"""Questions that become jobs, over HTTP: 202 and where to look, the same answer by page, and nobody else's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cluster.clock import SystemClock
from cluster.errors import Unavailable
from cluster.lake.commit import TableWriter
from cluster.lake.stage import stage
from cluster.lake.tables import ANSWERS, TABLES
from cluster.metadata.query_jobs import DONE, FAILED, Bounds, Progress, QueryJobStore
from cluster.metadata.schema import open_metadata
from cluster.settings import Settings
from cluster.tenancy import TenantId, TenantScope
from models.query.blocks import parts_of
from models.query.stored import taken_apart
from pipelines.answer_query import answer_rows, read_job, written
from pipelines.blocks import blocks_of, reduce_block
from serving.query_jobs import QueryJobs
from tests.serving.conftest import Hub
from tests.serving.small_lake import Lake
from tests.serving.sql_hub import application, two_tenants

QUERY, QUERIES = "/api/v1/query", "/api/v1/queries"
QUESTION = {"kind": "aggregate", "measure": ["cost_usd", "event_count"], "group_by": "attributes.team"}
ALPHA = TenantScope.of(TenantId("alpha"))
RANGE = {"from": "2025-12-29T00:00:00Z", "to": "2026-01-01T00:00:00Z"}


class Cluster:
    """Runs jobs when it is told to, in this process, by the job's own parts; Ray itself is asked elsewhere."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.submitted: list[str] = []
        self.is_away = False

    def launch(self, query_id: str) -> None:
        if self.is_away:
            raise Unavailable("the job API does not take the job", retry_after_s=1.0)
        self.submitted.append(query_id)

    def run(self, query_id: str) -> None:
        clock = SystemClock()
        with closing(open_metadata(self.settings, clock)) as database:
            store = QueryJobStore(database, clock, Bounds.of(self.settings))
            job = store.claim(query_id)
            assert job is not None
            asked = read_job(self.settings, job)
            found = blocks_of(asked.scope, asked.snapshot, parts_of(asked.question))
            reduction, lake = asked.reduction, self.settings.lake
            partials = [reduction.nothing(), *(reduce_block(lake, asked.scope, reduction, one) for one in found)]
            told = written(self.settings, asked.question, reduction.merged(partials)) | {"version": job.version}
            rows = answer_rows(job, taken_apart(told), clock.now_us())
            staged = stage(lake, TABLES[ANSWERS], rows, tenant_id=job.tenant_id, token=f"query-{query_id}")
            TableWriter(lake, TABLES[ANSWERS]).append(staged, {f"query-{query_id}": 1})
            read = Progress(file_count=job.file_count, row_count=job.row_count, size_bytes=job.size_bytes, nodes=1)
            assert store.beat(query_id, read) and store.end(query_id, DONE)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return two_tenants(tmp_path_factory.mktemp("lake"))


@pytest.fixture(scope="module")
def shared(lake: Lake) -> Iterator[Hub]:
    with application(lake) as (hub, _):
        yield hub


@pytest.fixture
def cluster(shared: Hub) -> Iterator[Cluster]:
    """A cluster under the hub; open jobs of a test are cancelled after it."""
    made = Cluster(shared.settings)
    shared.app.state.query_jobs = QueryJobs(shared.settings, shared.app.state.metadata, SystemClock(), made.launch)
    yield made
    for tenant in ("alpha", "beta"):
        for job in call(shared, "GET", QUERIES, tenant=tenant).json()["queries"]:
            call(shared, "DELETE", f"{QUERIES}/{job['query_id']}", tenant=tenant)


def call(hub: Hub, method: str, path: str, *, tenant: str = "alpha", project: str | None = None, **more: Any) -> Any:
    name = f"{tenant}/{project}"
    if name not in hub.made:
        hub.made[name] = hub.key("read", tenant=tenant, project=project)
    return hub.call(method, path, key=hub.made[name], **more)


def ask(hub: Hub, *, headers: dict[str, str] | None = None, **more: Any) -> Any:
    """A question, as a job unless told otherwise."""
    who = {name: more.pop(name) for name in ("tenant", "project") if name in more}
    asynchronous = {"prefer": "respond-async"} if headers is None else headers
    return call(hub, "POST", QUERY, json={**QUESTION, **RANGE, **more}, headers=asynchronous, **who)


def test_a_job_gives_the_answer_of_the_question_by_page(shared: Hub, cluster: Cluster) -> None:
    direct = ask(shared, headers={})
    assert direct.status_code == 200
    taken = ask(shared, limit=2)
    assert taken.status_code == 202 and taken.headers["retry-after"] == "1"
    told = taken.json()
    assert taken.headers["location"] == f"{QUERIES}/{told['query_id']}"
    assert (told["state"], told["question"]["kind"]) == ("queued", "aggregate") and "answer" not in told
    assert told["progress"]["rows"] == [0, 300] and "300 events in" in told["reason"]
    cluster.run(told["query_id"])

    def page(**asked: Any) -> Any:
        answer = call(shared, "GET", taken.headers["location"], params=asked)
        assert answer.status_code == 200, answer.text
        return json.loads(answer.text, parse_float=str)

    first = page()
    assert first["state"] == "done" and first["progress"]["rows"] == [300, 300] and first["progress"]["nodes"] == 1
    wanted = json.loads(direct.text, parse_float=str)
    # `limit` of the question holds where the page has none of its own.
    assert len(first["answer"]["rows"]) == 2 and first["answer"]["next_cursor"]
    assert page(limit=1_000)["answer"] == wanted
    rows, cursor = [], ""
    while cursor is not None:
        part = page(limit=2, **({"cursor": cursor} if cursor else {}))["answer"]
        rows += part["rows"]
        cursor = part["next_cursor"]
    assert rows == wanted["rows"] and len(rows) > 2
    for bad in ({"limit": "0"}, {"cursor": "x"}, {"page": "2"}):
        assert call(shared, "GET", taken.headers["location"], params=bad).status_code == 422
    # The table is there for every reader of the tenant, as SQL and on the disk.
    sql = {"sql": "SELECT count(*) AS n FROM answers WHERE query_id = ?", "parameters": [told["query_id"]]}
    assert call(shared, "POST", "/api/v1/sql", json=sql).json()["rows"] == [{"n": 1 + len(rows)}]
    assert call(shared, "POST", "/api/v1/sql", json=sql, tenant="beta").json()["rows"] == [{"n": 0}]


def test_a_question_over_the_border_is_a_job_and_says_why(tmp_path: Path) -> None:
    lake = two_tenants(tmp_path)
    with application(lake, query_scan_bytes=1) as (hub, _):
        cluster = Cluster(hub.settings)
        hub.app.state.query_jobs = QueryJobs(hub.settings, hub.app.state.metadata, SystemClock(), cluster.launch)
        taken = ask(hub, headers={})
        assert taken.status_code == 202 and cluster.submitted == [taken.json()["query_id"]]
        assert "that one node scans for a question" in taken.json()["reason"]
        # What roll-ups hold, and what no job answers, is answered as before.
        assert ask(hub, headers={}, group_by="model").status_code == 200
        assert call(hub, "POST", QUERY, json={"kind": "search", **RANGE}).status_code == 200
        # The other doors refuse, and name the one that does not.
        asked = {"measure": "cost_usd", "group_by": "attributes.team", **RANGE}
        refused = call(hub, "GET", "/api/v1/metrics/aggregates", params=asked)
        assert (refused.status_code, refused.json()["code"]) == (422, "scan_too_large")
        assert "/api/v1/query" in refused.json()["hint"]
        batch = {"kind": "batch", "queries": [{**QUESTION, **RANGE}, {**QUESTION, **RANGE, "group_by": "model"}]}
        answers = call(hub, "POST", QUERY, json=batch).json()["answers"]
        assert [one["status"] for one in answers] == [422, 200]
        past = call(hub, "POST", QUERY, json={**QUESTION, **RANGE, "kind": "as_of", "of": "aggregate", "version": 1})
        assert past.status_code == 202 and past.json()["version"] == 1
        cluster.run(past.json()["query_id"])
        answer = call(hub, "GET", past.headers["location"]).json()["answer"]
    with closing(lake.engine()) as engine:
        pairs = (*(("measure", name) for name in QUESTION["measure"]), ("group_by", "attributes.team"), *RANGE.items())
        direct = asyncio.run(engine.query(ALPHA, "as_of", (("of", "aggregate"), ("version", "1"), *pairs)))
    assert answer == json.loads(direct.body)


def test_a_job_of_another_tenant_is_none(shared: Hub, cluster: Cluster) -> None:
    mine = ask(shared).json()["query_id"]
    cluster.run(mine)
    path = f"{QUERIES}/{mine}"
    for who in ({"tenant": "beta"}, {"project": "north"}):
        assert [call(shared, method, path, **who).status_code for method in ("GET", "DELETE")] == [404, 404]
        assert mine not in call(shared, "GET", QUERIES, **who).text
    narrow = ask(shared, project="north").json()["query_id"]
    cluster.run(narrow)
    seen = call(shared, "GET", f"{QUERIES}/{narrow}", project="north").json()["answer"]
    assert seen["rows"] == ask(shared, project="north", headers={}).json()["rows"]
    whole = call(shared, "GET", path).json()["answer"]
    assert seen["rows"] != whole["rows"]
    # The tenant's own keys see what its projects asked.
    assert call(shared, "GET", f"{QUERIES}/{narrow}").status_code == 200
    assert call(shared, "GET", f"{QUERIES}/{'0' * 16}").status_code == 404


def test_no_more_jobs_than_may_be_and_a_cancelled_one_makes_room(shared: Hub, cluster: Cluster) -> None:
    first = ask(shared).json()["query_id"]
    assert ask(shared).status_code == 202
    refused = ask(shared)
    assert (refused.status_code, refused.json()["code"]) == (429, "busy") and refused.headers["retry-after"] == "5"
    assert "of this tenant" in refused.json()["detail"]
    assert ask(shared, tenant="beta").status_code == 202
    assert call(shared, "DELETE", f"{QUERIES}/{first}").json()["state"] == "cancelled"
    assert ask(shared).status_code == 202
    newest = call(shared, "GET", QUERIES).json()["queries"]
    assert [one["state"] for one in newest[:3]] == ["queued", "queued", "cancelled"]


def test_a_job_that_cannot_start_or_fails_says_so(shared: Hub, cluster: Cluster) -> None:
    cluster.is_away = True
    assert ask(shared).status_code == 503
    lost = call(shared, "GET", QUERIES).json()["queries"][0]
    assert (lost["state"], lost["error"]["code"]) == ("failed", "unavailable")
    cluster.is_away = False
    wrong = ask(shared).json()["query_id"]
    store = shared.app.state.query_jobs._store
    store.claim(wrong)
    store.end(wrong, FAILED, code="request_invalid", message="over 9 groups", hint="Fewer.")
    told = call(shared, "GET", f"{QUERIES}/{wrong}").json()
    assert told["error"] == {"code": "request_invalid", "detail": "over 9 groups", "hint": "Fewer."}
    assert "answer" not in told


def test_what_is_wrong_with_a_question_is_said_before_any_job(shared: Hub, cluster: Cluster) -> None:
    for bad in ({"measure": "cost_uds"}, {"kind": "nothing"}, {"from": "2026-01-02T00:00:00Z"}):
        assert ask(shared, **bad).status_code == 422
    # A preference is no order: what needs no scan is answered.
    assert ask(shared, group_by="model").status_code == 200
    assert cluster.submitted == []
