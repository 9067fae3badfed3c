"""The page in a real browser: what is drawn is what the API answered, and every state can be lived with.

Runs against the stand-in of `api_stand_in.py`; with HUB_URL and HUB_API_KEY set, also against that hub.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from infra import web
from tests.journeys.api_stand_in import KEY, Question, Running, StandIn

pytestmark = pytest.mark.journey

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip
PANELS = ("volume", "tokens", "errors", "latency", "cost", "models", "health")
# 2026-03-04T12:07:30Z: inside a window, so that the last one is still open.
FROZEN = 1772626050.0


@dataclass
class Seen:
    """A page with everything worth knowing that happened on it."""

    page: Page
    answers: list[tuple[Question, Any]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def panel(self, name: str) -> Locator:
        return self.page.get_by_test_id(f"panel-{name}")

    def table(self, name: str) -> list[list[str]]:
        """Rows of the table view of a panel as raw values; the view stays switched on."""
        panel = self.panel(name)
        if panel.get_by_test_id("table").count() == 0:
            self.page.get_by_test_id(f"panel-{name}-table-toggle").click()
        rows: list[list[str]] = panel.get_by_test_id("table").evaluate(
            "table => [...table.tBodies[0].rows].map(row => [...row.cells].map(cell => cell.dataset.value))"
        )
        return rows

    def answer(self, kind: str, *measures: str, **asked: Any) -> Any:
        """What was answered to the one question that has these measures, first to last, and parameters."""
        found = [
            body
            for question, body in self.answers
            if question["kind"] == kind
            and (not measures or tuple(question["measure"]) == measures)
            and all(question.get(name) == value for name, value in asked.items())
        ]
        assert len(found) == 1, (kind, measures, asked, [question for question, _ in self.answers])
        return found[0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    web.build()
    with Running(StandIn()) as running:
        yield running


@pytest.fixture
def hub(running: Running) -> Running:
    """The stand-in as if just started."""
    running.stand_in.reset(now=FROZEN)
    return running


def opened(browser: Browser, url: str, *, key: str | None = KEY, view: str = "", width: int = 1440) -> Seen:
    context = browser.new_context(viewport={"width": width, "height": 900}, timezone_id="Europe/Berlin")
    context.set_default_timeout(10_000)
    if key is not None:
        context.add_init_script(f"sessionStorage.setItem('hub.api-key', '{key}')")
    context.add_init_script(
        "window.violations = []; addEventListener('securitypolicyviolation', e => violations.push(e.violatedDirective))"
    )
    seen = Seen(context.new_page())
    seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))

    def keep(response: Any) -> None:
        if response.url.endswith("/ledger") and response.status == 200:
            seen.answers.append(({"kind": "ledger"}, response.json()))
        elif "/api/v1/query" in response.url and response.status == 200:
            asked = json.loads(response.request.post_data)["queries"]
            for question, part in zip(asked, response.json()["answers"], strict=True):
                if part["status"] == 200:
                    seen.answers.append((question, part["answer"]))

    seen.page.on("response", keep)
    seen.page.goto(f"{url}/{view}")
    return seen


def drawn(seen: Seen) -> Seen:
    for name in PANELS:
        expect(seen.panel(name)).to_have_attribute("data-state", re.compile("drawn|empty"))
    expect(seen.page.locator("main .canvas[data-waiting]")).to_have_count(0)
    return seen


@pytest.fixture
def seen(browser: Browser, hub: Running) -> Iterator[Seen]:
    seen = drawn(opened(browser, hub.url))
    yield seen
    assert seen.complaints == []
    assert seen.page.evaluate("violations") == []
    seen.page.context.close()


def close(cell: str, value: float) -> bool:
    return float(cell) == pytest.approx(value, rel=1e-12)


FIGURES = ("request_count", "cost_usd", "total_tokens", "latency_ms_p95", "error_ratio")
TOKENS = (
    "input_uncached_tokens", "cache_read_tokens", "cache_write_tokens", "output_text_tokens", "reasoning_tokens",
)  # fmt: skip


def compare_with_answers(seen: Seen) -> None:
    """Each panel's table against the very answers that the page received."""
    for name, measure in (("volume", "request_count"), ("errors", "error_ratio")):
        answer = seen.answer("timeseries", measure, to="now")
        points = [(t, value) for t, value in answer["series"][0]["points"]]
        rows = list(reversed(seen.table(name)))
        assert [row[0][:19] for row in rows] == [t[:19] for t, _ in points]
        for row, (_, value) in zip(rows, points, strict=True):
            assert row[1] == "" if value is None else close(row[1], value)
    cost = seen.answer("timeseries", "cost_usd", group_by=["model"])
    rows = list(reversed(seen.table("cost")))
    for i, row in enumerate(rows):
        assert sum(float(cell or 0) for cell in row[1:]) == pytest.approx(
            sum(float(series["points"][i][1] or 0) for series in cost["series"]), rel=1e-9, abs=1e-12
        )
    for name, asked, measures in (
        ("latency", ("latency_ms_avg", "latency_ms_p95", "request_count"), ("latency_ms_avg", "latency_ms_p95")),
        ("models", ("request_count",), ("request_count",)),
    ):
        answer = seen.answer("aggregate", *asked, group_by=["model"])
        told = {
            row["group"]["model"] or "(none)": row["values"]
            for row in answer["rows"]
            if any(row["values"][m] for m in measures)
        }
        printed = seen.table(name)
        assert [row[0] for row in printed] == list(told)
        for row in printed:
            for cell, measure in zip(row[1:], measures, strict=True):
                assert close(cell, told[row[0]][measure])
    tokens = seen.answer("aggregate", *TOKENS)["rows"][0]["values"]
    assert [float(row[1]) for row in seen.table("tokens")] == [float(value) for value in tokens.values()]
    total = seen.answer("ledger")["total"]
    committed, _, dead, _ = seen.table("health")
    if total["accepted"]:
        assert close(committed[1], total["committed"] / total["accepted"])
        assert close(dead[1], total["dead_letters"] / (total["accepted"] + total["repeated"] + total["dead_letters"]))
    figures = seen.answer("aggregate", *FIGURES, compare="previous")["rows"][0]["values"]
    for measure, value in figures.items():
        tile = seen.page.get_by_test_id(f"kpi-{measure}").get_attribute("data-value")
        assert tile == "" if value is None else close(tile or "nan", value)


