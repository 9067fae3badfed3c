"""Who may do what, by every door; a tenant comes from the credential and from nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from cluster.tenancy import DEFAULT_TENANT, TenantId
from serving.auth.roles import Permission, permissions_of
from tests.serving.conftest import SMALL, Hub, event, start

# door -> what it asks for; every other scope is refused.
DOORS = {
    ("POST", "/api/v1/events"): "ingest",
    ("POST", "/v1/traces"): "ingest",
    ("POST", "/v1/logs"): "ingest",
    ("POST", "/v1/metrics"): "ingest",
    **{("POST", f"/api/v1/hooks/{product}"): "ingest" for product in ("litellm", "mlflow", "langfuse")},
    ("GET", "/api/v1/ledger"): "read",
    ("GET", "/api/v1/dead-letters"): "read",
    ("GET", "/api/v1/prices"): "read",
    ("GET", "/api/v1/costs"): "read",
    ("GET", "/metrics"): "read",
    ("GET", "/api/v1/queries"): "read",
    ("GET", "/api/v1/queries/aaaaaaaaaaaa"): "read",
    ("DELETE", "/api/v1/queries/aaaaaaaaaaaa"): "read",
    ("GET", "/api/v1/detectors"): "anomalies",
    ("POST", "/api/v1/score"): "anomalies",
    ("GET", "/api/v1/anomalies"): "anomalies",
    ("POST", "/api/v1/anomalies/aaaaaaaaaaaa/feedback"): "feedback",
    ("GET", "/api/v1/keys"): "admin",
    ("POST", "/api/v1/keys"): "admin",
    ("POST", "/api/v1/keys/aaaaaaaaaaaa/rotate"): "admin",
    ("DELETE", "/api/v1/keys/aaaaaaaaaaaa"): "admin",
    ("GET", "/api/v1/tenants"): "admin",
    ("POST", "/api/v1/tenants"): "admin",
    ("POST", "/api/v1/organisations"): "operate",
    ("GET", "/api/v1/tenants/default/quota"): "admin",
    ("GET", "/api/v1/tenants/default/retention"): "admin",
    ("PUT", "/api/v1/tenants/default/quota"): "operate",
    ("PUT", "/api/v1/tenants/default/retention"): "operate",
    ("GET", "/api/v1/tenants/default/projects"): "admin",
    ("POST", "/api/v1/tenants/default/projects"): "admin",
}
OPEN = {"/api/v1/health", "/api/v1/ready", "/", "/assets/{name:path}"}


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    for hub in start(replace(SMALL, data=tmp_path_factory.mktemp("hub"))):
        hub.tenants.create_organisation("acme")
        hub.tenants.create("acme-prod", organisation_id="acme")
        hub.tenants.create("acme-test", organisation_id="acme")
        for scope in ("ingest", "read", "anomalies", "admin"):
            hub.made[scope] = hub.key(scope, tenant="acme-prod")
        hub.made["operate"] = hub.admin
        yield hub


@pytest.mark.parametrize("door", DOORS, ids=lambda door: f"{door[0]} {door[1]}")
def test_each_door_takes_the_keys_that_carry_its_permission_and_no_other(matrix: Hub, door: tuple[str, str]) -> None:
    method, path = door
    may = {
        "ingest": {"ingest", "admin"},
        "read": {"read", "admin"},
        "anomalies": {"read", "anomalies", "admin"},
        "feedback": {"anomalies", "admin"},
        "admin": {"admin"},
        "operate": set(),
    }[DOORS[door]]
    assert matrix.call(method, path).status_code == 401
    assert matrix.call(method, path, key="hub_aaaaaaaaaaaa_" + "A" * 43).status_code == 401
    for held in ("ingest", "read", "anomalies", "admin", "operate"):
        status = matrix.call(method, path, key=matrix.made[held]).status_code
        allowed = held in may or held == "operate"
        # 403 where the key lacks it; past the gate anything but 401 and 5xx may follow an empty body.
        refused = status == 403 and "default" not in path
        assert not refused if allowed else status == 403, (held, status)
        assert status not in (401, 500)


def test_every_route_of_ours_is_in_the_matrix_or_open(matrix: Hub) -> None:
    known = {
        path.replace("anomalies/aaaaaaaaaaaa", "anomalies/{anomaly_id}")
        .replace("queries/aaaaaaaaaaaa", "queries/{query_id}")
        .replace("aaaaaaaaaaaa", "{key_id}")
        .replace("/default/", "/{tenant_id}/")
        for _, path in DOORS
    }
    routes = set(matrix.app.openapi()["paths"])
    # The doors of questions and boards have a matrix of their own beside them.
    asked = {path for path in routes if path.startswith(("/api/v1/metrics", "/api/v1/traces", "/api/v1/events/search"))}
    asked |= routes & {"/api/v1/catalog", "/api/v1/query", "/api/v1/sql"}
    asked |= {path for path in routes if path.startswith(("/api/v1/dashboards", "/api/v1/embed"))}
    assert routes - asked - OPEN <= known


def test_scopes_carry_nothing_unknown() -> None:
    assert permissions_of(["root", "*"], is_operator=True) == frozenset()
    assert Permission.OPERATE not in permissions_of(["read", "ingest"], is_operator=True)
    assert permissions_of(["admin"], is_operator=True) == frozenset(Permission)


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer"},
        {"authorization": "Bearer  "},
        {"authorization": "Basic aHViOmh1Yg=="},
        {"authorization": "bearer hub_" + "é" * 10},
        {"x-api-key": ""},
        {"x-api-key": "x" * 8_000},
        {"x-api-key": "hub_aaaaaaaaaaaa_" + "A" * 42 + "\u00ff"},
    ],
)
def test_junk_credentials_are_strangers(matrix: Hub, headers: dict[str, str]) -> None:
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = matrix.call("GET", "/api/v1/ledger", headers=raw)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="llmhub"')


def test_two_different_keys_are_refused_and_the_same_twice_is_one(matrix: Hub) -> None:
    one, other = matrix.made["read"], matrix.made["admin"]
    answer = matrix.call("GET", "/api/v1/ledger", key=one, headers={"x-api-key": other})
    assert answer.status_code == 401
    assert matrix.call("GET", "/api/v1/ledger", key=one, headers={"x-api-key": one}).status_code == 200


def accepted(hub: Hub, key: str) -> dict[str, int]:
    """Accepted events by tenant as that key sees them, once the readings are fresh."""
    hub.app.state.readings._ledger._kept = None
    body = hub.call("GET", "/api/v1/ledger", key=key).json()
    return {one["tenant_id"]: one["accepted"] for one in body["tenants"]}


def test_tenants_see_their_own_rows_only(hub: Hub) -> None:
    hub.tenants.create_organisation("acme")
    for name in ("acme-a", "acme-b"):
        hub.tenants.create(name, organisation_id="acme")
    hub.post([event(1)], key=hub.key("ingest"))
    hub.post([event(1), event(2)], key=hub.key("ingest", tenant="acme-a"))
    # The same event id of another tenant is another event.
    hub.post([event(1)], key=hub.key("ingest", tenant="acme-b"))
    everything = {"default": 1, "acme-a": 2, "acme-b": 1}
    assert accepted(hub, hub.admin) == everything
    assert accepted(hub, hub.key("admin", tenant="acme-a")) == {"acme-a": 2, "acme-b": 1}
    assert accepted(hub, hub.key("read", tenant="acme-a")) == {"acme-a": 2}
    metrics = hub.call("GET", "/metrics", key=hub.key("read", tenant="acme-a")).text
    assert 'hub_events_accepted_total{tenant="acme-a"} 2.0' in metrics
    assert "acme-b" not in metrics and "default" not in metrics


@pytest.mark.parametrize("where", ["query", "header", "body"])
def test_an_ordinary_key_never_reaches_another_tenant(matrix: Hub, where: str) -> None:
    more: dict[str, Any] = {"params": {"tenant": "acme-test"}} if where == "query" else {}
    if where == "header":
        more = {"headers": {"x-hub-tenant": "acme-test", "x-scope-orgid": "acme-test"}}
    row = event(1, event_id=f"reach-{where}", **({"tenant_id": "acme-test"} if where == "body" else {}))
    answer = matrix.post([row], key=matrix.made["ingest"], **more)
    assert "acme-test" not in accepted(matrix, matrix.admin)
    if where == "query":
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_an_admin_acts_for_tenants_it_covers(matrix: Hub) -> None:
    def status(key: str, tenant: str) -> int:
        return matrix.call("GET", "/api/v1/ledger", key=key, params={"tenant": tenant}).status_code

    acme, operator = matrix.made["admin"], matrix.admin
    assert [status(acme, name) for name in ("acme-prod", "acme-test", "default", "nobody", "../x", "")] == [
        200, 200, 403, 403, 403, 403,
    ]  # fmt: skip
    assert [status(operator, name) for name in ("acme-prod", "default", "nobody")] == [200, 200, 403]
    twice = matrix.call("GET", "/api/v1/ledger?tenant=acme-prod&tenant=acme-test", key=acme)
    assert twice.status_code == 422


def test_the_answer_does_not_tell_whether_a_tenant_exists(matrix: Hub) -> None:
    answers = [
        matrix.call("GET", "/api/v1/ledger", key=matrix.made["read"], params={"tenant": name}).json()
        for name in ("acme-test", "nobody")
    ]
    assert answers[0] == answers[1]


def test_a_burst_with_one_key_asks_the_store_once_and_revocation_takes_effect(hub: Hub) -> None:
    key = hub.key("read")

    async def burst() -> list[int]:
        answers = await asyncio.gather(*(hub.send("GET", "/api/v1/ledger", key=key) for _ in range(8)))
        return [answer.status_code for answer in answers]

    assert set(hub.run(burst())) == {200}
    hub.keys.revoke(key.split("_")[1], among={TenantId(DEFAULT_TENANT)})
    hub.app.state.authorise.gate._known._kept.clear()
    assert hub.call("GET", "/api/v1/ledger", key=key).status_code == 401
