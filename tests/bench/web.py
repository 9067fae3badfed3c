"""How fast the page is: `llmhub bench web`, in headless Chromium over a running hub.

For each board: time from navigation to the first chart and to the last panel, with nothing in the browser's cache;
then refreshes of the open page, with what they carried. Long tasks are those above 50 ms on the page's own thread.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page

from tests.bench.ingest import machine
from tests.journeys.board_pages import BOARDS, SETTLED, Opened, Reader, chromium, opened

# Instants since the navigation began, taken on the page itself.
_WATCH = (
    f"window.settled = () => {SETTLED};"
    "window.long = []; new PerformanceObserver(list => long.push(...list.getEntries().map(one => one.duration)))"
    ".observe({ type: 'longtask', buffered: true });"
    " window.first = null; window.done = null; const watch = new MutationObserver(() => { if (first === null &&"
    " document.querySelector('section[data-state=drawn] canvas')) first = performance.now();"
    " if (done === null && settled()) done = performance.now() });"
    " addEventListener('DOMContentLoaded', () =>"
    " watch.observe(document.body, { subtree: true, childList: true, attributes: true }))"
)
_BYTES = "performance.getEntriesByType('resource').reduce((sum, one) => sum + one.transferSize, 0)"


def measured(page: Page) -> dict[str, float]:
    """What the open page has cost so far."""
    long: list[float] = page.evaluate("long")
    return {
        "transfer_bytes": float(page.evaluate(_BYTES)),
        "long_tasks": float(len(long)),
        "long_task_ms_max": max(long, default=0.0),
    }


def loaded(browser: Browser, reader: Reader, board: str) -> tuple[dict[str, float], Opened]:
    """One cold load of a board: a new context has an empty cache."""
    seen = opened(browser, reader, f"#/{board}?range=24h", script=_WATCH).settle()
    first = float(seen.page.evaluate("first") or np.nan)
    return {
        "first_chart_ms": first,
        **measured(seen.page),
        "all_panels_ms": float(seen.page.evaluate("done") or np.nan),
    }, seen


def refreshed(seen: Opened) -> dict[str, float]:
    """One refresh by hand: from the click until every question of the beat has its answer."""
    page = seen.page
    page.evaluate("performance.clearResourceTimings(); long.length = 0")
    began = time.perf_counter()
    with page.expect_response(lambda response: "/api/v1/" in response.url):
        page.get_by_test_id("refresh-now").click()
    page.wait_for_load_state("networkidle")
    taken = (time.perf_counter() - began) * 1e3
    # Idle means half a second without a request, which is no part of the refresh.
    return {"refresh_ms": max(0.0, taken - 500.0), **measured(page)}


def spread(figures: list[dict[str, float]], name: str) -> dict[str, float]:
    values = np.array([one[name] for one in figures])
    return {"p50": round(float(np.nanpercentile(values, 50)), 1), "p95": round(float(np.nanpercentile(values, 95)), 1)}


def bench(reader: Reader, boards: Sequence[str], *, loads: int, refreshes: int) -> dict[str, Any]:
    """Figures by board."""
    told: dict[str, Any] = {}
    with chromium() as browser:
        for board in boards:
            cold, warm = [], []
            for _ in range(loads):
                figures, seen = loaded(browser, reader, board)
                cold.append(figures)
                if len(cold) == loads:
                    warm = [refreshed(seen) for _ in range(refreshes)]
                seen.close()
            told[board] = {
                **{name: spread(cold, name) for name in cold[0]},
                "refresh_ms": spread(warm, "refresh_ms"),
                "refresh_bytes": spread(warm, "transfer_bytes"),
                "refresh_long_task_ms_max": spread(warm, "long_task_ms_max"),
            }
    return told


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table and JSON."""
    parser = argparse.ArgumentParser(prog="llmhub bench web", description=__doc__)
    parser.add_argument("--url", default=os.environ.get("HUB_URL", "http://127.0.0.1:8000"))
    parser.add_argument("--key", default=os.environ.get("HUB_API_KEY", ""))
    parser.add_argument("--boards", default=",".join(BOARDS))
    parser.add_argument("--loads", type=int, default=5)
    parser.add_argument("--refreshes", type=int, default=10)
    parser.add_argument("--data", type=Path, help="Not used: the boards show what the hub holds.")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    reader = Reader(options.url.rstrip("/"), options.key)
    boards = bench(reader, options.boards.split(","), loads=options.loads, refreshes=options.refreshes)
    result = {"bench": "web", "machine": machine(), "boards": boards}
    print(f"{'board':<12}{'first chart p50/p95':>22}{'all panels p50/p95':>22}{'refresh p50/p95':>20}", file=sys.stderr)
    for board, one in boards.items():
        cells = [one["first_chart_ms"], one["all_panels_ms"], one["refresh_ms"]]
        texts = [f"{cell['p50']:.0f} / {cell['p95']:.0f} ms" for cell in cells]
        print(f"{board:<12}{texts[0]:>22}{texts[1]:>22}{texts[2]:>20}", file=sys.stderr)
    text = json.dumps(result, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
