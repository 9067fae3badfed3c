"""How fast the page is: `llmhub bench web`, in headless Chromium over a running hub.

For each board: time from navigation to the first chart and to the last panel, with nothing in the browser's cache;
then refreshes of the open page, with what they carried. Long tasks are those above 50 ms on the page's own thread.
A board of 24 panels is made for it. With the hub's folder, also what an open board costs the hub.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page

from infra.runtime import processes
from infra.runtime.layout import HubState, Layout
from tests.bench.ingest import machine
from tests.journeys.board_making import call
from tests.journeys.board_pages import BOARDS, SETTLED, Opened, Reader, chromium, opened

# Instants since the navigation began, taken on the page itself.
_WATCH = (
    f"window.settled = () => {SETTLED};"
    "window.long = []; new PerformanceObserver(list => long.push(...list.getEntries().map(one => one.duration)))"
    ".observe({ type: 'longtask', buffered: true });"
    " window.first = null; window.done = null; const watch = new MutationObserver(() => { if (first === null &&"
    " document.querySelector('section[data-state=drawn] .canvas:not([data-waiting])')) first = performance.now();"
    " if (done === null && settled()) done = performance.now() });"
    " addEventListener('DOMContentLoaded', () =>"
    " watch.observe(document.body, { subtree: true, childList: true, attributes: true }))"
)
_LAST_ANSWER = "Math.max(0, ...performance.getEntriesByType('resource').map(one => one.responseEnd)) - window.clicked"
LARGE = 24
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
    """One refresh by hand: from the click until the last answer of the beat has come."""
    page = seen.page
    page.evaluate("performance.clearResourceTimings(); long.length = 0; window.clicked = performance.now()")
    with page.expect_response(lambda response: "/api/v1/" in response.url):
        page.get_by_test_id("refresh-now").click()
    page.wait_for_load_state("networkidle")
    return {
        "refresh_ms": float(page.evaluate(_LAST_ANSWER)),
        "refresh_requests": float(page.evaluate("performance.getEntriesByType('resource').length")),
        **measured(page),
    }


def idle(browser: Browser, reader: Reader, board: str, *, data: Path, seconds: float) -> dict[str, float]:
    """CPU seconds a minute of all processes of the hub: left alone, and with a board open at each pace."""
    told = {"alone": _cpu_per_minute(data, seconds)}
    for refresh in ("30s", "live"):
        seen = opened(browser, reader, f"#/{board}?range=24h&refresh={refresh}").settle()
        told[refresh] = _cpu_per_minute(data, seconds, seen.page)
        seen.close()
    return {name: round(value, 2) for name, value in told.items()}


def _cpu_per_minute(data: Path, seconds: float, page: Page | None = None) -> float:
    before, began = cpu_s(data), time.monotonic()
    if page is None:
        time.sleep(seconds)
    else:
        page.wait_for_timeout(seconds * 1e3)
    return (cpu_s(data) - before) / (time.monotonic() - began) * 60


def cpu_s(data: Path) -> float:
    """CPU seconds that the processes of the hub over a folder have used so far."""
    state = HubState.load(Layout(data.resolve()))
    assert state is not None, f"no hub over {data}"
    ticks = 0
    for process in processes.members([pid for pid in (state.ray_pid, state.mlflow_pid) if pid]):
        with suppress(OSError):
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def large_board() -> dict[str, Any]:
    """As many panels as are still one board to look at, no two asking the same."""
    measures = ("request_count", "cost_usd", "total_tokens", "latency_ms_p95", "error_ratio", "unique_users")
    fields = ("model", "provider", "service")
    panels = []
    for number in range(LARGE):
        measure, field = measures[number % len(measures)], fields[number // len(measures) % len(fields)]
        course = {"kind": "timeseries", "measure": [measure], "group_by": [field], "fill": "zero"}
        ranked = {"kind": "aggregate", "measure": [measure], "group_by": [field], "filter": [f"{field}:exists:true"]}
        over = number % 2 == 0
        place = {"x": number % 4 * 3, "y": number // 4 * 5, "w": 3, "h": 5}
        kind = "line" if over else "horizontal_bar"
        query = course if over else ranked
        panels.append(
            {"id": f"p{number}", "title": f"{measure} by {field}", "kind": kind, "query": query, "place": place}
        )
    return {"title": f"{LARGE} panels", "panels": panels}


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
                "refresh_requests": spread(warm, "refresh_requests"),
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
    parser.add_argument("--data", type=Path, help="Folder of the hub: also measures its CPU.")
    parser.add_argument("--idle", type=float, default=60.0, metavar="SECONDS", help="How long it is watched.")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    reader = Reader(options.url.rstrip("/"), options.key)
    large = call(reader, "POST", "dashboards", large_board())["dashboard_id"]
    names = [*filter(None, options.boards.split(",")), f"boards/{large}"]
    boards = bench(reader, names, loads=options.loads, refreshes=options.refreshes)
    boards[f"{LARGE} panels"] = boards.pop(f"boards/{large}")
    result = {"bench": "web", "machine": machine(), "boards": boards}
    if options.data is not None:
        with chromium() as browser:
            result["hub_cpu_s_per_minute"] = idle(browser, reader, "overview", data=options.data, seconds=options.idle)
    print(f"{'board':<12}{'first chart p50/p95':>22}{'all panels p50/p95':>22}{'refresh p50/p95':>20}", file=sys.stderr)
    for board, one in boards.items():
        cells = [one["first_chart_ms"], one["all_panels_ms"], one["refresh_ms"]]
        texts = [f"{cell['p50']:.0f} / {cell['p95']:.0f} ms" for cell in cells]
        print(f"{board:<12}{texts[0]:>22}{texts[1]:>22}{texts[2]:>20}", file=sys.stderr)
    if options.data is not None:
        print(f"CPU of the hub, s a minute: {result['hub_cpu_s_per_minute']}", file=sys.stderr)
    text = json.dumps(result, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