@pytest.mark.parametrize("span", ["1h", "6h", "24h", "7d"])
def test_drawn_numbers_are_those_the_api_answered(browser: Browser, hub: Running, span: str) -> None:
    seen = drawn(opened(browser, hub.url, view=f"#/overview?range={span}"))
    compare_with_answers(seen)
    seen.page.context.close()


@pytest.mark.skipif("HUB_URL" not in os.environ, reason="HUB_URL names no running hub")
def test_drawn_numbers_of_a_running_hub_are_those_its_api_answered(browser: Browser) -> None:
    seen = drawn(
        opened(
            browser, os.environ["HUB_URL"].rstrip("/"), key=os.environ.get("HUB_API_KEY"), view="#/overview?refresh=off"
        )
    )
    compare_with_answers(seen)
    assert seen.page.evaluate("violations") == []
    seen.page.context.close()


def test_every_chart_has_painted_something(seen: Seen) -> None:
    for name in PANELS[:-1]:
        painted = (
            seen.panel(name)
            .locator("canvas")
            .first.evaluate(
                "c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
                " let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n / (c.width * c.height) }"
            )
        )
        assert painted > 0.005, name
    assert seen.panel("health").locator("circle.fill").count() >= 2


def test_arrow_keys_read_the_picture_value_by_value(browser: Browser, hub: Running) -> None:
    seen = drawn(opened(browser, hub.url, view="#/overview?range=1h"))
    points = seen.answer("timeseries", "request_count", to="now")["series"][0]["points"]
    seen.panel("volume").locator(".canvas").focus()
    for row in range(5):
        seen.page.keyboard.press("ArrowRight")
        expect(seen.panel("volume").locator(".tip-value").first).to_have_text(str(int(points[row][1])))
    # Berlin is an hour ahead of UTC in March; the tooltip names both.
    expect(seen.panel("volume").locator(".tip")).to_contain_text(f"{points[4][0][11:16]} UTC")
    expect(seen.panel("volume").locator(".tip-title")).to_contain_text(
        f"{int(points[4][0][11:13]) + 1}:{points[4][0][14:16]}"
    )
    seen.page.context.close()


def test_a_link_reopens_the_same_view(browser: Browser, hub: Running) -> None:
    seen = drawn(opened(browser, hub.url, view="#/overview?range=6h&module=gateway&refresh=5m"))
    assert seen.page.get_by_role("radio", name="6h").is_checked()
    assert seen.page.get_by_test_id("module").input_value() == "gateway"
    assert seen.page.get_by_test_id("refresh").input_value() == "5m"
    metrics = [asked for asked in hub.stand_in.asked if asked["kind"] != "search"]
    assert metrics
    assert all(asked["filter"] == ["module:eq:gateway"] and asked["from"] in ("-6h", "-12h") for asked in metrics)
    seen.page.get_by_role("radio", name="1h").check(force=True)
    seen.page.wait_for_url("**range=1h&module=gateway&refresh=5m")
    seen.page.context.close()


