"""The gallery over a running hub: it has every kind of the registry, and each of them draws what the API answered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from infra import web
from tests.journeys.board_oracle import compare
from tests.journeys.board_pages import Opened, Reader, chromium, opened
from tests.journeys.test_dashboards import reader, sound

__all__ = ["reader"]

pytestmark = pytest.mark.journey

REGISTRY = Path(web.SOURCES) / "src" / "charts" / "registry.ts"
# As many as the product promises.
_ASKED_AT_LEAST = 30


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def gallery(browser: Browser, reader: Reader) -> Iterator[Opened]:
    seen = opened(browser, reader, "#/gallery?range=6h").settle()
    seen.panel("gallery-flame").wait_for()
    seen.settle()
    yield seen
    sound(seen)
    seen.close()


def registered() -> list[str]:
    """Names of the kinds in the registry's source."""
    table = REGISTRY.read_text().split("export const CHARTS = {", 1)[1].split("} as const", 1)[0]
    return re.findall(r"^  (\w+): ", table, re.MULTILINE)


def test_the_gallery_has_every_kind_of_the_registry_once(gallery: Opened) -> None:
    kinds = (gallery.page.get_by_test_id("gallery-count").get_attribute("data-kinds") or "").split(" ")
    shown = [name.removeprefix("gallery-") for name in gallery.states()]
    assert sorted(shown) == sorted(kinds) == sorted(registered())
    assert len(set(kinds)) == len(kinds) >= _ASKED_AT_LEAST


@pytest.mark.parametrize("kind", registered())
def test_a_kind_draws_what_the_api_answered(gallery: Opened, kind: str) -> None:
    name = f"gallery-{kind}"
    assert gallery.states()[name] == "drawn"
    assert gallery.painted(name) > 0.001
    assert compare(gallery.rows(name), gallery.asked(name)) > 0


def test_no_two_kinds_of_one_question_draw_the_same_picture(browser: Browser, reader: Reader) -> None:
    seen = opened(browser, reader, "#/gallery?range=6h").settle()
    # Pictures of text differ by their markup, which the tests above read.
    pictures: list[str] = seen.page.evaluate(
        "[...document.querySelectorAll('main canvas')].map(one => one.toDataURL())"
    )
    assert len(set(pictures)) == len(pictures) > _ASKED_AT_LEAST
    seen.close()
