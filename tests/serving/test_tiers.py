"""The same answer whichever tier and whichever memory it comes from: stitched ranges equal the raw events."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.tenancy import TenantId, TenantScope
from models.query.partials import Partials
from models.query.plan import Plan, choose
from models.query.request import parse_metrics
from models.query.times import DAY_US, HOUR_US, MINUTE_US, Range, format_instant
from serving import hot_edges
from serving.hot_edges import Edges
from serving.hot_rollups import HotState
from serving.query_engine import QueryEngine
from tests.serving.small_lake import NOW_US, Lake, event, tenants_apart

ALPHA = TenantScope.of(TenantId("alpha"))
MEASURES = ("event_count", "request_count", "cost_usd", "input_tokens", "latency_ms_p95", "latency_ms_max")
DAYS = 6


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Days of two tenants, half of the commits rolled, some compacted."""
    lake = tenants_apart(tmp_path_factory.mktemp("lake"), {"alpha": 900, "beta": 300})
    lake.roll()
    for number in range(40):
        lake.seal("alpha", [event(800_000 + number, occurred_at=NOW_US - 1 - number * 7 * HOUR_US, counted=127)])
    lake.compact("alpha")
    lake.seal("alpha", [event(810_000, occurred_at=NOW_US - 1 - 5 * DAY_US, counted=127)])
    return lake


@pytest.fixture(scope="module", params=["in memory", "at the edges", "from files"])
def engine(lake: Lake, request: pytest.FixtureRequest) -> Iterator[QueryEngine]:
    engine = lake.engine()
    if request.param == "at the edges":
        forget_days(engine)
    elif request.param == "from files":
        # Not even one day: every piece is read from files.
        engine._hot.state = HotState()
    yield engine
    engine.close()


def forget_days(engine: QueryEngine) -> None:
    """Minutes and hours of the newest day alone are in memory."""
    state = engine._hot.state
    tiers = {name: tier if name == "rollup_1d" else tier.newest(1) for name, tier in state.tiers.items()}
    engine._hot.state = replace(state, tiers=tiers)


def planned(from_us: int, to_us: int) -> tuple[Plan, Range]:
    pairs = (("measure", "event_count"), *span(from_us, to_us))
    request = parse_metrics("aggregate", pairs, now_us=NOW_US)
    return choose(request, groups_max=100), request.span


def ask(engine: QueryEngine, kind: str, *pairs: tuple[str, str]) -> dict[str, Any]:
    asked = (*(("measure", name) for name in MEASURES), *pairs)
    told: dict[str, Any] = json.loads(asyncio.run(engine.query(ALPHA, kind, asked)).body)
    return told


def span(from_us: int, to_us: int) -> tuple[tuple[str, str], ...]:
    return (("from", format_instant(from_us)), ("to", format_instant(to_us)))


def near(ours: dict[str, Any], raw: dict[str, Any]) -> None:
    """Equal, quantiles within the histogram's one per cent."""
    for name in MEASURES:
        if name == "latency_ms_p95" and raw[name] is not None:
            assert ours[name] == pytest.approx(raw[name], rel=0.0101)
        else:
            assert ours[name] == raw[name]


