"""The page of anomalies over a hub that found some: what is told, where it leads, and what a reader says of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from cluster.sdk.client import HubClient
from infra.runtime import processes
from tests.journeys.board_making import call, tenant
from tests.journeys.board_oracle import compare
from tests.journeys.board_pages import Opened, Reader, chromium, opened
from tests.journeys.test_dashboards import reader, serious, sound

__all__ = ["reader"]

pytestmark = pytest.mark.journey

TENANT = "faulty"
MINUTES = 200
# Calls of each minute, and the minutes ago between which all of them fail, ten times slower than before.
_CALLS, _FAULT = 6, range(20, 34)
_FOUND_WITHIN_S = 120.0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def calls(now: datetime) -> Iterator[dict[str, Any]]:
    """Three hours of steady calls with a quarter of an hour in which they fail."""
    for minute in range(MINUTES, 2, -1):
        for number in range(_CALLS):
            fails = minute in _FAULT
            yield {
                "event_id": f"fault-{minute}-{number}",
                "occurred_at": (now - timedelta(minutes=minute) + timedelta(seconds=9 * number)).isoformat(),
                "module": "gateway",
                "kind": "gateway.request",
                "provider": "openai",
                "model": "gpt-4o",
                "service": "support-chat",
                "status": "error" if fails else "ok",
                "latency_ms": 8_000.0 + number if fails else 800.0 + 10 * number,
                "input_tokens": 500 + number,
                "output_tokens": 100,
                "cost_usd": "0.002",
                "trace_id": f"{0xFA000000 + minute * _CALLS + number:032x}",
                "span_id": f"{0xFA00 + number:016x}",
            }


@pytest.fixture(scope="module")
def found(reader: Reader) -> list[dict[str, Any]]:
    """What the hub found of a fault in a tenant of its own."""
    with HubClient(reader.url, tenant(reader, TENANT).key, timeout_s=60.0) as client:
        assert client.post_events(list(calls(datetime.now(UTC)))).refused == 0

    def told() -> list[dict[str, Any]]:
        anomalies: list[dict[str, Any]] = call(reader, "GET", f"anomalies?tenant={TENANT}&from=-6h")["anomalies"]
        return anomalies

    assert processes.wait_until(lambda: bool(told()), deadline_s=_FOUND_WITHIN_S, every_s=1.0), "nothing was found"
    return told()


@pytest.fixture
def seen(browser: Browser, reader: Reader, found: list[dict[str, Any]]) -> Iterator[Opened]:
    seen = opened(browser, reader, f"#/anomalies?range=6h&tenant={TENANT}", height=1_200).settle()
    yield seen
    sound(seen)
    seen.close()


def test_what_was_found_is_told_with_its_drivers(seen: Opened, found: list[dict[str, Any]]) -> None:
    incidents = seen.page.get_by_test_id("incidents")
    first = incidents.locator("ol > li").first
    newest = next(one for one in found if one["id"] == first.get_attribute("data-id"))
    drawn = first.locator(".drivers li .share").all_inner_texts()
    assert [float(text.removesuffix("%")) for text in drawn] == pytest.approx(
        [round(100 * one["share"], 1) for one in newest["drivers"][:4]], abs=0.06
    )
    expect(first.locator(".badge").first).to_have_text(newest["severity"])
    for name in ("course", "found"):
        assert compare(seen.rows(name), seen.asked(name)) > 0


def test_it_leads_to_a_trace_of_its_time(seen: Opened, found: list[dict[str, Any]]) -> None:
    seen.page.get_by_test_id("incidents").get_by_role("link", name="Trace 1").first.click()
    expect(seen.page.get_by_test_id("trace-facts")).to_be_visible()
    assert any(trace in seen.page.url for one in found for trace in one["trace_ids"])
    assert f"tenant={TENANT}" in seen.page.url


def test_what_a_reader_says_of_it_is_kept(seen: Opened, reader: Reader, found: list[dict[str, Any]]) -> None:
    item = seen.page.get_by_test_id("incidents").locator(f"li[data-id='{found[0]['id']}']")
    for words, label in (("Real", "true"), ("False alarm", "false")):
        item.get_by_role("button", name=words).click()
        expect(item.get_by_role("button", name=words)).to_have_attribute("aria-pressed", "true")
        # In a sentence, what becomes of alarms like it.
        learned = "as before, over" if label == "true" else "has to score over"
        expect(item.get_by_role("status")).to_contain_text(learned)
        kept = call(reader, "GET", f"anomalies?tenant={TENANT}&from=-6h")["anomalies"]
        assert next(one["feedback"] for one in kept if one["id"] == found[0]["id"]) == label


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_list_is_accessible(browser: Browser, reader: Reader, found: list[dict[str, Any]], theme: str) -> None:
    seen = opened(browser, reader, f"#/anomalies?range=6h&tenant={TENANT}", theme=theme).settle()
    assert found and serious(seen) == []
    seen.close()
