"""Boards in use: shared and embedded, with a panel that fails, narrowed by a stroke over a chart, live."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Browser, FrameLocator, Page, Response, expect

from tests.journeys.board_making import RANKED, call, kept, panel, tenant
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


@pytest.fixture(scope="module", autouse=True)
def brief(reader: Reader) -> tuple[str, float]:
    """The path of a link that lives as short as one may, and when it ends; made first, so that it ends meanwhile."""
    made = call(reader, "POST", f"dashboards/{kept(reader, panel('one', 0, RANKED))}/links", {"expires_in_s": 60})
    return made["path"], datetime.fromisoformat(made["expires_at"]).timestamp()


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


@pytest.fixture(scope="module")
def others(reader: Reader) -> dict[str, Reader]:
    """A key of the same tenant, one of another tenant of the organisation, and one of another organisation."""
    mate = call(reader, "POST", "keys", {"name": "reader", "scopes": ["read"]})["key"]
    return {
        "mate": Reader(reader.url, mate),
        "sister": tenant(reader, "sister"),
        "stranger": tenant(reader, "stranger", organisation="strangers"),
    }


@pytest.mark.parametrize("who", ["mate", "sister", "stranger"])
@pytest.mark.parametrize("right", ["none", "view", "edit"])
def test_another_key_is_offered_what_it_may_do(
    browser: Browser, reader: Reader, others: dict[str, Reader], right: str, who: str
) -> None:
    name = kept(reader, panel("one", 0, RANKED))
    if right != "none":
        # The owner gives the right in the dialog itself.
        owner = opened(browser, reader, f"#/boards/{name}?range=6h").settle()
        owner.page.get_by_test_id("open-share").click()
        with owner.page.expect_response(lambda response: response.url.endswith("/sharing")) as told:
            owner.page.get_by_test_id(f"share-{'tenant' if who == 'mate' else 'organisation'}").select_option(right)
        assert told.value.status == 200
        owner.close()
    right = "none" if who == "stranger" else right
    seen = opened(browser, others[who], f"#/boards/{name}?range=6h")
    if right == "none":
        expect(seen.page.get_by_test_id("said")).to_be_visible()
        assert seen.page.get_by_test_id("kept").count() == 0
    else:
        expect(seen.page.get_by_test_id("kept")).to_be_visible()
        assert seen.page.get_by_test_id("edit").count() == (right == "edit")
        assert seen.page.get_by_test_id("open-share").count() == 0
    if right == "edit":
        seen.page.get_by_test_id("edit").click()
        seen.page.get_by_test_id("board-title").fill(f"Changed by {who}")
        seen.page.get_by_test_id("save").click()
        expect(seen.page.get_by_test_id("builder")).to_have_attribute("data-version", "2")
        assert call(reader, "GET", f"dashboards/{name}")["title"] == f"Changed by {who}"
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
    # Not all in one commit: shards seal each by itself.
    arrived = "([tile, least]) => Number(tile.dataset.value) >= least"
    seen.page.wait_for_function(arrived, arg=[tile.element_handle(), before + 3], timeout=30_000)
    assert seen.page.evaluate("blanks") == 0
    sound(seen)
    seen.close()


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("SELECT model, count(*) AS n FROM events WHERE occurred_at >= $from AND occurred_at < $to"
         " AND ($model IS NULL OR model = $model) AND model IS NOT NULL GROUP BY 1", True),
        ("SELECT model, count(*) AS n FROM events WHERE model IS NOT NULL GROUP BY 1", False),
    ],
)  # fmt: skip
def test_a_sql_panel_follows_the_range_and_the_choices_it_names(
    browser: Browser, reader: Reader, sql: str, named: bool
) -> None:
    variables = [{"field": "model", "title": "Model"}]
    name = kept(reader, panel("sql", 0, {"kind": "sql", "sql": sql}), panel("all", 6, RANKED), variables=variables)
    counts = []
    for range_id in ("6h", "1h"):
        seen = opened(browser, reader, f"#/boards/{name}?range={range_id}").settle()
        counts.append(sum(float(row[-1][1]) for row in seen.rows("sql")))
        seen.page.get_by_test_id("filter-model").select_option("gpt-4o-mini")
        seen.settle()
        assert ({row[0][1] for row in seen.rows("sql")} == {"gpt-4o-mini"}) is named
        assert compare(seen.rows("sql"), seen.asked("sql")) > 0
        sound(seen)
        seen.close()
    assert (counts[0] > counts[1] > 0) is named


def test_an_embedded_board_asks_one_request_a_beat(browser: Browser, reader: Reader) -> None:
    sql = {"kind": "sql", "sql": "SELECT count(*) AS n FROM events WHERE occurred_at >= $from"}
    course = {"kind": "timeseries", "measure": ["request_count"], "compare": "previous"}
    kpis = [{"measure": "cost_usd", "title": "C", "worse": "more"}]
    panels = [panel("one", 0, RANKED), panel("two", 6, course, "line")]
    panels.append({**panel("three", 0, sql, "table"), "place": {"x": 0, "y": 6, "w": 6, "h": 6}})
    name = kept(reader, *panels, range="6h", kpis=kpis, refresh="live")
    path = call(reader, "POST", f"dashboards/{name}/links", {})["path"]
    context = browser.new_context()
    page = context.new_page()
    asked: list[tuple[str, list[int]]] = []
    page.on("response", lambda one: asked.append((one.url, _statuses(one))) if "/api/v1/" in one.url else None)
    page.goto(f"{reader.url}{path}")
    for one in ("one", "two", "three"):
        expect(page.get_by_test_id(f"panel-{one}")).to_have_attribute("data-state", "drawn")
    opening = len(asked)
    assert [url.rpartition("/")[2] for url, _ in asked] == [name, "answers"]
    page.wait_for_timeout(11_000)
    beats = asked[opening:]
    assert 1 <= len(beats) <= 3
    for url, statuses in beats:
        # The figures, their course, two charts, the period before, and the statement.
        assert url.endswith(f"/embed/{name}/answers") and len(statuses) == 6 and set(statuses) <= {200, 304}
    context.close()


def _statuses(response: Response) -> list[int]:
    return [part["status"] for part in response.json()["answers"]] if response.url.endswith("/answers") else []


def test_an_admin_looks_at_another_tenant_and_back(browser: Browser, reader: Reader) -> None:
    there = tenant(reader, "elsewhere")
    one = {
        "occurred_at": datetime.now(UTC).isoformat(),
        "event_id": "of-another-tenant",
        "module": "gateway",
        "kind": "gateway.request",
        "model": "theirs-alone",
        "cost_usd": "0.5",
    }
    send(there, iter([one]))
    seen = opened(browser, reader, "#/costs?range=6h").settle()
    assert {row[0][1] for row in seen.rows("tenants")} >= {"default", "elsewhere"}
    assert compare(seen.rows("tenants"), seen.asked("tenants")) > 3
    seen.panel("tenants").get_by_role("button", name="elsewhere").click()
    seen.page.wait_for_url("**tenant=elsewhere**")
    expect(seen.page.get_by_test_id("tenant")).to_have_value("elsewhere")
    seen.settle()
    assert {row[0][1] for row in seen.rows("change")} == {"theirs-alone"}
    seen.page.get_by_test_id("tenant").select_option("")
    seen.settle()
    assert "theirs-alone" not in {row[0][1] for row in seen.rows("change")}
    sound(seen)
    seen.close()
    # A key of one tenant has nothing to choose from, and its board of costs tells of its own tenant alone.
    own = opened(browser, there, "#/costs?range=6h").settle()
    assert own.page.get_by_test_id("tenant").count() == 0
    assert [row[0][1] for row in own.rows("tenants")] == ["elsewhere"]
    sound(own)
    own.close()


def test_a_refresh_of_a_board_is_one_request(browser: Browser, reader: Reader) -> None:
    seen = opened(browser, reader, "#/gateway?range=6h").settle()
    asked: list[str] = []
    seen.page.on("request", lambda request: asked.append(request.url) if "/api/v1/" in request.url else None)
    with seen.page.expect_response(lambda response: "/api/v1/query" in response.url) as told:
        seen.page.get_by_test_id("refresh-now").click()
    parts = told.value.json()["answers"]
    assert len(parts) > 12
    assert {part["status"] for part in parts} == {304}
    assert len(asked) == 1
    seen.close()


def test_a_link_whose_time_is_over_shows_nothing(browser: Browser, reader: Reader, brief: tuple[str, float]) -> None:
    path, ends_at = brief
    page = browser.new_context().new_page()
    page.wait_for_timeout(max(0.0, ends_at - datetime.now(UTC).timestamp()) * 1e3 + 500)
    answer = page.goto(f"{reader.url}{path}")
    assert answer is not None and answer.status == 401
    assert page.get_by_test_id("page").count() == 0
    page.context.close()
