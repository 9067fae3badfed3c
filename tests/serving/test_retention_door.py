"""The operator sets how long a tenant's rows stay; the committer reads the same store."""

from __future__ import annotations

from cluster.clock import SystemClock
from cluster.metadata.retention import RetentionStore
from cluster.retention import Retention
from tests.serving.conftest import Hub

PATH = "/api/v1/tenants/default/retention"


def test_a_retention_is_set_told_and_taken_back(hub: Hub) -> None:
    hubs = {"tenant_id": "default", "hot_days": 30, "warm_days": 90, "cold_days": 365, "own": False}
    assert hub.call("GET", PATH, key=hub.admin).json() == hubs
    told = hub.call("PUT", PATH, key=hub.admin, json={"hot_days": 7, "cold_days": 0}).json()
    assert told == hubs | {"hot_days": 7, "cold_days": 0, "own": True}
    store = RetentionStore(hub.app.state.metadata, SystemClock())
    assert store.every() == {"default": Retention(hot_days=7, warm_days=90, cold_days=0)}
    assert hub.call("PUT", PATH, key=hub.admin, json={}).json() == hubs
    assert store.every() == {}


def test_what_cannot_be_is_refused_and_only_the_operator_sets_it(hub: Hub) -> None:
    for bad in ({"hot_days": 91}, {"cold_days": 1}, {"hot_days": -1}, {"hot_days": 0}):
        answer = hub.call("PUT", PATH, key=hub.admin, json=bad)
        assert answer.status_code == 422 and answer.json()["code"] == "request_invalid", bad
    reader = hub.key("read")
    assert hub.call("GET", PATH, key=reader).status_code == 403
    assert hub.call("PUT", PATH, key=reader, json={"hot_days": 7}).status_code == 403
    assert hub.call("PUT", "/api/v1/tenants/nobody/retention", key=hub.admin, json={"hot_days": 7}).status_code == 403
