"""Jobs of questions: who sees them, how many may be open, and that none hangs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.clock import ManualClock
from cluster.errors import Busy, NotFound
from cluster.metadata.first_start import bootstrap_admin
from cluster.metadata.query_jobs import (
    CANCELLED,
    DONE,
    FAILED,
    LEASE_S,
    QUEUED,
    RUNNING,
    START_S,
    Bounds,
    NewQueryJob,
    Progress,
    QueryJobStore,
)
from cluster.metadata.schema import open_metadata
from cluster.metadata.tenants import TenantStore
from cluster.settings import Settings
from cluster.tenancy import DEFAULT_TENANT, TenantId, TenantScope

OTHER = TenantId("other")
SCOPE = TenantScope.of(DEFAULT_TENANT)
NEW = NewQueryJob(
    tenant_id=DEFAULT_TENANT,
    project_id=None,
    key_id="k",
    kind="top",
    question="{}",
    now_us=1,
    version=3,
    reason="large",
    file_count=4,
    row_count=50,
    size_bytes=600,
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(tmp_path: Path, clock: ManualClock) -> QueryJobStore:
    settings = Settings(data=tmp_path)
    bootstrap_admin(settings, clock=clock)
    database = open_metadata(settings, clock)
    TenantStore(database, clock).create(OTHER, organisation_id="operator")
    return QueryJobStore(database, clock, Bounds(most=3, most_of_tenant=2, kept_days=7))


def test_a_job_goes_from_queued_to_done_and_is_found_again(store: QueryJobStore, clock: ManualClock) -> None:
    made = store.create(NEW)
    assert (made.state, made.version, made.done) == (QUEUED, 3, Progress())
    clock.advance(2.0)
    claimed = store.claim(made.query_id)
    assert claimed is not None and claimed.state == RUNNING and claimed.started_at_us == clock.now_us()
    # Nobody else begins it.
    assert store.claim(made.query_id) is None
    read = Progress(file_count=2, row_count=20, size_bytes=300, nodes=2)
    assert store.beat(made.query_id, read)
    assert store.find(SCOPE, made.query_id).done == read
    assert store.end(made.query_id, DONE)
    # What has ended stays as it is.
    assert not store.beat(made.query_id, read) and not store.end(made.query_id, FAILED, code="late")
    assert store.cancel(SCOPE, made.query_id).state == DONE
    found = store.find(SCOPE, made.query_id)
    assert (found.state, found.ended_at_us, found.error_code) == (DONE, clock.now_us(), "")


def test_another_tenant_or_project_sees_none_of_it(store: QueryJobStore) -> None:
    mine = store.create(NEW)
    theirs = store.create(replace(NEW, tenant_id=OTHER, project_id="north"))
    for scope, seen in (
        (SCOPE, [mine]),
        (TenantScope.of(DEFAULT_TENANT, "north"), []),
        (TenantScope.of(OTHER), [theirs]),
        (TenantScope.of(OTHER, "north"), [theirs]),
        (TenantScope.of(OTHER, "south"), []),
    ):
        assert [one.query_id for one in store.newest(scope)] == [one.query_id for one in seen]
        for job in (mine, theirs):
            if job in seen:
                assert store.find(scope, job.query_id) == job
                continue
            for act in (store.find, store.cancel):
                with pytest.raises(NotFound):
                    act(scope, job.query_id)
    assert {store.find(SCOPE, mine.query_id).state, store.find(TenantScope.of(OTHER), theirs.query_id).state} == {
        QUEUED
    }


def test_no_more_jobs_are_open_than_may_be(store: QueryJobStore) -> None:
    first = store.create(NEW)
    store.create(NEW)
    with pytest.raises(Busy, match="2 jobs of this tenant"):
        store.create(NEW)
    other = replace(NEW, tenant_id=OTHER)
    store.create(other)
    with pytest.raises(Busy, match="3 jobs of the hub"):
        store.create(other)
    assert store.cancel(SCOPE, first.query_id).state == CANCELLED
    assert store.claim(first.query_id) is None
    assert store.create(other).state == QUEUED


def test_a_job_whose_process_is_gone_fails_by_itself(store: QueryJobStore, clock: ManualClock) -> None:
    never, killed = store.create(NEW).query_id, store.create(NEW).query_id
    store.claim(killed)
    clock.advance(LEASE_S - 1)
    assert store.beat(killed, Progress())
    clock.advance(LEASE_S + 1)
    found = store.find(SCOPE, killed)
    assert (found.state, found.error_code) == (FAILED, "job_lost") and "process ended" in found.error_message
    # Its process was only asleep: it is told, and keeps nothing.
    assert not store.beat(killed, Progress()) and not store.end(killed, DONE)
    clock.advance(START_S)
    assert store.claim(never) is None
    assert store.find(SCOPE, never).error_code == "job_lost"
    # A lost job takes nobody's place.
    assert store.create(NEW).state == QUEUED


def test_jobs_are_forgotten_with_their_answers(store: QueryJobStore, clock: ManualClock) -> None:
    made = store.create(NEW).query_id
    store.refuse(made, "no process", "")
    assert store.find(SCOPE, made).error_message == "no process"
    clock.advance(7 * 86_400 - 1)
    assert store.newest(SCOPE)
    clock.advance(2)
    assert store.newest(SCOPE) == []
