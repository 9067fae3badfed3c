"""Every shipped board over a running hub: its numbers are the API's, and anybody can use it.

With HUB_URL and HUB_API_KEY set, that hub is looked at instead of one started for the tests.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from cluster.sdk.client import HubClient
from infra import web
from infra.runtime import processes
from tests.journeys.board_oracle import compare, is_empty
from tests.journeys.board_pages import BOARDS, Opened, Reader, chromium, opened
from tests.journeys.pictures import Shot, shots
from tests.journeys.platform_events import platform_events

pytestmark = pytest.mark.journey

AXE = Path(web.SOURCES) / "node_modules" / "axe-core" / "axe.min.js"
PAGES = (*BOARDS, "traces", "gallery")
TALL = 1_200
LONG_TRACE, LONG_SPANS = "b0a" + "d" * 29, 10_000
_SENT_AT_ONCE = 2_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def reader(request: pytest.FixtureRequest) -> Reader:
    """The hub of the tests with a platform's events in it."""
    web.build()
    if "HUB_URL" in os.environ:
        reader = Reader(os.environ["HUB_URL"].rstrip("/"), os.environ["HUB_API_KEY"])
    else:
        hub = request.getfixturevalue("hub")
        reader = Reader(hub.url, hub.key)
    send(reader, platform_events(datetime.now(UTC)))
    return reader


def send(reader: Reader, events: Iterator[dict[str, Any]]) -> None:
    """Send events and wait until the last of them can be read."""
    last = ""
    with HubClient(reader.url, reader.key, timeout_s=60.0) as client:
        while some := list(islice(events, _SENT_AT_ONCE)):
            receipt = client.post_events(some)
            assert receipt.refused == 0, receipt
            last = f"event_id:eq:{some[-1]['event_id']}"
        assert processes.wait_until(
            lambda: bool(client.query("search", filter=[last], from_="-7d")["events"]), deadline_s=60.0, every_s=0.5
        )


def sound(seen: Opened) -> None:
    """Nothing was thrown, stopped by the policy, or written to the prototype of all objects."""
    assert seen.page.evaluate("(() => { for (const name in {}) return name; return null })()") is None
    assert seen.complaints == []
    assert seen.violations() == []


@pytest.fixture(scope="module", params=PAGES)
def look(browser: Browser, reader: Reader, request: pytest.FixtureRequest) -> Iterator[Opened]:
    """A page, opened once for all that is to be found out about it."""
    seen = opened(browser, reader, f"#/{request.param}?range=6h", height=TALL).settle()
    yield seen
    sound(seen)
    seen.close()


def serious(seen: Opened) -> list[str]:
    """What axe finds serious or critical on a page as it stands."""
    if not AXE.exists():
        # Installs what only the checks of the page need.
        web.check()
    if not seen.page.evaluate("'axe' in window"):
        seen.page.evaluate(AXE.read_text())
    found = seen.page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"][:3]
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_has_a_serious_violation_of_accessibility(look: Opened, theme: str) -> None:
    shown = look.page.evaluate("document.documentElement.dataset.theme")
    if shown != theme:
        look.page.get_by_test_id("theme").click()
    assert look.page.evaluate("document.documentElement.dataset.theme") == theme
    assert serious(look) == []


@pytest.fixture(scope="module")
def states(reader: Reader) -> dict[str, Shot]:
    """Pages and states that no board stands for, by the names of their pictures."""
    return dict(shots(reader))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["trace", "session", "board", "fault", "away", "empty", "embed"])
def test_no_state_of_a_page_has_one_either(browser: Browser, states: dict[str, Shot], name: str, theme: str) -> None:
    shot = states[name]
    seen = opened(browser, shot.reader, shot.view, height=TALL, theme=theme)
    shot.ready(seen)
    assert seen.page.evaluate("document.documentElement.dataset.theme") == theme
    assert serious(seen) == []
    seen.close()


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_runs_off_the_side(look: Opened, width: int) -> None:
    look.page.set_viewport_size({"width": width, "height": TALL})
    assert look.page.evaluate("document.documentElement.scrollWidth") <= width


def test_every_number_of_a_page_is_the_api_s(look: Opened) -> None:
    compared = 0
    for name, state in look.states().items():
        asked = look.asked(name) if state != "failed" else []
        if state == "drawn":
            assert look.painted(name) > 0.001, name
            compared += compare(look.rows(name), asked)
        elif state == "empty":
            assert is_empty(asked[0][2]), name
            expect(look.panel(name).get_by_test_id("empty")).to_be_visible()
        else:
            # A page that is older than its hub says so; any other failure is one.
            expect(look.panel(name).get_by_test_id("missing")).to_be_visible()
    assert compared > 10 or "anomalies" in look.page.url


