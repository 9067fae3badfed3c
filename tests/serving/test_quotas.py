"""Quotas and shares: what is granted, what is refused and how it is told, and that the rate holds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

# ruff: noqa: I001 -- before anything that imports Ray Serve.
from tests.serving.conftest import SMALL, Hub, event, start
from cluster.clock import ManualClock
from cluster.errors import RateLimited
from cluster.metadata.tenants import Quota
from cluster.settings import Settings
from cluster.telemetry import Telemetry
from cluster.tenancy import TenantId
from serving.auth.principal import Principal
from serving.dead_letter_alarm import DeadLetterAlarm
from serving.limits import TenantShares
from serving.quotas import Quotas
from serving.turns import Turns


def principal(name: str = "acme", **limits: Any) -> Principal:
    return Principal("k", TenantId(name), None, "o", frozenset(), Quota(**limits))


@given(
    steps=st.lists(st.tuples(st.floats(0, 3), st.integers(1, 400)), max_size=60),
    replicas=st.integers(1, 4),
)
def test_no_more_is_granted_than_rate_burst_and_one_request(steps: list[tuple[float, int]], replicas: int) -> None:
    clock = ManualClock()
    quotas = Quotas(Settings(ingress_replicas=replicas, quota_burst_s=2.0), clock=clock, telemetry=Telemetry())
    limited = principal(events_per_s=100)
    granted = 0
    for pause_s, rows in steps:
        clock.advance(pause_s)
        try:
            quotas.take_events(limited, rows)
            granted += rows
        except RateLimited as refused:
            assert refused.retry_after_s > 0
            clock.advance(refused.retry_after_s)
            # After the time that was told, the same is granted.
            quotas.take_events(limited, rows)
            granted += rows
    assert granted <= (clock.monotonic_s() + 2.0) * 100 / replicas + 400 + 1e-6


def test_without_a_limit_nothing_is_kept_and_nothing_refused() -> None:
    quotas = Quotas(Settings(), clock=ManualClock(), telemetry=Telemetry())
    for _ in range(1_000):
        quotas.enter(principal(), 10**9)
        quotas.take_events(principal(), 10**6)
        quotas.take_question(principal())


def test_a_tenants_own_zero_is_no_limit_whatever_the_hub_says() -> None:
    quotas = Quotas(Settings(quota_questions_per_s=1, quota_burst_s=1.0), clock=ManualClock(), telemetry=Telemetry())
    for _ in range(50):
        quotas.take_question(principal("free", questions_per_s=0))
    quotas.take_question(principal("plain"))
    with pytest.raises(RateLimited, match="questions_per_s of 1"):
        quotas.take_question(principal("plain"))


def test_a_tenant_at_its_share_leaves_room_for_others() -> None:
    shares = TenantShares(requests_max=2, bytes_max=100, telemetry=Telemetry())
    with shares.request("noisy", 500):
        with pytest.raises(RateLimited, match="bytes of bodies"), shares.request("noisy", 1):
            pass
        with (
            shares.request("quiet", 60),
            shares.request("quiet", 40),
            pytest.raises(RateLimited, match="2 requests open"),
            shares.request("quiet", 0),
        ):
            pass
    with shares.request("noisy", 100):
        pass


def test_turns_go_round_and_a_sender_that_left_takes_none() -> None:
    async def played() -> list[str]:
        turns = Turns(1)
        came: list[str] = []
        gate = asyncio.Event()

        async def work(tenant: str) -> None:
            async with turns.turn(tenant):
                came.append(tenant)
                await gate.wait()

        tasks = [asyncio.create_task(work(tenant)) for tenant in ("noisy", "noisy", "noisy", "gone", "quiet")]
        await asyncio.sleep(0)
        tasks[3].cancel()
        gate.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with turns.turn("last"):
            came.append("last")
        return came

    assert asyncio.run(played()) == ["noisy", "noisy", "quiet", "noisy", "last"]


def test_the_alarm_counts_a_window_and_forgets() -> None:
    clock = ManualClock()
    alarm = DeadLetterAlarm(Settings(dead_letter_share_max=0.1, dead_letter_window_s=100.0), clock)
    alarm.record("few", rows=2, refused=2)
    alarm.record("good", rows=1_000, refused=100)
    alarm.record("bad", rows=1_000, refused=101)
    assert (alarm.shares(), alarm.above()) == ({"few": 0.0, "good": 0.1, "bad": 0.101}, 1)
    clock.advance(60)
    assert alarm.above() == 1
    clock.advance(60)
    assert alarm.above() == 0


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Hub]:
    """Quotas are looked up anew by each request."""
    yield from start(replace(SMALL, data=tmp_path, key_cache_s=0.0), asks=True)


def _limit(hub: Hub, tenant: str, **limits: Any) -> None:
    answer = hub.call("PUT", f"/api/v1/tenants/{tenant}/quota", key=hub.admin, json=limits)
    assert answer.status_code == 200, answer.text
    assert {name: value for name, value in answer.json().items() if value is not None} == {
        "tenant_id": tenant,
        **limits,
    }


def test_a_tenant_over_its_events_is_told_so_and_another_is_not(limited: Hub) -> None:
    limited.tenants.create("noisy", organisation_id="operator")
    limited.tenants.create("quiet", organisation_id="operator")
    _limit(limited, "noisy", events_per_s=1, burst_s=1.0)
    noisy, quiet = limited.key("ingest", tenant="noisy"), limited.key("ingest", tenant="quiet")
    # One request passes whole, and is paid back before the next.
    assert limited.post([event(number) for number in range(1_000)], key=noisy).status_code == 202
    refused = limited.post([event(1_001)], key=noisy)
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert int(refused.headers["retry-after"]) > 900
    assert "events_per_s of 1" in refused.json()["detail"]
    assert "llmhub tenants quota" in refused.json()["hint"]
    span = limited.call("POST", "/v1/traces", key=noisy, content=b"{}", headers={"content-type": "application/json"})
    assert (span.status_code, span.json()["code"]) == (429, 8)
    assert span.json()["details"][0]["@type"].endswith("google.rpc.RetryInfo")
    assert limited.post([event(1)], key=quiet).status_code == 202
    _limit(limited, "noisy")
    assert limited.post([event(1_001)], key=noisy).status_code == 202
    limited.pool.drain_shards()
    accounts = limited.run(limited.pool.ledger())
    assert {name: (one.accepted, one.difference) for name, one in accounts.items()} == {
        "noisy": (1_001, 0),
        "quiet": (1, 0),
    }


def test_bytes_and_questions_have_quotas_too(limited: Hub) -> None:
    _limit(limited, "default", bytes_per_s=100, questions_per_s=1, burst_s=1.0)
    key = limited.key("ingest", "read")
    assert limited.post([event(1)], key=key).status_code == 202
    assert "bytes_per_s of 100" in limited.post([event(2)], key=key).json()["detail"]
    assert limited.call("GET", "/api/v1/events/search", key=key).status_code == 200
    answer = limited.call("GET", "/api/v1/events/search", key=key)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    told = limited.call("GET", "/metrics", key=key).text
    assert 'hub_quota_refusals_total{quota="bytes_per_s"} 1.0' in told
    assert 'hub_quota_refusals_total{quota="questions_per_s"} 1.0' in told


@pytest.mark.parametrize(
    "body", [{"events_per_s": -1}, {"burst_s": 0}, {"events_per_s": 10**16}, {"rate": 1}, {"bytes_per_s": "much"}, []]
)
def test_a_quota_that_makes_no_sense_is_a_problem(limited: Hub, body: Any) -> None:
    answer = limited.call("PUT", "/api/v1/tenants/default/quota", key=limited.admin, json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


def test_only_the_operator_sets_a_quota(limited: Hub) -> None:
    limited.tenants.create_organisation("globex")
    limited.tenants.create("globex-prod", organisation_id="globex")
    own = limited.key("admin", tenant="globex-prod")
    path = "/api/v1/tenants/globex-prod/quota"
    assert limited.call("PUT", path, key=own, json={}).status_code == 403
    assert limited.call("GET", path, key=own).json()["events_per_s"] is None
    assert limited.call("GET", "/api/v1/tenants/default/quota", key=own).status_code == 403


def test_a_tenant_that_sends_mostly_bad_rows_raises_an_alarm(limited: Hub) -> None:
    key = limited.key("ingest", "read")
    bad = [{**event(number), "occurred_at": "never"} for number in range(150)]
    answer = limited.post([*bad, *(event(number) for number in range(50))], key=key)
    assert answer.json()["refused"] == 150
    reasons = limited.call("GET", "/api/v1/ready").json()["reasons"]
    assert "dead letters: 1 tenants have over 10% of their rows refused" in reasons
    limited.pool.drain_shards()
    assert 'hub_dead_letter_share_ratio{tenant="default"} 0.75' in limited.call("GET", "/metrics", key=key).text
