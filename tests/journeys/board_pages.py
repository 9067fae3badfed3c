"""The boards of the page in a real browser: opened, waited for, and their tables read as raw values."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Dialog, Error, Locator, Page, expect, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
BOARDS = (
    "overview", "costs", "latency", "gateway", "guardrails", "registry", "audit", "sessions", "anomalies", "health",
)  # fmt: skip
SETTLED = (
    "document.querySelectorAll('main :is([data-state], [data-testid=trace-facts])').length > 0 &&"
    " document.querySelectorAll('[data-state=loading], [data-state=stale], main .canvas[data-waiting]').length === 0"
)
_TABLE = (
    "panel => [...panel.querySelector('table').tBodies[0].rows]"
    ".map(row => [...row.cells].map(cell => [cell.dataset.column ?? '', cell.dataset.value ?? cell.textContent]))"
)
_PAINTED = (
    "panel => { const canvas = panel.querySelector('canvas'); if (!canvas) return panel.querySelector('.drawing')"
    ".innerText.trim().length > 0 ? 1 : 0; const { width, height } = canvas;"
    " const data = canvas.getContext('2d').getImageData(0, 0, width, height).data; let n = 0;"
    " for (let i = 3; i < data.length; i += 4) n += data[i] > 0; return n / (width * height) }"
)

# One row of a table: (column key, raw text) of each cell.
Row = list[tuple[str, str]]


@dataclass(frozen=True)
class Reader:
    """Whom the page speaks to, and with which key."""

    url: str
    key: str


@dataclass
class Opened:
    """A page with what its hub answered and what it complained about."""

    page: Page
    answers: dict[str, Any] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)

    def keep(self, path: str, body: str | None, answer: Any) -> None:
        """Remember an answer by its question; a batch has one for each of its own."""
        asked = json.loads(body) if body else {}
        if asked.get("kind") != "batch":
            self.answers[f"{path} {body}" if body else path] = answer
            return
        for question, part in zip(asked["queries"], answer["answers"], strict=True):
            if part["status"] == 200:
                # As the page spells it.
                text = json.dumps(question, separators=(",", ":"), ensure_ascii=False)
                self.answers[f"{path} {text}"] = part["answer"]

    def settle(self) -> Opened:
        """Wait until every panel has its answer."""
        for _ in range(600):
            if self.page.evaluate(SETTLED):
                return self
            self.page.wait_for_timeout(100)
        raise AssertionError(f"panels still load: {self.states()}")

    def states(self) -> dict[str, str]:
        """Panel id -> drawn, empty or failed."""
        found: dict[str, str] = self.page.evaluate(
            "Object.fromEntries([...document.querySelectorAll('section[data-state]')]"
            ".map(one => [one.dataset.testid.slice(6), one.dataset.state]))"
        )
        return found

    def panel(self, name: str) -> Locator:
        return self.page.get_by_test_id(f"panel-{name}")

    def painted(self, name: str) -> float:
        """Share of the canvas that is not bare, 1 for a chart of text."""
        return float(self.panel(name).evaluate(_PAINTED))

    def rows(self, name: str) -> list[Row]:
        """The table of a panel; it stays switched on."""
        toggle = self.page.get_by_test_id(f"panel-{name}-table-toggle")
        if toggle.count() and toggle.get_attribute("aria-pressed") == "false":
            toggle.click()
        expect(self.panel(name).locator("table").first).to_be_visible()
        rows: list[Row] = self.panel(name).evaluate(_TABLE)
        return rows

    def asked(self, name: str) -> list[tuple[str, dict[str, Any], Any]]:
        """(path, parameters, answer) of each question of a panel."""
        lines = (self.panel(name).get_attribute("data-asked") or "").split("\n")
        return [(line.split("?")[0].split(" ")[0], _parameters(line), self.answers[line]) for line in lines]

    def violations(self) -> list[str]:
        """What the content security policy had to stop."""
        found: list[str] = self.page.evaluate("violations")
        return found

    def close(self) -> None:
        self.page.context.close()


def _parameters(line: str) -> dict[str, Any]:
    path, _, body = line.partition(" ")
    if body:
        parameters: dict[str, Any] = json.loads(body)
        return parameters
    return dict(urllib.parse.parse_qs(urllib.parse.urlsplit(path).query))


@contextmanager
def chromium() -> Iterator[Browser]:
    """Headless Chromium, or a skipped test where there is none."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(ARGUMENTS))
        yield browser
        browser.close()


def opened(
    browser: Browser,
    reader: Reader,
    view: str,
    *,
    width: int = 1440,
    height: int = 900,
    theme: str = "light",
    script: str = "",
) -> Opened:
    """The page at `view`, as `#/costs?range=6h`, with refreshing switched off; `script` runs before it."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if theme == "dark" else "light"
    )
    context.set_default_timeout(30_000)
    context.add_init_script(f"sessionStorage.setItem('hub.api-key', '{reader.key}')")
    context.add_init_script(
        "window.violations = []; addEventListener('securitypolicyviolation', e => violations.push(e.violatedDirective))"
    )
    if script:
        context.add_init_script(script)
    seen = Opened(context.new_page())
    seen.page.on("pageerror", lambda error: seen.complaints.append(f"{error}\n{error.stack}"))

    def refuse(dialog: Dialog) -> None:
        seen.complaints.append(f"dialog {dialog.message}")
        dialog.dismiss()

    seen.page.on("dialog", refuse)

    def keep(response: Any) -> None:
        if "/api/v1/" in response.url and response.status == 200:
            # A page that was left or closed takes its last answers with it.
            with suppress(Error):
                seen.keep(response.url.removeprefix(reader.url), response.request.post_data, response.json())

    seen.page.on("response", keep)
    joined = "&" if "?" in view else "?"
    seen.page.goto(f"{reader.url}/{view}{joined}refresh=off")
    return seen
