"""Boards in use: shared and embedded, with a panel that fails, narrowed by a stroke over a chart, live."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Browser, FrameLocator, Page, expect

from tests.journeys.board_making import RANKED, call, kept, panel
from tests.journeys.board_oracle import compare
from tests.journeys.board_pages import Reader, chromium, opened
from tests.journeys.test_dashboards import reader, send, sound

__all__ = ["reader"]

pytestmark = pytest.mark.journey


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


class Elsewhere:
    """A site of somebody else, of one page."""

    def __init__(self) -> None:
        self.body = ""
        outer = self

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(f"<!doctype html><title>Elsewhere</title>{outer.body}".encode())

            def log_message(self, *_: object) -> None:
                """Nothing is written to the output of the tests."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Elsewhere:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)

    def frame(self, browser: Browser, code: str) -> tuple[Page, FrameLocator]:
        """That page with the code in it, in a browser without any key."""
        self.body = code
        page = browser.new_context().new_page()
        page.goto(f"http://127.0.0.1:{self._server.server_port}/")
        return page, page.frame_locator("iframe")


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    with Elsewhere() as site:
        yield site


def test_a_signed_link_shows_the_board_elsewhere_until_it_ends(
    browser: Browser, reader: Reader, elsewhere: Elsewhere
) -> None:
    name = kept(
        reader, panel("one", 0, RANKED), range="6h", kpis=[{"measure": "cost_usd", "title": "C", "worse": "more"}]
    )
    seen = opened(browser, reader, f"#/boards/{name}?range=6h").settle()
    seen.page.get_by_test_id("open-share").click()
    seen.page.get_by_test_id("make-link").click()
    expect(seen.page.get_by_test_id("embed-code")).to_have_value(re.compile("<iframe "))
    code = seen.page.get_by_test_id("embed-code").input_value()
    seen.page.keyboard.press("Escape")
    page, frame = elsewhere.frame(browser, code)
    expect(frame.get_by_test_id("panel-one")).to_have_attribute("data-state", "drawn")
    frame.get_by_test_id("panel-one-table-toggle").click()
    shown = frame.get_by_test_id("panel-one").locator("tbody tr th").all_inner_texts()
    assert [text.strip() for text in shown] == [row[0][1] for row in seen.rows("one")]
    total = frame.get_by_test_id("kpi-cost_usd").get_attribute("data-value")
    assert float(total or "nan") == pytest.approx(sum(float(row[1][1]) for row in seen.rows("one")), rel=0.05)
    page.context.close()
    link = call(reader, "GET", f"dashboards/{name}/links")["links"][0]["link_id"]
    altered = re.sub(r"token=(.{9}).", lambda found: f"token={found[1]}{'A' if found[0][-1] != 'A' else 'B'}", code)
    call(reader, "DELETE", f"dashboards/{name}/links/{link}")
    for ended in (altered, code):
        page, frame = elsewhere.frame(browser, ended)
        address = re.search(r'src="([^"]+)"', ended)
        assert address is not None
        answer = page.request.get(address[1])
        assert answer.status == 401 and "Made" not in answer.text()
        assert frame.get_by_test_id("panel-one").count() == frame.get_by_test_id("page").count() == 0
        page.context.close()
    seen.close()


@pytest.mark.parametrize("right", ["none", "view", "edit"])
def test_another_key_is_offered_what_it_may_do(browser: Browser, reader: Reader, right: str) -> None:
    other = Reader(reader.url, call(reader, "POST", "keys", {"name": f"mate-{right}", "scopes": ["read"]})["key"])
    name = kept(reader, panel("one", 0, RANKED))
    call(reader, "PUT", f"dashboards/{name}/sharing", {"tenant": right, "organisation": "none"})
    seen = opened(browser, other, f"#/boards/{name}?range=6h")
    if right == "none":
        expect(seen.page.get_by_test_id("said")).to_be_visible()
        assert seen.page.get_by_test_id("kept").count() == 0
    else:
        expect(seen.page.get_by_test_id("kept")).to_be_visible()
        assert seen.page.get_by_test_id("edit").count() == (right == "edit")
        assert seen.page.get_by_test_id("open-share").count() == 0
    seen.close()


