"""Boards of one's own in a real browser: built by mouse and by keyboard, kept, exported, restored."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.journeys.board_making import RANKED, call, kept, panel
from tests.journeys.board_oracle import compare
from tests.journeys.board_pages import Opened, Reader, chromium, opened
from tests.journeys.test_dashboards import reader, serious, sound

__all__ = ["reader"]

pytestmark = pytest.mark.journey


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def add(page: Page, name: str, text: str) -> None:
    """One more entry of a list in the form."""
    page.get_by_test_id(f"add-{name}").fill(text)
    page.get_by_test_id(f"add-{name}").press("Enter")


def stands(page: Page, name: str, *, column: int, row: int, wide: int, high: int) -> None:
    """Wait until a panel stands there."""
    words = f": column {column}, row {row}, {wide} wide, {high} high"
    expect(page.get_by_test_id(f"grip-{name}")).to_have_attribute("aria-label", re.compile(re.escape(words)))


def drag(page: Page, handle: Locator, dx: float, dy: float) -> None:
    # Out from under the header.
    page.evaluate("scrollTo(0, 0)")
    box = handle.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx / 2, y + dy / 2, steps=4)
    page.mouse.move(x + dx, y + dy, steps=4)
    page.mouse.up()


def saved(page: Page) -> str:
    """The id of the board that was kept just now."""
    expect(page.get_by_test_id("builder")).to_have_attribute("data-changed", "false")
    found = re.search(r"#/boards/([a-z2-7]{24})/edit", page.url)
    assert found is not None, page.url
    return found[1]


def built_by_mouse(seen: Opened) -> str:
    """From the empty list to a kept board of two panels, with the mouse."""
    page = seen.page
    page.get_by_test_id("new").click()
    page.get_by_test_id("board-title").fill("By mouse")
    page.get_by_test_id("add-panel").click()
    page.get_by_test_id("panel-title").fill("Dear models")
    page.get_by_test_id("form").select_option("aggregate")
    add(page, "measure", "cost_usd")
    page.get_by_role("button", name="Remove request_count").click()
    page.locator("label", has_text="Horizontal bars").click()
    page.get_by_test_id("filter-field").fill("status")
    page.get_by_test_id("filter-value").fill("ok")
    page.get_by_test_id("filter-add").click()
    page.get_by_test_id("add-panel").click()
    page.get_by_test_id("form").select_option("sql")
    seen.settle()
    stands(page, "p2", column=7, row=1, wide=6, high=6)
    column = page.get_by_test_id("board").evaluate("board => (board.clientWidth + 14) / 12")
    drag(page, page.get_by_test_id("grip-p2"), -6 * column, 420)
    stands(page, "p2", column=1, row=8, wide=6, high=6)
    drag(page, page.get_by_test_id("size-p2"), 3 * column, 60)
    stands(page, "p2", column=1, row=8, wide=9, high=7)
    page.get_by_test_id("undo").click()
    stands(page, "p2", column=1, row=8, wide=6, high=6)
    page.get_by_test_id("redo").click()
    stands(page, "p2", column=1, row=8, wide=9, high=7)
    page.get_by_test_id("save").click()
    return saved(page)


def test_a_board_is_built_by_mouse_and_its_numbers_are_the_api_s(browser: Browser, reader: Reader) -> None:
    seen = opened(browser, reader, "#/boards?range=6h")
    name = built_by_mouse(seen)
    # As it was kept, not as the builder holds it.
    again = opened(browser, reader, f"#/boards/{name}?range=6h").settle()
    assert compare(again.rows("p1"), again.asked("p1")) > 1
    _, asked, _ = again.asked("p1")[0]
    assert asked["measure"] == ["cost_usd"] and asked["filter"] == ["status:eq:ok"]
    assert again.panel("p1").get_attribute("data-kind") == "horizontal_bar"
    _, _, answer = again.asked("p2")[0]
    assert [dict(row)["requests"] for row in again.rows("p2")] == [str(row["requests"]) for row in answer["rows"]]
    for one in (seen, again):
        sound(one)
        one.close()


def test_a_board_is_built_by_keyboard_alone(browser: Browser, reader: Reader) -> None:
    seen = opened(browser, reader, "#/boards?range=6h")
    page = seen.page
    page.get_by_test_id("new").focus()
    page.keyboard.press("Enter")
    page.get_by_test_id("add-panel").focus()
    page.keyboard.press("Enter")
    page.get_by_test_id("form").focus()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_test_id("form")).to_have_value("aggregate")
    page.get_by_test_id("chart-bar").focus()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_test_id("chart-horizontal_bar")).to_be_checked()
    seen.settle()
    page.get_by_test_id("grip-p1").focus()
    stands(page, "p1", column=1, row=1, wide=6, high=6)
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "Shift+ArrowRight", "Shift+ArrowDown"):
        page.keyboard.press(key)
    stands(page, "p1", column=2, row=3, wide=7, high=7)
    expect(page.get_by_test_id("grip-p1")).to_be_focused()
    # Steps of the keys that follow each other are one step back.
    page.keyboard.press("Control+z")
    stands(page, "p1", column=1, row=1, wide=6, high=6)
    page.keyboard.press("Control+Shift+Z")
    stands(page, "p1", column=2, row=3, wide=7, high=7)
    page.keyboard.press("Control+s")
    board = call(reader, "GET", f"dashboards/{saved(page)}")["board"]
    assert board["panels"][0]["place"] == {"x": 1, "y": 2, "w": 7, "h": 7}
    sound(seen)
    seen.close()


def test_an_older_version_is_restored(browser: Browser, reader: Reader) -> None:
    name = kept(reader, panel("one", 0, RANKED))
    seen = opened(browser, reader, f"#/boards/{name}/edit?range=6h")
    page = seen.page
    page.get_by_test_id("board-title").fill("Changed")
    page.get_by_test_id("save").click()
    expect(page.get_by_test_id("builder")).to_have_attribute("data-version", "2")
    page.get_by_test_id("view").click()
    page.get_by_test_id("open-versions").click()
    page.get_by_test_id("restore-1").click()
    expect(page.get_by_test_id("kept")).to_have_attribute("data-version", "3")
    expect(page.get_by_role("heading", level=1)).to_have_text("Made")
    sound(seen)
    seen.close()


def downloaded(page: Page, menu: str, item: str) -> bytes:
    page.get_by_test_id(f"menu-{menu}").click()
    with page.expect_download() as told:
        page.get_by_test_id(item).click()
    return Path(told.value.path()).read_bytes()


def test_panels_and_boards_leave_as_files(browser: Browser, reader: Reader) -> None:
    name = kept(reader, panel("one", 0, RANKED), panel("two", 6, RANKED, "pie"))
    seen = opened(browser, reader, f"#/boards/{name}?range=6h").settle()
    for menu, suffix in (("one", "-one"), ("board", "")):
        assert downloaded(seen.page, menu, f"png{suffix}")[:8] == b"\x89PNG\r\n\x1a\n"
        page = downloaded(seen.page, menu, f"pdf{suffix}")
        assert page.startswith(b"%PDF-1.4") and page.rstrip().endswith(b"%%EOF") and b"/DCTDecode" in page
    table = list(csv.reader(io.StringIO(downloaded(seen.page, "one", "csv-one").decode())))
    rows = seen.rows("one")
    assert table[0] == ["Model", "Cost"]
    assert table[1:] == [[cell for _, cell in row] for row in rows]
    exported = json.loads(downloaded(seen.page, "board", "export"))
    assert exported == call(reader, "GET", f"dashboards/{name}")["board"]
    # What left comes in again, as another board.
    seen.page.goto(f"{reader.url}/#/boards")
    seen.page.get_by_test_id("import").set_input_files(
        {"name": "board.json", "mimeType": "application/json", "buffer": json.dumps(exported).encode()}
    )
    expect(seen.page.get_by_test_id("kept")).to_be_visible()
    assert name not in seen.page.url
    sound(seen)
    seen.close()


@pytest.mark.parametrize(
    ("board", "words"),
    [
        ({"title": "x", "panels": [panel("a", 0, RANKED), panel("b", 6, {"kind": "evil"})]}, "$.panels[1].query"),
        ({"title": "x", "panels": [{**panel("a", 0, RANKED), "onclick": "alert(1)"}]}, "$.panels[0]"),
        ({"title": "x", "panels": [], "variables": [{"field": "<img>", "title": "x"}]}, "$.variables[0].field"),
        ({"title": "x", "panels": [panel("a", 9, RANKED)]}, "$.panels[0].place.w"),
        ({"title": "x", "panels": [], "__proto__": {"polluted": 1}}, "__proto__"),
    ],
)
def test_a_hostile_board_is_refused_with_the_path_of_its_fault(
    browser: Browser, reader: Reader, board: dict[str, Any], words: str
) -> None:
    seen = opened(browser, reader, "#/boards")
    seen.page.get_by_test_id("import").set_input_files(
        {"name": "board.json", "mimeType": "application/json", "buffer": json.dumps(board).encode()}
    )
    expect(seen.page.get_by_test_id("said")).to_contain_text(words)
    sound(seen)
    seen.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_builder_and_its_dialogs_are_accessible(browser: Browser, reader: Reader, theme: str) -> None:
    name = kept(reader, panel("one", 0, RANKED))
    seen = opened(browser, reader, "#/boards?range=6h", theme=theme)
    expect(seen.page.get_by_test_id("boards")).to_be_visible()
    assert serious(seen) == []
    seen.page.goto(f"{reader.url}/#/boards/{name}/edit?range=6h&refresh=off")
    seen.page.get_by_test_id("grip-one").click()
    expect(seen.page.get_by_test_id("panel-form")).to_be_visible()
    seen.settle()
    assert serious(seen) == []
    seen.page.get_by_test_id("view").click()
    for dialog in ("share", "versions"):
        seen.page.get_by_test_id(f"open-{dialog}").click()
        expect(seen.page.get_by_test_id(dialog)).to_be_visible()
        assert serious(seen) == []
        seen.page.keyboard.press("Escape")
    seen.page.get_by_test_id("menu-one").click()
    expect(seen.page.get_by_test_id("items-one")).to_be_visible()
    assert serious(seen) == []
    seen.page.keyboard.press("Escape")
    seen.page.get_by_role("button", name="Sign out").click()
    expect(seen.page.get_by_test_id("sign-in")).to_be_visible()
    assert serious(seen) == []
    seen.close()
