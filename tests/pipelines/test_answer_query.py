"""A job from its claim to its answer in the table, over real Ray Data and a committer; and how it ends otherwise."""

from __future__ import annotations

# ruff: noqa: I001 -- before anything that imports Ray Serve.
from tests.serving.ray_serve_quietly import LOADED

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.hosts import committer_name
from actors.pool import CommitterActor
from cluster.clock import ManualClock, SystemClock
from cluster.errors import NotFound, RequestInvalid
from cluster.metadata.engine import Database
from cluster.metadata.first_start import bootstrap_admin
from cluster.metadata.query_jobs import CANCELLED, DONE, FAILED, Bounds, NewQueryJob, Progress, QueryJob, QueryJobStore
from cluster.metadata.schema import open_metadata
from cluster.metadata.tenants import TenantStore
from cluster.settings import Settings
from cluster.tenancy import TenantId, TenantScope
from models.query.pages import Page
from models.query.plan import NO_FLOORS
from models.query.stored import Told
from models.query.times import Range
from pipelines import answer_query, blocks
from pipelines.answer_query import Pulse, run_job
from tests.serving.small_lake import NOW_US, Lake, tenants_apart

assert LOADED
pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.filterwarnings("ignore")]

ALPHA = TenantScope.of(TenantId("alpha"))
PAIRS = (("measure", "cost_usd"), ("measure", "unique_users"), ("group_by", "attributes.team"), ("from", "-3d"))
CLOCK = SystemClock()


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return tenants_apart(tmp_path_factory.mktemp("lake"), {"alpha": 900, "beta": 100})


@pytest.fixture(scope="module")
def settings(lake: Lake) -> Settings:
    return Settings(data=lake.folder, namespace="queries", query_jobs=50, query_jobs_tenant=50)


@pytest.fixture(scope="module")
def database(settings: Settings) -> Iterator[Database]:
    bootstrap_admin(settings, clock=CLOCK)
    found = open_metadata(settings, CLOCK)
    TenantStore(found, CLOCK).create("alpha", organisation_id="operator")
    yield found
    found.close()


@pytest.fixture(scope="module")
def store(database: Database, settings: Settings) -> QueryJobStore:
    return QueryJobStore(database, CLOCK, Bounds.of(settings))


@pytest.fixture(scope="module")
def committer(cluster: None, settings: Settings, database: Database) -> Iterator[Any]:
    name = committer_name(settings.region)
    actor = CommitterActor.options(name=name, namespace=settings.namespace).remote(settings)
    yield actor
    ray.kill(actor)


def claimed(store: QueryJobStore, kind: str = "aggregate", pairs: Any = PAIRS, *, version: int = 5) -> QueryJob:
    told = Told(tuple(pairs), NO_FLOORS).text()
    made = store.create(
        NewQueryJob(
            tenant_id="alpha",
            project_id=None,
            key_id="k",
            kind=kind,
            question=told,
            now_us=NOW_US,
            version=version,
            reason="large",
            file_count=0,
            row_count=0,
            size_bytes=0,
        )
    )
    job = store.claim(made.query_id)
    assert job is not None
    return job


def test_a_job_reads_by_blocks_and_keeps_the_direct_answer(
    lake: Lake, settings: Settings, store: QueryJobStore, committer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_FILES_MAX", 3)
    engine = lake.engine()
    job = claimed(store, version=engine._snapshots["events"].version)
    report = run_job(settings, store, job, leave=print)
    assert report["state"] == DONE and report["rows"] == 900 and report["blocks"] > 1 and report["nodes"] == 1
    ended = store.find(ALPHA, job.query_id)
    assert ended.state == DONE and ended.done.row_count == 900 and ended.done.file_count == report["files"]
    span = Range(job.started_at_us or 0, (ended.ended_at_us or 0) + 1)
    body = asyncio.run(engine.stored(ALPHA, job.query_id, Page(), span))
    direct = asyncio.run(engine.query(ALPHA, "aggregate", PAIRS, now_us=NOW_US)).body
    assert json.loads(body, parse_float=str) == json.loads(direct, parse_float=str)
    with pytest.raises(NotFound):
        asyncio.run(engine.stored(TenantScope.of(TenantId("beta")), job.query_id, Page(), span))
    engine.close()


def test_a_job_that_cannot_be_answered_fails_with_the_reason(
    settings: Settings, store: QueryJobStore, committer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_query, "PARTIAL_BYTES_MAX", 64)
    monkeypatch.setattr(answer_query, "_MERGE_BYTES", 64)
    for job, kind, word in (
        (claimed(store, version=999), NotFound, "version 999"),
        (claimed(store, "search", (("q", "x"),)), RequestInvalid, "kind search"),
        (claimed(store), RequestInvalid, "groups do not fit"),
    ):
        with pytest.raises(kind):
            run_job(settings, store, job, leave=print)
        found = store.find(ALPHA, job.query_id)
        assert (found.state, found.error_code) == (FAILED, kind.code) and word in found.error_message


def test_a_task_that_fails_ends_the_job_and_tells_nothing_of_the_machine(
    lake: Lake, settings: Settings, store: QueryJobStore, committer: Any, tmp_path: Path
) -> None:
    engine = lake.engine()
    path = Path(engine._snapshots["events"].by_tenant["alpha"][0].path)
    engine.close()
    kept = path.read_bytes()
    path.write_bytes(kept[: len(kept) // 2])
    try:
        job = claimed(store)
        with pytest.raises(Exception, match=r"\S"):
            run_job(settings, store, job, leave=print)
    finally:
        path.write_bytes(kept)
    found = store.find(ALPHA, job.query_id)
    assert (found.state, found.error_message) == (FAILED, "a task of the job failed")
    assert str(lake.folder) not in found.error_hint


def test_a_job_ends_when_it_is_cancelled_and_when_its_time_is_over(store: QueryJobStore, settings: Settings) -> None:
    for cancel in (True, False):
        job, clock = claimed(store), ManualClock()
        left, told = threading.Event(), []

        def leave(why: str, left: threading.Event = left, told: list[str] = told) -> None:
            told.append(why)
            left.set()

        with Pulse(store, job, clock, timeout_s=60.0, leave=leave, every_s=0.01) as pulse:
            pulse.progress = Progress(row_count=7)
            if cancel:
                store.cancel(ALPHA, job.query_id)
            else:
                clock.advance(61.0)
            assert left.wait(timeout=30)
        found = store.find(ALPHA, job.query_id)
        assert (found.state, told[0]) == ((CANCELLED, "it was cancelled") if cancel else (FAILED, "its time is over"))
        if not cancel:
            assert found.error_code == "query_timeout" and "60 s" in found.error_message