def test_signing_in_asks_for_the_key_and_says_where_it_is(browser: Browser, hub: Running) -> None:
    seen = opened(browser, hub.url, key=None)
    form = seen.page.get_by_test_id("sign-in")
    expect(form).to_contain_text("admin.key")
    seen.page.get_by_test_id("key").fill("not the key")
    seen.page.keyboard.press("Enter")
    expect(seen.page.get_by_test_id("sign-in-fault")).to_contain_text("does not know this key")
    seen.page.get_by_test_id("key").fill(KEY)
    seen.page.keyboard.press("Enter")
    drawn(seen)
    assert seen.page.evaluate("[sessionStorage.length, localStorage.length]") == [1, 0]
    seen.page.get_by_role("button", name="Sign out").click()
    expect(form).to_be_visible()
    assert seen.page.evaluate("[sessionStorage.length, localStorage.length]") == [0, 0]
    seen.page.context.close()


def test_a_failing_panel_says_why_and_the_others_live(browser: Browser, hub: Running) -> None:
    hub.stand_in.mode = "failing"
    seen = opened(browser, hub.url)
    expect(seen.panel("cost").get_by_test_id("fault")).to_contain_text("Grouping by model gives 18,000 series")
    expect(seen.panel("cost").get_by_test_id("fault")).to_contain_text("Choose a shorter range")
    expect(seen.panel("models")).to_have_attribute("data-state", "drawn")
    assert seen.page.get_by_test_id("away").count() == 0
    seen.page.context.close()


@pytest.mark.parametrize(("mode", "words"), [("away", "The hub is away"), ("busy", "The hub is busy")])
def test_old_numbers_stay_while_the_hub_is_away_and_come_back_alone(
    seen: Seen, hub: Running, mode: str, words: str
) -> None:
    before = seen.page.get_by_test_id("kpi-request_count").inner_text()
    hub.stand_in.mode = mode
    seen.page.get_by_test_id("refresh-now").click()
    expect(seen.page.get_by_test_id("away")).to_contain_text(words)
    assert seen.page.get_by_test_id("kpi-request_count").inner_text() == before
    expect(seen.panel("volume")).to_have_attribute("data-state", "drawn")
    hub.stand_in.mode = "full"
    expect(seen.page.get_by_test_id("away")).to_have_count(0, timeout=15_000)


def test_an_empty_hub_says_what_to_send(browser: Browser, hub: Running) -> None:
    hub.stand_in.mode = "empty"
    seen = drawn(opened(browser, hub.url))
    expect(seen.page.get_by_test_id("welcome")).to_contain_text("/api/v1/events")
    expect(seen.page.get_by_test_id("welcome")).to_contain_text("OTEL_EXPORTER_OTLP_ENDPOINT")
    for name in PANELS[:-1]:
        expect(seen.panel(name).get_by_test_id("empty")).to_be_visible()
    seen.page.context.close()


def test_names_with_markup_stay_text(browser: Browser, hub: Running) -> None:
    hostile = '<img src=x onerror="window.executed=1"><script>window.executed=1</script>'
    hub.stand_in.names = {"gpt-4o-mini": hostile, "gpt-4o": "\u202eevil\u202c \N{PILE OF POO}", "o4-mini": "x" * 5000}
    seen = drawn(opened(browser, hub.url))
    assert seen.table("models")[0][0] == hostile
    seen.panel("latency").locator(".canvas").focus()
    seen.page.keyboard.press("ArrowRight")
    expect(seen.panel("latency").locator(".tip-title")).to_have_text(hostile)
    seen.panel("cost").locator(".canvas").focus()
    seen.page.keyboard.press("End")
    expect(seen.panel("cost").locator(".tip")).to_contain_text("<script>")
    assert seen.page.locator("main img, main script").count() == 0
    assert seen.page.evaluate("window.executed") is None
    assert seen.page.evaluate("violations") == []
    seen.page.context.close()


def test_a_refresh_is_one_request_and_sends_no_unchanged_answer_again(seen: Seen, hub: Running) -> None:
    asked, unchanged, requests = len(hub.stand_in.asked), hub.stand_in.unchanged, hub.stand_in.requests
    seen.page.get_by_test_id("refresh-now").click()
    # Two questions for the volume, two for the figures, one for each other panel and for the marks; and the ledger.
    for _ in range(50):
        if hub.stand_in.unchanged - unchanged >= 11:
            break
        seen.page.wait_for_timeout(100)
    assert hub.stand_in.unchanged - unchanged == len(hub.stand_in.asked) - asked + 1 == 11
    assert hub.stand_in.requests - requests == 2


@pytest.mark.parametrize("width", [390, 820, 1440])
def test_nothing_runs_off_the_side(browser: Browser, hub: Running, width: int) -> None:
    seen = drawn(opened(browser, hub.url, width=width))
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    seen.page.context.close()