@given(
    start=st.integers(0, DAYS * 1440 - 2),
    length=st.integers(1, DAYS * 1440),
    step=st.sampled_from([0, 1, 60, 360, 1440]),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_stitched_ranges_equal_raw_events(engine: QueryEngine, start: int, length: int, step: int) -> None:
    from_us = NOW_US - DAYS * DAY_US + start * MINUTE_US
    to_us = min(from_us + length * MINUTE_US, NOW_US + HOUR_US)
    names = {1: "1m", 60: "1h", 360: "6h", 1440: "1d"}
    kind, more = ("timeseries", [("granularity", names[step])]) if step else ("aggregate", [])
    ours = ask(engine, kind, *span(from_us, to_us), ("group_by", "model"), *more)
    # A field that roll-ups do not hold sends the same question to the raw events.
    raw = ask(engine, kind, *span(from_us, to_us), ("group_by", "model"), *more, ("filter", "event_id:ne:nobody"))
    assert raw["tier"] == "events" and ours["tier"] != "events"
    if step:
        assert [one["group"] for one in ours["series"]] == [one["group"] for one in raw["series"]]
        for mine, theirs in zip(ours["series"], raw["series"], strict=True):
            assert [at for at, _ in mine["points"]] == [at for at, _ in theirs["points"]]
            for (_, left), (_, right) in zip(mine["points"], theirs["points"], strict=True):
                near(
                    {mine["measure"]: left} | dict.fromkeys(set(MEASURES) - {mine["measure"]}),
                    {mine["measure"]: right} | dict.fromkeys(set(MEASURES) - {mine["measure"]}),
                )
    else:
        theirs = {row["group"]["model"]: row["values"] for row in raw["rows"]}
        assert {row["group"]["model"] for row in ours["rows"]} == set(theirs)
        for row in ours["rows"]:
            near(row["values"], theirs[row["group"]["model"]])


def test_the_answer_says_which_tiers_it_is_of(engine: QueryEngine) -> None:
    midnight = NOW_US // DAY_US * DAY_US
    whole = ask(engine, "aggregate", *span(midnight - 4 * DAY_US, midnight))
    assert whole["tier"] == "rollup_1d" and "tiers" not in whole
    ragged = ask(engine, "aggregate", *span(midnight - 4 * DAY_US - 90 * MINUTE_US, midnight - 5 * MINUTE_US))
    assert ragged["tier"] == "rollup_1d" and ragged["tiers"] == ["rollup_1d", "rollup_1h", "rollup_1m"]
    assert "minute" in ragged["reason"]
    hours = ask(engine, "timeseries", *span(midnight - DAY_US, midnight), ("granularity", "1h"))
    assert hours["tier"] == "rollup_1h"
    assert ask(engine, "timeseries", *span(midnight - DAY_US, midnight), ("granularity", "5m"))["tier"] == "rollup_1m"


def test_the_ends_of_a_range_before_memory_are_read_once_and_kept(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = lake.engine()
    forget_days(engine)
    read: list[str] = []
    reader = hot_edges.read_span

    def counted(path: Path | str, from_us: int, to_us: int) -> pa.Table:
        read.append(str(path))
        return reader(path, from_us, to_us)

    monkeypatch.setattr(hot_edges, "read_span", counted)
    plan, asked = planned(NOW_US - 4 * DAY_US - 90 * MINUTE_US, NOW_US)
    first = engine._hot.partials(ALPHA, plan, asked)
    assert first is not None and read
    told = len(read)
    again = engine._hot.partials(ALPHA, *planned(NOW_US - 4 * DAY_US - 80 * MINUTE_US, NOW_US))
    assert again is not None and len(read) == told
    # A late event brings another file of that hour.
    lake.seal("alpha", [event(830_000, occurred_at=NOW_US - 4 * DAY_US - 85 * MINUTE_US, counted=127)])
    engine.refresh()
    later = engine._hot.partials(ALPHA, plan, asked)
    assert later is not None and len(read) > told
    assert rows_of(later) == rows_of(first) + 1
    # Every minute of days: that is no end of a range.
    assert engine._hot.partials(ALPHA, replace(plan, tier="rollup_1m"), asked) is None
    engine.close()


def rows_of(partials: Partials) -> int:
    return sum(int(one.numbers("event_count")[rows].sum()) for _, one, rows in partials.blocks)


def test_what_is_kept_of_ends_is_bounded(lake: Lake) -> None:
    engine = lake.engine()
    forget_days(engine)
    state = engine._hot.state
    edges = Edges(state.names, memory_bytes=20_000)
    engine._hot.state = replace(state, edges=edges)
    for hour in range(60):
        end_us = NOW_US - 2 * DAY_US - hour * HOUR_US
        found = engine._hot.partials(ALPHA, *planned(end_us - 3 * DAY_US - MINUTE_US, end_us))
        assert found is not None
        assert edges._used_bytes <= 20_000 or len(edges._kept) == 1
    assert len(edges._kept) < 60
    engine.close()


def test_an_end_that_many_ask_for_at_once_is_read_once(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = lake.engine()
    forget_days(engine)
    reads: Counter[tuple[str, int]] = Counter()
    askers, real = threading.Barrier(8), hot_edges.read_span

    def counted(path: str, from_us: int, to_us: int) -> pa.Table:
        reads[path, from_us] += 1
        return real(path, from_us, to_us)

    monkeypatch.setattr(hot_edges, "read_span", counted)
    asked = planned(NOW_US - 5 * DAY_US - MINUTE_US, NOW_US - 2 * DAY_US)

    def ask_with_others(_: int) -> int:
        askers.wait()
        found = engine._hot.partials(ALPHA, *asked)
        assert found is not None
        return rows_of(found)

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(ask_with_others, range(8)))) == 1
    assert set(reads.values()) == {1}
    engine.close()


def test_an_end_that_cannot_be_read_is_no_answer_for_anybody(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = lake.engine()
    forget_days(engine)
    asked = planned(NOW_US - 5 * DAY_US - MINUTE_US, NOW_US - 2 * DAY_US)

    def gone(path: str, from_us: int, to_us: int) -> pa.Table:
        raise FileNotFoundError(path)

    with monkeypatch.context() as patched:
        patched.setattr(hot_edges, "read_span", gone)
        assert engine._hot.partials(ALPHA, *asked) is None
    assert engine._hot.partials(ALPHA, *asked) is not None
    engine.close()


def test_memory_follows_commits_rolls_and_rewrites(tmp_path: Path) -> None:
    lake = tenants_apart(tmp_path, {"alpha": 120})
    engine = lake.engine()
    question = (*span(NOW_US - 4 * DAY_US, NOW_US), ("group_by", "model"))
    for number in range(6):
        lake.seal("alpha", [event(820_000 + number, occurred_at=NOW_US - 1 - number * DAY_US // 2, counted=127)])
        if number % 2:
            lake.roll()
        if number % 3 == 2:
            lake.compact("alpha")
        engine.refresh()
        fresh = lake.engine()
        assert ask(engine, "aggregate", *question) == ask(fresh, "aggregate", *question)
        fresh.close()
    engine.close()