def test_figures_above_a_board_are_the_api_s(browser: Browser, reader: Reader) -> None:
    seen = opened(browser, reader, "#/latency?range=6h").settle()
    (values,) = [
        body["rows"][0]["values"]
        for asked, body in seen.answers.items()
        if '"kind":"aggregate"' in asked and '"compare":"previous"' in asked
    ]
    for measure, value in values.items():
        shown = seen.page.get_by_test_id(f"kpi-{measure}").get_attribute("data-value")
        assert shown == "" if value is None else float(shown or "nan") == pytest.approx(value)
    seen.close()


def test_a_click_filters_the_board_and_the_address_keeps_it(browser: Browser, reader: Reader) -> None:
    seen = opened(browser, reader, "#/costs?range=6h").settle()
    seen.panel("change").get_by_role("button", name="gpt-4o-mini").click()
    seen.page.wait_for_url("**where=model%3Agpt-4o-mini*")
    seen.settle()
    expect(seen.page.get_by_test_id("filter-model")).to_have_value("gpt-4o-mini")
    assert {row[0][1] for row in seen.rows("change")} == {"gpt-4o-mini"}
    again = opened(browser, reader, "#/costs?range=6h&where=model:gpt-4o-mini").settle()
    assert again.rows("change")[0][0][1] == "gpt-4o-mini"
    again.page.get_by_test_id("filter-model").select_option("")
    again.settle()
    assert len(again.rows("change")) > 1
    seen.close()
    again.close()


def test_a_row_leads_to_its_trace_and_back(browser: Browser, reader: Reader) -> None:
    seen = opened(browser, reader, "#/latency?range=6h").settle()
    seen.panel("slow").locator("tbody button").first.click()
    expect(seen.page.get_by_test_id("span-count")).not_to_have_text("0")
    seen.page.get_by_test_id("spans").locator("button").first.click()
    expect(seen.page.get_by_test_id("span-detail")).to_be_visible()
    seen.page.get_by_test_id("flame").click()
    expect(seen.page.locator("canvas").first).to_be_visible()
    seen.page.get_by_role("link", name="All traces").click()
    expect(seen.panel("traces")).to_have_attribute("data-state", "drawn")
    sound(seen)
    seen.close()


def long_trace() -> dict[str, Any]:
    """What the hub answers about one trace of many spans, ten to a task."""
    began = datetime.now(UTC).isoformat()
    spans = [
        {
            "id": f"{number:016x}",
            "parent": None if number == 0 else f"{number - number % 10 if number % 10 else 0:016x}",
            "depth": 0 if number == 0 else 2 if number % 10 else 1,
            "started_at": began,
            "latency_ms": float(LONG_SPANS if number == 0 else 8.5),
            "service": f"service-{number % 3}",
            "operation": "execute_tool",
            "status": "error" if number % 1000 == 999 else "ok",
        }
        for number in range(LONG_SPANS)
    ]
    return {
        "trace_id": LONG_TRACE,
        "started_at": began,
        "ended_at": began,
        "duration_ms": float(LONG_SPANS),
        "event_count": LONG_SPANS,
        "span_count": LONG_SPANS,
        "modules": {"observatory": LONG_SPANS},
        "totals": {"request_count": 0},
        "critical_path": [{"id": f"{0:016x}", "critical_ms": float(LONG_SPANS)}],
        "spans": spans,
    }


def test_a_trace_of_ten_thousand_spans_keeps_few_of_them_in_the_page(browser: Browser, reader: Reader) -> None:
    """The page is what is looked at here, so its answer is made up."""
    seen = opened(browser, reader, "#/traces?range=1h").settle()
    answers = {"answers": [{"status": 200, "answer": long_trace()}]}
    seen.page.route("**/api/v1/query", lambda route: route.fulfill(json=answers))
    seen.page.get_by_test_id("trace-id").fill(LONG_TRACE)
    seen.page.keyboard.press("Enter")
    expect(seen.page.get_by_test_id("span-count")).to_have_text("10k")
    spans = seen.page.get_by_test_id("spans")
    assert 0 < spans.locator("li").count() < 120
    spans.evaluate("list => list.scrollTo(0, list.scrollHeight)")
    expect(spans.locator(f"li[aria-posinset='{LONG_SPANS}']")).to_be_visible()
    assert spans.locator("li").count() < 120
    sound(seen)
    seen.close()
