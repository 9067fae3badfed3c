"""What table care does to a month of events: `llmhub bench care [--events 10000000] [--days 30] [--seals-per-day 48]`.

Events and roll-ups are written in small seals as shards write them, then compacted as the committer compacts. Files,
bytes and the time of four questions, asked of a fresh engine, before and after. Before compaction all events are looked
through for repeats; after it a seal that repeats rows of the last day is added, found and taken out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from actors.compaction import Compactor, read_file
from actors.corrections import Corrections
from actors.repeats import Finder
from actors.rollover import Rollover
from cluster.clock import ManualClock, SystemClock
from cluster.lake.commit import TableWriter
from cluster.lake.stage import stage
from cluster.lake.tables import ANCHOR, MINUTES, ROLLUPS, TABLES
from cluster.settings import Settings
from cluster.tenancy import DEFAULT_TENANT, TenantScope
from models.aggregate.rollup import MINUTE_US, roll
from serving.query_engine import QueryEngine
from tests.bench.query_rows import DAY_US, calls, instants, recorded

_ROUNDS: Final = 5
# Of a clock that is moved by hand: whatever the pause between two searches, it is over.
_NEXT_SEARCH_S: Final = 86_400.0
_MONTH: Final = [("from", "-30d"), ("to", "now")]
# Name, kind, question. The first two are answered from roll-ups, the last two from events.
_QUESTIONS: Final = (
    ("cost of a month by model", "aggregate", [("measure", "cost_usd"), ("group_by", "model"), *_MONTH]),
    ("requests of a day by minute", "timeseries", [("measure", "request_count"), ("from", "-1d"), ("to", "now")]),
    ("one user's month", "aggregate", [("measure", "request_count"), ("filter", "user_id:user-77"), *_MONTH]),
    (
        "slow calls of a week",
        "aggregate",
        [("measure", "request_count"), ("filter", "latency_ms:gt:9000"), ("from", "-7d"), ("to", "now")],
    ),
)


def fill(settings: Settings, data: Path | None, *, events: int, days: int, seals: int) -> None:
    """Write events over the days, `seals` of them a day, each with its partials, then hours and days of those."""
    known, source = recorded(data), np.random.default_rng(events)
    writers = {name: TableWriter(settings.lake, TABLES[name]) for name in ("rollup_1m", "events")}
    end_us = SystemClock().now_us()
    edges = np.linspace(end_us - days * DAY_US, end_us, days * seals + 1).astype(np.int64).tolist()
    bounds = np.linspace(0, events, len(edges)).astype(np.int64).tolist()
    for number, start in enumerate(bounds[:-1]):
        when = instants(source, known.load, bounds[number + 1] - start, (edges[number], edges[number + 1]))
        rows = calls(source, known, when, start)
        for name, table in (("rollup_1m", roll(rows, MINUTE_US)), ("events", rows)):
            staged = stage(settings.lake, TABLES[name], table, tenant_id=DEFAULT_TENANT, token=f"{number:08d}")
            writers[name].append(staged, {"care": number + 1})
    rollover = Rollover(
        settings, {name: TableWriter(settings.lake, TABLES[name]) for name in ROLLUPS}, clock=SystemClock()
    )
    while (due := rollover.choose()) is not None:
        rollover.commit(due, rollover.merge(due))


def compact(settings: Settings) -> float:
    """Seconds until no partition is due."""
    writers = {name: TableWriter(settings.lake, table) for name, table in TABLES.items()}
    compactor, began_s = Compactor(settings, writers), time.monotonic()
    while (chosen := compactor.choose()) is not None:
        compactor.swap(chosen, compactor.merge(chosen))
    return time.monotonic() - began_s


def search(settings: Settings) -> dict[str, float]:
    """Look through all that came since the last search, and take repeats out."""
    writers = {name: TableWriter(settings.lake, table) for name, table in TABLES.items()}
    corrections, clock = Corrections(settings.lake, writers), ManualClock()
    finder = Finder(settings, writers, clock=clock)
    clock.advance(settings.repeats_s)
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    # A search looks at some millions of rows; the next one goes on behind them.
    while (moment := finder.choose()) is not None:
        for found in finder.find(moment):
            corrections.apply(found.correction)
            finder.count(found)
        finder.end(moment)
        clock.advance(_NEXT_SEARCH_S)
    figures = {"seconds": time.monotonic() - began_s, "cpu_s": time.process_time() - began_cpu_s}
    return {name: round(value, 2) for name, value in figures.items()} | {"rows_removed": finder.removed}


def repeat(settings: Settings, rows_max: int) -> int:
    """Commit a seal of rows that are in the newest file already; how many."""
    writers = {name: TableWriter(settings.lake, TABLES[name]) for name in (MINUTES, ANCHOR)}
    newest = max(writers[ANCHOR].active_files(), key=lambda file: str(file["partition.event_date"]))
    rows = read_file(settings.lake / ANCHOR, TABLES[ANCHOR], str(newest["path"])).slice(0, rows_max)
    for name, table in ((MINUTES, roll(rows, MINUTE_US)), (ANCHOR, rows)):
        staged = stage(settings.lake, TABLES[name], table, tenant_id=DEFAULT_TENANT, token="repeated")
        writers[name].append(staged, {"care": 1_000_000_000})
    return rows.num_rows


def tables(settings: Settings) -> dict[str, dict[str, int]]:
    """Files, rows and bytes of each table that has any, by its log."""
    found = {}
    for name, table in TABLES.items():
        files = TableWriter(settings.lake, table).active_files()
        if files:
            sums = {key: sum(int(str(file[column])) for file in files) for key, column in _SUMS.items()}
            found[name] = {"files": len(files), **sums}
    return found


_SUMS: Final = {"rows": "num_records", "bytes": "size_bytes"}


async def questions(settings: Settings) -> dict[str, float]:
    """Median ms of each question; a constant that changes keeps caches out of it."""
    engine = QueryEngine(settings, SystemClock())
    engine.start()
    scope, took = TenantScope.of(DEFAULT_TENANT), {}
    try:
        engine.refresh()
        for name, kind, pairs in _QUESTIONS:
            times = []
            for number in range(_ROUNDS):
                began_s = time.monotonic()
                await engine.query(scope, kind, [*pairs, ("filter", f"model:ne:none-{number}")])
                times.append((time.monotonic() - began_s) * 1_000)
            took[name] = round(sorted(times)[_ROUNDS // 2], 1)
    finally:
        engine.close()
    return took


def disk_bytes(settings: Settings) -> int:
    """What the Parquet files on the disk hold, those of the past included."""
    return sum(path.stat().st_size for path in settings.lake.rglob("*.parquet"))


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    settings = Settings(data=folder, rollover_s=0.001, query_timeout_s=120.0)
    began_s = time.monotonic()
    fill(settings, options.data, events=options.events, days=options.days, seals=options.seals_per_day)
    figures: dict[str, Any] = {
        "events": options.events,
        "days": options.days,
        "filled_s": round(time.monotonic() - began_s, 1),
    }
    figures["before"] = {"tables": tables(settings), "questions_ms": asyncio.run(questions(settings))}
    figures["search"] = search(settings)
    compacted_s = compact(settings)
    figures["compacted_s"] = round(compacted_s, 1)
    figures["compacted_events_per_s"] = round(options.events / compacted_s)
    figures["after"] = {"tables": tables(settings), "questions_ms": asyncio.run(questions(settings))}
    for when in ("before", "after"):
        events = figures[when]["tables"]["events"]
        figures[when]["bytes_per_event"] = round(events["bytes"] / events["rows"], 1)
        rolled = sum(one["bytes"] for name, one in figures[when]["tables"].items() if name in ROLLUPS)
        figures[when]["rollup_bytes_per_event"] = round(rolled / events["rows"], 2)
    figures["repeated_rows"] = repeat(settings, options.repeats)
    figures["search_of_repeats"] = search(settings)
    # Until the vacuum, a week later, the files of before lie there as well.
    figures["disk_bytes_until_vacuum"] = disk_bytes(settings)
    return figures


def main(arguments: Sequence[str]) -> dict[str, Any]:
    """Figures as JSON."""
    parser = argparse.ArgumentParser(prog="llmhub bench care", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seals-per-day", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=10_000, help="rows of the last day that come again")
    parser.add_argument("--data", type=Path, help="real traces to draw tokens, times and load from")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        figures = measure(Path(folder), options)
    text = json.dumps(figures, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    return figures


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
