"""Texts of events and boards in a real browser: shown as they are, executed never; the policy has nothing to stop."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.journeys.board_making import RANKED, call, kept, panel
from tests.journeys.board_pages import Reader, chromium, opened
from tests.journeys.hostile_texts import HOSTILE
from tests.journeys.test_dashboards import PAGES, TALL, reader, send, sound

__all__ = ["reader"]

pytestmark = pytest.mark.journey

_TITLE_MAX = 200
_LONG = "M" * 1_000_000
# What markup could leave behind if a name were ever taken for it.
_FOREIGN = "main :is(img, script, iframe, object, embed, form[action], link, meta, base, [onerror], [onload])"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def hostile_events(now: datetime) -> Iterator[dict[str, Any]]:
    """Each text in every field a person could write."""
    for number, text in enumerate(HOSTILE):
        yield {
            "event_id": f"hostile-{number}",
            "occurred_at": now.isoformat(),
            "module": "gateway",
            "kind": "gateway.request",
            "environment": "hostile",
            "status": "error" if number % 2 else "ok",
            "latency_ms": 11_000 + number,
            "cost_usd": "0.01",
            "input_tokens": 10,
            "trace_id": f"{0xBAD0000 + number:032x}",
            "span_id": f"{0xBAD + number:016x}",
            **dict.fromkeys(("model", "provider", "service", "user_id", "session_id", "region", "operation"), text),
            "attributes": {"gen_ai.tool.name": text, "team": text},
            "payload": {"name": text, "to": text, "actor": text},
        }
        yield {
            "event_id": f"hostile-change-{number}",
            "occurred_at": now.isoformat(),
            "module": "registry",
            "kind": "registry.version.promoted",
            "environment": "hostile",
            **dict.fromkeys(("model", "provider"), text),
            "payload": {"version": text, "alias": text},
        }


def test_no_text_of_an_event_is_ever_executed(browser: Browser, reader: Reader) -> None:
    assert len(set(HOSTILE)) >= 40
    send(reader, hostile_events(datetime.now(UTC)))
    views = [*(f"#/{page}?range=1h&where=environment:hostile" for page in PAGES)]
    views.append(f"#/traces?where=trace_id:{0xBAD0000:032x}")
    views.append(f"#/session?where=session_id:{HOSTILE[0]}")
    views += [f"#/{HOSTILE[0]}", f"#/costs?where=model:{HOSTILE[1]}&tenant={HOSTILE[0]}"]
    for view in views:
        seen = opened(browser, reader, view).settle()
        for canvas in seen.page.locator("main .canvas").all():
            canvas.focus()
            seen.page.keyboard.press("ArrowRight")
        assert seen.page.locator(_FOREIGN).count() == 0, view
        assert seen.page.evaluate("window.executed") is None, view
        sound(seen)
        seen.close()


def test_no_text_of_a_board_is_ever_executed(browser: Browser, reader: Reader) -> None:
    texts = [text for text in HOSTILE if 0 < len(text) <= _TITLE_MAX and text.isprintable()]
    assert len(texts) >= 40
    panels = [
        {
            **panel(f"p{number}", 0, RANKED),
            "title": text,
            "note": text,
            "empty": text,
            "draw": {"titles": {"cost_usd": text}},
            "place": {"x": number % 4 * 3, "y": number // 4 * 3, "w": 3, "h": 3},
        }
        for number, text in enumerate(texts)
    ]
    variables = [{"field": "model", "title": HOSTILE[0]}]
    name = kept(reader, *panels, title=HOSTILE[1], description=HOSTILE[2], variables=variables, range="6h")
    link = call(reader, "POST", f"dashboards/{name}/links", {})["path"].lstrip("/")
    for view in (f"#/boards/{name}", f"#/boards/{name}/edit", "#/boards", link):
        seen = opened(browser, reader, view).settle() if view != "#/boards" else opened(browser, reader, view)
        if view == f"#/boards/{name}":
            assert seen.panel("p0").locator("h2").inner_text() == texts[0]
            for dialog in ("share", "versions"):
                seen.page.get_by_test_id(f"open-{dialog}").click()
                expect(seen.page.get_by_test_id(dialog)).to_be_visible()
                seen.page.keyboard.press("Escape")
        if view == "#/boards":
            expect(seen.page.get_by_test_id("boards")).to_contain_text(HOSTILE[1])
        assert seen.page.locator(_FOREIGN).count() == 0, view
        assert seen.page.evaluate("window.executed") is None, view
        sound(seen)
        seen.close()


def test_a_megabyte_of_text_is_shown_without_breaking_the_page(browser: Browser, reader: Reader) -> None:
    now = datetime.now(UTC)
    long = {
        "event_id": "a-megabyte",
        "occurred_at": now.isoformat(),
        "module": "audit",
        "kind": "audit.config",
        "environment": "long",
        "payload": {"actor": _LONG, "action": "\u202eevil\u202c \U0001f4a9"},
    }
    send(reader, iter([long]))
    seen = opened(browser, reader, "#/audit?range=1h&where=environment:long", height=TALL).settle()
    row = dict(seen.rows("trail")[0])
    assert row["payload.actor"] == _LONG and row["payload.action"] == "\u202eevil\u202c \U0001f4a9"
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 1440
    sound(seen)
    seen.close()


def test_hostile_names_are_shown_as_they_are(browser: Browser, reader: Reader) -> None:
    send(reader, hostile_events(datetime.now(UTC)))
    seen = opened(browser, reader, "#/costs?range=1h&where=environment:hostile").settle()
    shown = {row[0][1] for row in seen.rows("change")}
    assert len(shown & {text.strip() for text in HOSTILE}) >= 15
    seen.close()