def test_a_panel_that_cannot_be_answered_says_why_and_the_others_live(browser: Browser, reader: Reader) -> None:
    wrong = {"kind": "sql", "sql": "SELECT nothing_like_it FROM events"}
    seen = opened(
        browser, reader, f"#/boards/{kept(reader, panel('bad', 0, wrong, 'table'), panel('good', 6, RANKED))}"
    )
    expect(seen.panel("bad").get_by_test_id("fault")).to_contain_text("nothing_like_it")
    expect(seen.panel("good")).to_have_attribute("data-state", "drawn")
    sound(seen)
    seen.close()


def test_a_stretch_drawn_over_a_chart_becomes_the_range(browser: Browser, reader: Reader) -> None:
    seen = opened(browser, reader, "#/overview?range=6h").settle()
    canvas = seen.panel("volume").locator(".canvas")
    box = canvas.bounding_box()
    assert box is not None
    seen.page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 60)
    seen.page.mouse.down()
    seen.page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 60, steps=5)
    seen.page.mouse.up()
    seen.page.wait_for_url(re.compile(r"range=\d{13}-\d{13}"))
    seen.settle()
    first, last = (int(text) / 1000 for text in re.findall(r"\d{13}", seen.page.url)[:2])
    assert 3600 < last - first < 4 * 3600
    times = [datetime.fromisoformat(row[0][1]).timestamp() for row in seen.rows("cost")]
    assert times
    assert all(first - 900 <= at <= last for at in times)
    assert compare(seen.rows("cost"), seen.asked("cost")) > 0
    seen.page.get_by_test_id("range-clear").click()
    seen.page.wait_for_url("**range=24h**")
    sound(seen)
    seen.close()


def test_new_events_appear_live_without_a_flicker(browser: Browser, reader: Reader) -> None:
    seen = opened(browser, reader, "#/overview?range=1h&refresh=live").settle()
    seen.page.evaluate(
        "window.blanks = 0; new MutationObserver(list => { for (const one of list)"
        " if (['loading', 'stale', 'failed'].includes(one.target.dataset.state)) window.blanks += 1 })"
        ".observe(document.body, { subtree: true, attributes: true, attributeFilter: ['data-state'] })"
    )
    tile = seen.page.get_by_test_id("kpi-request_count")
    before = float(tile.get_attribute("data-value") or 0)
    now = datetime.now(UTC)
    fresh = [
        {
            "event_id": f"live-{now.timestamp()}-{number}",
            "occurred_at": now.isoformat(),
            "module": "gateway",
            "kind": "gateway.request",
            "model": "gpt-4o",
            "status": "ok",
            "latency_ms": 5.0,
        }
        for number in range(3)
    ]
    send(reader, iter(fresh))
    expect(tile).not_to_have_attribute("data-value", str(int(before)), timeout=30_000)
    assert float(tile.get_attribute("data-value") or 0) >= before + 3
    assert seen.page.evaluate("blanks") == 0
    sound(seen)
    seen.close()


def test_a_refresh_of_a_board_is_one_request(browser: Browser, reader: Reader) -> None:
    seen = opened(browser, reader, "#/costs?range=6h").settle()
    asked: list[str] = []
    seen.page.on("request", lambda request: asked.append(request.url) if "/api/v1/" in request.url else None)
    with seen.page.expect_response(lambda response: "/api/v1/query" in response.url) as told:
        seen.page.get_by_test_id("refresh-now").click()
    parts = told.value.json()["answers"]
    assert len(parts) > 12
    assert {part["status"] for part in parts} == {304}
    assert len(asked) == 1
    seen.close()
