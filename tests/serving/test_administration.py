"""Keys and tenants over HTTP."""

from __future__ import annotations

import pytest

from tests.serving.conftest import Hub, event


def test_a_key_is_shown_once(shared_hub: Hub) -> None:
    wanted = {"name": "ci", "scopes": ["ingest"]}
    answer = shared_hub.call("POST", "/api/v1/keys", key=shared_hub.admin, json=wanted)
    made = answer.json()
    assert (answer.status_code, made["scopes"], made["state"]) == (201, ["ingest"], "live")
    assert shared_hub.post([event(1)], key=made["key"]).status_code == 202
    listed = shared_hub.call("GET", "/api/v1/keys", key=shared_hub.admin)
    secret = made["key"].split("_", 2)[2]
    assert secret not in listed.text
    assert made["key_id"] in {key["key_id"] for key in listed.json()["keys"]}


def test_rotation_and_revocation(shared_hub: Hub) -> None:
    old = shared_hub.key("ingest")
    path = f"/api/v1/keys/{old.split('_')[1]}"
    new = shared_hub.call("POST", f"{path}/rotate", key=shared_hub.admin, json={"grace_s": 3600}).json()
    assert shared_hub.post([event(2)], key=old).status_code == 202
    assert shared_hub.post([event(3)], key=new["key"]).status_code == 202
    again = shared_hub.call("POST", f"{path}/rotate", key=shared_hub.admin)
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    ended = shared_hub.call("DELETE", path, key=shared_hub.admin)
    assert (ended.status_code, ended.json()["state"]) == (200, "revoked")
    missing = shared_hub.call("DELETE", "/api/v1/keys/nothing", key=shared_hub.admin)
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"name":"x"}',
        b'{"name":"x","scopes":[]}',
        b'{"name":"x","scopes":["root"]}',
        b'{"name":"x\\u0000","scopes":["read"]}',
        b'{"name":"\\ud800","scopes":["read"]}',
        b'{"name":"x","scopes":["read"],"more":1}',
        b'{"name":"x","scopes":["read"],"expires_at":"2001-01-01T00:00:00Z"}',
        b'{"name":"x","scopes":["read"],"expires_at":"2101-01-01T00:00:00"}',
        b'{"name":"x","scopes":["read"],"project_id":"nothing"}',
        b'{"a":' * 50_000,
        b'{"name":"x","scopes":' + b"[" * 90_000 + b"]" * 90_000 + b"}",
    ],
)
def test_a_bad_request_for_a_key_is_a_problem(shared_hub: Hub, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = shared_hub.call("POST", "/api/v1/keys", key=shared_hub.admin, content=body, headers=headers)
    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_request_that_is_no_door_for_events_stays_small(shared_hub: Hub) -> None:
    headers = {"content-type": "application/json"}
    body = b" " * (1024 * 1024 + 1)
    answer = shared_hub.call("POST", "/api/v1/keys", key=shared_hub.admin, content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_tenants_projects_and_the_keys_within(shared_hub: Hub) -> None:
    admin = shared_hub.admin
    organisation = {"organisation_id": "globex", "name": "Globex"}
    assert shared_hub.call("POST", "/api/v1/organisations", key=admin, json=organisation).status_code == 201
    tenant = {"tenant_id": "globex-prod", "organisation_id": "globex"}
    assert shared_hub.call("POST", "/api/v1/tenants", key=admin, json=tenant).status_code == 201
    assert shared_hub.call("POST", "/api/v1/tenants", key=admin, json=tenant).status_code == 409
    path = "/api/v1/tenants/globex-prod/projects"
    assert shared_hub.call("POST", path, key=admin, json={"project_id": "search"}).status_code == 201
    assert [p["project_id"] for p in shared_hub.call("GET", path, key=admin).json()["projects"]] == ["search"]
    wanted = {"name": "x", "scopes": ["ingest"], "project_id": "search"}
    made = shared_hub.call("POST", "/api/v1/keys?tenant=globex-prod", key=admin, json=wanted).json()
    assert (made["tenant_id"], made["project_id"]) == ("globex-prod", "search")
    own = shared_hub.key("admin", tenant="globex-prod")
    seen = shared_hub.call("GET", "/api/v1/tenants", key=own).json()["tenants"]
    assert [tenant["tenant_id"] for tenant in seen] == ["globex-prod"]
    stolen = {"tenant_id": "mine", "organisation_id": "operator"}
    assert shared_hub.call("POST", "/api/v1/tenants", key=own, json=stolen).status_code == 403
    listed = shared_hub.call("GET", "/api/v1/keys", key=own).json()["keys"]
    assert {key["tenant_id"] for key in listed} == {"globex-prod"}
