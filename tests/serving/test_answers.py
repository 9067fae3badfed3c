"""What every answer carries, what is logged of it, and the figures the hub tells of itself."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import httpx2
import pytest
import structlog
from fastapi import Request
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError

from actors.accounts import Account
from cluster import telemetry
from cluster.errors import Busy, HubError, JournalFailed, QueryTimeout, Unavailable
from serving.api.prometheus import OTHERS, TENANTS_MAX, bounded
from serving.problem import STATUS, answer
from tests.serving.conftest import SMALL, Hub, event, start


def every_error() -> list[type[HubError]]:
    """The whole family."""
    found, left = [], [HubError]
    while left:
        kind = left.pop()
        found.append(kind)
        left += kind.__subclasses__()
    return found


def test_every_error_at_a_door_has_a_status_of_its_own() -> None:
    inside = {"settings_invalid", "sequence_gap", "commit_lost", "fenced"}
    assert {kind.code for kind in every_error() if kind.__module__ == "cluster.errors"} - inside <= set(STATUS)


@pytest.mark.parametrize(
    ("error", "status", "wait"),
    [
        (Busy("x", retry_after_s=0.2), 429, "1"),
        (Unavailable("x", retry_after_s=2.1), 503, "3"),
        (JournalFailed("x"), 503, "2"),
        (QueryTimeout("x"), 504, None),
        (HubError("secret path /etc/x"), 500, None),
    ],
)
def test_time_to_come_again(error: HubError, status: int, wait: str | None) -> None:
    told = answer(error)
    assert (told.status_code, told.headers.get("retry-after")) == (status, wait)
    assert b"/etc/x" not in bytes(told.body)


@pytest.mark.parametrize("path", ["/api/v1/health", "/nope", "/v1/traces", "/"])
def test_every_answer_is_marked_and_hardened(shared_hub: Hub, path: str) -> None:
    headers = shared_hub.call("GET", path).headers
    assert headers["x-hub"] == "1"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert len(headers["x-request-id"]) == 32


@pytest.mark.parametrize(("given", "kept"), [("abc-1.2_3", True), ("a b", False), ("x" * 129, False), ("a\tb", False)])
def test_request_ids_are_kept_if_harmless(shared_hub: Hub, given: str, kept: bool) -> None:
    answered = shared_hub.call("GET", "/api/v1/health", headers={"x-request-id": given}).headers["x-request-id"]
    assert (answered == given) is kept


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (RuntimeError("secret in here"), 500),
        (BackPressureError(num_queued_requests=1, max_queued_requests=1), 429),
        (RayActorError(), 503),
    ],
)
def test_what_nobody_foresaw_is_still_an_answer(hub: Hub, raised: Exception, status: int) -> None:
    @hub.app.get("/broken")
    async def broken(request: Request) -> None:
        raise raised

    with structlog.testing.capture_logs() as lines:
        told = hub.call("GET", "/broken")
    assert (told.status_code, told.headers["content-type"]) == (status, "application/problem+json")
    assert "secret" not in told.text and "Traceback" not in told.text
    assert told.headers["x-hub"] == "1"
    assert lines[-1]["status"] == status


def test_logs_name_the_key_and_never_hold_it(hub: Hub) -> None:
    key = hub.key("ingest")
    with structlog.testing.capture_logs() as lines:
        hub.post([event(1, user_id="canary-user")], key=key, params={"module": "gateway"})
        hub.call("GET", "/api/v1/keys/canary-path", key=key)
    text = str(lines)
    assert key.split("_")[1] in text
    assert key.split("_", 2)[2] not in text and "canary" not in text
    assert [line["status"] for line in lines] == [202, 405]


def test_ready_names_what_is_away(hub: Hub) -> None:
    assert hub.call("GET", "/api/v1/ready").json() == {"status": "degraded", "reasons": ["query: does not answer"]}
    hub.pool.drain_shards()
    hub.app.state.readings._shards._kept = None
    told = hub.call("GET", "/api/v1/ready")
    assert (told.status_code, told.json()["status"], told.headers["retry-after"]) == (503, "not_ready", "2")
    assert "shard 0: draining, the hub is stopping" in told.json()["reasons"]


def test_metrics_are_those_of_the_catalogue(shared_hub: Hub) -> None:
    shared_hub.post([event(1), {}], key=shared_hub.key("ingest"))
    text = shared_hub.call("GET", "/metrics", key=shared_hub.admin).text
    told = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert told == {metric.name for metric in telemetry.CATALOGUE}
    assert 'hub_requests_total{method="POST",route="/api/v1/events",status="202"}' in text


def test_ids_in_paths_and_strange_methods_make_no_series(shared_hub: Hub) -> None:
    for number in range(20):
        shared_hub.call("GET", f"/nope/{number}")
        shared_hub.call("DELETE", f"/api/v1/keys/{number}", key=shared_hub.admin)
        shared_hub.call(f"BREW{number}", "/api/v1/health")
    text = shared_hub.call("GET", "/metrics", key=shared_hub.admin).text
    assert 'route="/api/v1/keys/{key_id}"' in text
    assert "/nope" not in text and "BREW" not in text


def test_labels_of_many_tenants_are_bounded_and_nothing_is_left_out() -> None:
    accounts = {f"t{number}": Account(accepted=number) for number in range(TENANTS_MAX + 50)}
    told = bounded(accounts)
    assert len(told) == TENANTS_MAX + 1
    assert sum(account.accepted for account in told.values()) == sum(range(TENANTS_MAX + 50))
    assert told[OTHERS].accepted == sum(range(50))


def eventually(hub: Hub, path: str, found: Any, *, within_s: float = 20.0, **params: Any) -> httpx2.Response:
    """The first answer that `found` accepts; asking again is the wait."""
    ends = time.monotonic() + within_s
    while True:
        told = hub.call("GET", path, key=hub.admin, params=params)
        if (told.status_code == 200 and found(told.json())) or time.monotonic() > ends:
            return told


def test_an_acknowledged_event_is_found(tmp_path_factory: pytest.TempPathFactory) -> None:
    for hub in start(replace(SMALL, data=tmp_path_factory.mktemp("hub"), refresh_s=0.05), asks=True):
        rows = [event(number, event_id=f"found-{number}") for number in range(25)]
        assert hub.post(rows, key=hub.admin).json()["accepted"] == 25
        asked = {"from": "-1h", "limit": 50}
        told = eventually(hub, "/api/v1/events/search", lambda body: len(body["events"]) == 25, **asked)
        assert len(told.json()["events"]) == 25, told.text
        ledger = eventually(hub, "/api/v1/ledger", lambda body: body["total"]["committed"] == 25).json()
        assert (ledger["total"]["in_flight"], ledger["total"]["difference"]) == (0, 0)
        assert hub.call("GET", "/api/v1/ready").json()["status"] == "ready"
