"""Pictures of every page of a running hub, as docs/pages holds them: wide and narrow, light and dark, on a sheet each.

`python -m tests.journeys.pictures --url URL --key KEY --out docs/pages` takes them all, `--only costs,trace` some of
them; with `--whole DIR` each page is also kept at its full height and size. The key is an admin key of the hub: two
tenants are made beside its own, one with a platform's events and one without any.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from PIL import Image
from playwright.sync_api import Browser, expect

from cluster.sdk.client import HubClient
from tests.journeys.board_making import RANKED, call, kept, panel, tenant
from tests.journeys.board_pages import BOARDS, Opened, Reader, chromium, opened
from tests.journeys.platform_events import platform_events

WIDE, NARROW = (1440, 1000), (390, 1000)
THEMES: Final = ("light", "dark")
_SCALE: Final = 0.5
_GAP: Final = 12
_GROUND: Final = (128, 128, 128)
# Of a palette: charts have few colours, and a sheet is a third of its size.
_COLOURS: Final = 160
_WHOLE_HEIGHT_MAX: Final = 6_000
_SENT_AT_ONCE: Final = 2_000
_DEAR: Final = {**RANKED, "limit": 8}
_OTHER, _EMPTY = "acme", "fresh"


@dataclass(frozen=True)
class Shot:
    """A page, and what is done on it before it is taken."""

    view: str
    reader: Reader
    ready: Callable[[Opened], object] = Opened.settle


def fill(reader: Reader) -> None:
    """A platform's events, each with the features and teams that costs are told by."""
    with HubClient(reader.url, reader.key, timeout_s=60.0) as client:
        events = platform_events(datetime.now(UTC))
        while some := list(islice(events, _SENT_AT_ONCE)):
            client.post_events(some)


def shots(reader: Reader, span: str = "24h") -> Iterator[tuple[str, Shot]]:
    """Every page by the name of its picture, over a range as the page's address spells it."""
    own = partial(Shot, reader=reader)
    for name in BOARDS:
        yield name, own(f"#/{name}?range={span}")
    yield "traces", own(f"#/traces?range={span}")
    yield "trace", own(f"#/traces?range={span}&where=trace_id:{_longest_trace(reader)}")
    yield "session", own(f"#/session?range={span}&where=session_id:{_dearest_session(reader)}")
    yield "gallery", own(f"#/gallery?range={span}")
    board = _board(reader)
    yield "board", own(f"#/boards/{board}?range={span}")
    yield "builder", own(f"#/boards/{board}/edit?range={span}", ready=_editing)
    yield "share", own(f"#/boards/{board}?range={span}", ready=_dialog("share", "make-link"))
    yield "versions", own(f"#/boards/{board}?range={span}", ready=_dialog("versions"))
    yield "fault", own(f"#/boards/{_faulty(reader)}?range={span}")
    yield "boards", own(f"#/boards?range={span}", ready=_shows("boards"))
    yield "away", own(f"#/overview?range={span}", ready=_away)
    yield "sign-in", own(f"#/overview?range={span}", ready=_signed_out)
    yield "empty", Shot(f"#/overview?range={span}", tenant(reader, _EMPTY))
    link = call(reader, "POST", f"dashboards/{board}/links", {"expires_in_s": 3_600})
    yield "embed", own(link["path"].lstrip("/"))


def _longest_trace(reader: Reader) -> str:
    found = call(reader, "GET", "traces?from=-24h&limit=100")["traces"]
    name: str = max(found, key=lambda one: (len(one["models"]), one["span_count"]))["trace_id"]
    return name


def _dearest_session(reader: Reader) -> str:
    asked = {"kind": "top", "measure": ["cost_usd"], "group_by": ["session_id"], "filter": ["session_id:exists:true"]}
    name: str = call(reader, "POST", "query", {**asked, "from": "-24h", "limit": 1})["rows"][0]["group"]["session_id"]
    return name


def _board(reader: Reader) -> str:
    sql = (
        "SELECT service, sum(cost_usd) AS cost_usd FROM events WHERE occurred_at >= $from AND occurred_at < $to"
        " AND counted & 4 <> 0 AND cost_usd > 0 AND ($model IS NULL OR model = $model)"
        " GROUP BY 1 ORDER BY 2 DESC LIMIT 8"
    )
    course = {"kind": "timeseries", "measure": ["cost_usd"], "group_by": ["provider"], "fill": "zero"}
    panels = [
        {**panel("course", 0, course, "stacked_area"), "title": "Cost by provider"},
        {**panel("models", 6, _DEAR), "title": "Dear models"},
        {
            **panel("services", 0, {"kind": "sql", "sql": sql, "limit": 20}, "horizontal_bar"),
            "title": "Services, in SQL",
            "place": {"x": 0, "y": 6, "w": 12, "h": 6},
        },
    ]
    more = {
        "kpis": [
            {"measure": "cost_usd", "title": "Cost", "worse": "more"},
            {"measure": "request_count", "title": "Requests", "worse": "neither"},
        ],
        "variables": [{"field": "model", "title": "Model"}],
        "annotations": True,
    }
    spec = {"title": "Team costs", "panels": panels, **more}
    made: str = call(reader, "POST", "dashboards", spec)["dashboard_id"]
    return made


