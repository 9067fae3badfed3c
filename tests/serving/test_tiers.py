"""The same answer whichever tier and whichever memory it comes from: stitched ranges equal the raw events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.tenancy import TenantId, TenantScope
from models.query.times import DAY_US, HOUR_US, MINUTE_US, format_instant
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


@pytest.fixture(scope="module", params=[0.5, 0.0], ids=["in memory", "from files"])
def engine(lake: Lake, request: pytest.FixtureRequest) -> Iterator[QueryEngine]:
    engine = lake.engine(hot_share=request.param)
    if request.param == 0.0:
        # Not even one day: every piece is read from files.
        engine._hot.state = HotState()
    yield engine
    engine.close()


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