def _faulty(reader: Reader) -> str:
    wrong = {"kind": "sql", "sql": "SELECT modle, count(*) FROM events GROUP BY 1"}
    return kept(reader, panel("refused", 0, wrong, "table"), panel("models", 6, _DEAR))


def _shows(name: str) -> Callable[[Opened], None]:
    return lambda seen: expect(seen.page.get_by_test_id(name)).to_be_visible()


def _editing(seen: Opened) -> None:
    seen.page.get_by_test_id("grip-models").click()
    expect(seen.page.get_by_test_id("panel-form")).to_be_visible()
    seen.settle()
    seen.page.evaluate("scrollTo(0, 0)")


def _dialog(name: str, button: str = "") -> Callable[[Opened], None]:
    def ready(seen: Opened) -> None:
        seen.settle()
        seen.page.get_by_test_id(f"open-{name}").click()
        expect(seen.page.get_by_test_id(name)).to_be_visible()
        if button:
            seen.page.get_by_test_id(button).click()
            expect(seen.page.get_by_test_id("embed-code")).to_be_visible()

    return ready


def _away(seen: Opened) -> None:
    seen.settle()
    seen.page.route("**/api/**", lambda route: route.abort())
    seen.page.get_by_test_id("refresh-now").click()
    expect(seen.page.get_by_test_id("away")).to_be_visible()


def _signed_out(seen: Opened) -> None:
    seen.settle()
    seen.page.get_by_role("button", name="Sign out").click()
    expect(seen.page.get_by_test_id("sign-in")).to_be_visible()


def taken(browser: Browser, shot: Shot, size: tuple[int, int], theme: str, whole: Path | None) -> bytes:
    """One page as it stands in the window; at its full height in a file as well."""
    seen = opened(browser, shot.reader, shot.view, width=size[0], height=size[1], theme=theme)
    try:
        shot.ready(seen)
        if whole is not None:
            # As tall as the page, rather than stitched: what sticks to the window stays in its place.
            height: int = seen.page.evaluate("document.documentElement.scrollHeight")
            seen.page.set_viewport_size({"width": size[0], "height": min(height, _WHOLE_HEIGHT_MAX)})
            seen.page.wait_for_timeout(400)
            whole.write_bytes(seen.page.screenshot())
            seen.page.set_viewport_size({"width": size[0], "height": size[1]})
            seen.page.wait_for_timeout(400)
        return seen.page.screenshot()
    finally:
        seen.close()


def sheet(pictures: Sequence[bytes]) -> bytes:
    """The pictures side by side, small, as one PNG of few colours."""
    small = []
    for content in pictures:
        image = Image.open(io.BytesIO(content)).convert("RGB")
        size = (round(image.width * _SCALE), round(image.height * _SCALE))
        small.append(image.resize(size, Image.Resampling.LANCZOS))
    width = sum(one.width for one in small) + _GAP * (len(small) + 1)
    joined = Image.new("RGB", (width, max(one.height for one in small) + 2 * _GAP), _GROUND)
    left = _GAP
    for one in small:
        joined.paste(one, (left, _GAP))
        left += one.width + _GAP
    told = io.BytesIO()
    few = joined.quantize(_COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(told, "PNG", optimize=True)
    return told.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Take the pictures and say how large each sheet is."""
    parser = argparse.ArgumentParser(prog="python -m tests.journeys.pictures", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="", help="names of pictures, by commas")
    parser.add_argument("--range", default="24h", help="as an address of the page spells it, 24h or two instants in ms")
    parser.add_argument("--whole", type=Path, help="folder for each page at its full size")
    options = parser.parse_args(arguments)
    reader = Reader(options.url.rstrip("/"), options.key)
    fill(tenant(reader, _OTHER))
    wanted = set(filter(None, options.only.split(",")))
    options.out.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for name, shot in shots(reader, options.range):
            if wanted and name not in wanted:
                continue
            pictures: list[Any] = []
            for size, theme in ((size, theme) for size in (WIDE, NARROW) for theme in THEMES):
                whole = options.whole / f"{name}-{size[0]}-{theme}.png" if options.whole else None
                pictures.append(taken(browser, shot, size, theme, whole))
            content = sheet(pictures)
            (options.out / f"{name}.png").write_bytes(content)
            print(f"{name}: {len(content) / 1e3:.0f} kB", file=sys.stderr)


if __name__ == "__main__":
    main()
