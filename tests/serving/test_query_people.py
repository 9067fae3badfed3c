"""Sessions, cohorts, funnels, calculations, days of a time zone and pages equal plain Python over the raw rows."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import NotFound
from cluster.tenancy import TenantId, TenantScope
from models.query.times import format_instant
from serving.query_engine import QueryEngine
from tests.promises.test_queries import FILTERS, ORACLE, check, questions, seen
from tests.serving.small_lake import DAY_US, NOW_US, Lake, Row, at, event, random_rows, tenants_apart
from tests.serving.test_query_kinds import ask, by, groups_of, key, same

law = settings(max_examples=40, deadline=None)
ALPHA = TenantScope.of(TenantId("alpha"))
# Over one end of summer time, with late rows in every week.
WEEKS = [("from", "2025-10-06T00:00:00Z"), ("to", "2025-11-03T12:00:00Z")]
WEEKS_US = (NOW_US - 87 * DAY_US, NOW_US - 59 * DAY_US + DAY_US // 2)
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Rows of three days, and few users over a quarter of a year, each active on some of its days."""
    lake = tenants_apart(tmp_path_factory.mktemp("lake"), {"alpha": 900, "beta": 200})
    source = random.Random(7)
    rows = [
        {**row, "occurred_at": row["occurred_at"] - source.randrange(55, 90) * DAY_US, "user_id": f"u{number % 25}"}
        for number, row in enumerate(random_rows(250, seed=11, days=2))
    ]
    lake.seal("alpha", rows[:150])
    lake.roll()
    lake.seal("alpha", rows[150:])
    return lake


@pytest.fixture(scope="module")
def engine(lake: Lake) -> Iterator[QueryEngine]:
    engine = lake.engine()
    yield engine
    engine.close()


def query(engine: QueryEngine, kind: str, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(asyncio.run(engine.query(ALPHA, kind, pairs)).body, parse_float=Decimal)
    return found


def inside(lake: Lake, span: tuple[int, int]) -> list[Row]:
    return [row for row in lake.rows["alpha"] if span[0] <= row["occurred_at"] < span[1]]


def local_day(row: Row, zone: str) -> date:
    return at(row["occurred_at"]).astimezone(ZoneInfo(zone)).date()


def day_of(text: str, zone: str) -> date:
    """The day that begins at an answered instant."""
    started = datetime.fromisoformat(text).astimezone(ZoneInfo(zone))
    assert (started.hour, started.minute) == (0, 0)
    return started.date()


@pytest.mark.parametrize("session_id", ["s3", "s7", "s19"])
def test_a_session_is_the_sum_of_its_traces(engine: QueryEngine, lake: Lake, session_id: str) -> None:
    span = (NOW_US - 4 * DAY_US, NOW_US)
    rows = inside(lake, span)
    traces = {row["trace_id"] for row in rows if row["session_id"] == session_id} - {None}
    mine = [
        row
        for row in rows
        if row["session_id"] == session_id or (row["session_id"] is None and row["trace_id"] in traces)
    ]
    pairs = [("session_id", session_id), ("from", format_instant(span[0])), ("limit", "7")]
    pages = [query(engine, "session", pairs)]
    while pages[-1]["next_cursor"]:
        pages.append(query(engine, "session", [*pairs, ("cursor", pages[-1]["next_cursor"])]))
    told = [trace for page in pages for trace in page["traces"]]
    starts = [trace["started_at"] for trace in told]
    assert len(pages) > 2 and starts == sorted(starts, reverse=True)
    assert {trace["trace_id"] for trace in told} == {row["trace_id"] for row in mine}
    values = pages[0]["values"]
    for name in ("event_count", "request_count", "total_tokens", "cost_usd"):
        assert sum(trace[name] for trace in told) == values[name]
    for name in ("event_count", "cost_usd", "error_count", "latency_ms_p95", "guardrail_block_ratio"):
        check(name, values[name], mine, 1)
    assert pages[0]["users"] == sorted({row["user_id"] for row in mine} - {None})
    assert pages[0]["started_at"] == format_instant(min(row["occurred_at"] for row in mine))
    ends = [row["occurred_at"] + int((row["latency_ms"] or 0) * 1_000) for row in mine]
    assert pages[0]["ended_at"] == format_instant(max(ends))


def test_a_session_of_another_tenant_is_none(engine: QueryEngine, lake: Lake) -> None:
    lake.seal("beta", [event(5_000_001, session_id="beta-session")])
    engine.refresh()
    with pytest.raises(NotFound):
        query(engine, "session", [("session_id", "beta-session")])


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("period", ["1d", "1w"])
@pytest.mark.parametrize("since", ["", "2025-10-01T00:00:00Z"])
def test_cohorts(engine: QueryEngine, lake: Lake, zone: str, period: str, since: str) -> None:
    pairs = [*WEEKS, ("period", period), ("time_zone", zone), *([("since", since)] if since else [])]
    cohorts = query(engine, "cohort", pairs)["cohorts"]
    starts = [day_of(one["start"], zone) for one in cohorts]
    days = 7 if period == "1w" else 1
    assert all((after - before).days == days for before, after in pairwise(starts))
    assert period == "1d" or starts[0].weekday() == 0
    known = inside(lake, (WEEKS_US[0] - 5 * DAY_US if since else WEEKS_US[0], WEEKS_US[1]))
    users: dict[str, list[Row]] = {}
    for row in known:
        if row["user_id"] is not None:
            users.setdefault(row["user_id"], []).append(row)
    expected = [[0] * (len(starts) - place) for place in range(len(starts))]
    for rows in users.values():
        if min(row["occurred_at"] for row in rows) < WEEKS_US[0]:
            continue
        places = {(local_day(row, zone) - starts[0]).days // days for row in rows}
        for place in places:
            expected[min(places)][place - min(places)] += 1
    assert [one["retained"] for one in cohorts] == expected
    assert sum(one["size"] for one in cohorts) > 0


def reached(rows: Sequence[Row], steps: Sequence[Any], window_us: int) -> int:
    """How many steps one entity did: from every first step on, all events that may follow."""
    best = 0
    for first in rows:
        if not steps[0](first):
            continue
        done, here = 1, [first]
        for step in steps[1:]:
            here = [
                row
                for row in rows
                if step(row)
                and row["occurred_at"] - first["occurred_at"] <= window_us
                and any(one is not row and one["occurred_at"] <= row["occurred_at"] for one in here)
            ]
            if not here:
                break
            done += 1
        best = max(best, done)
    return best


@law
@given(
    questions(),
    st.lists(st.lists(st.sampled_from(FILTERS), min_size=1, max_size=2), min_size=2, max_size=4),
    st.sampled_from(["user_id", "session_id", "trace_id"]),
    st.sampled_from([("10m", 10), ("6h", 360), ("2d", 2880)]),
)
def test_funnels(
    engine: QueryEngine, lake: Lake, question: dict[str, Any], steps: list[Any], entity: str, window: tuple[str, int]
) -> None:
    texts = [" && ".join(text for text, _ in step) for step in steps]
    more = [("entity", entity), ("window", window[0]), *(("step", text) for text in texts)]
    answer = ask(engine, question, "funnel", more)
    entities: dict[str, list[Row]] = {}
    for row in seen(lake, question):
        if row[entity] is not None:
            entities.setdefault(row[entity], []).append(row)
    tests = [lambda row, step=step: all(holds(row) for _, holds in step) for step in steps]
    depths = [reached(rows, tests, window[1] * 60_000_000) for rows in entities.values()]
    assert [one["count"] for one in answer["steps"]] == [
        sum(depth >= step for depth in depths) for step in range(1, len(steps) + 1)
    ]


def test_steps_of_one_instant_follow_each_other_and_one_event_is_one_step(engine: QueryEngine, lake: Lake) -> None:
    more = {"occurred_at": NOW_US - 10 * DAY_US}
    # The ids stand against the order of the steps.
    lake.seal("alpha", [event(2, user_id="twice", kind="a.b", **more), event(1, user_id="twice", kind="a.c", **more)])
    lake.seal("alpha", [event(3, user_id="once", kind="a.b", status="error", **more)])
    engine.refresh()
    day = [("from", "-11d"), ("to", "-9d")]
    for steps, expected in (
        (("kind:a.b", "kind:a.c"), [2, 1]),
        (("kind:a.b", "status:error"), [2, 0]),
        (("kind:a.c", "kind:a.b", "kind:a.c"), [1, 1, 1]),
    ):
        told = query(engine, "funnel", [*day, *(("step", text) for text in steps)])
        assert [one["count"] for one in told["steps"]] == expected


@law
@given(questions(), st.sampled_from(ZONES))
def test_calculations_and_days_of_a_zone(engine: QueryEngine, lake: Lake, question: dict[str, Any], zone: str) -> None:
    calculated = ("measure", "each=(cost_usd - 0.5) * 2 / request_count")
    answer = ask(
        engine, question, "timeseries", [calculated, ("granularity", "1d"), ("time_zone", zone), *by(question)]
    )
    days: dict[Any, list[Row]] = {}
    for group, rows in groups_of(lake, question, whole=False).items():
        for row in rows:
            days.setdefault((group, local_day(row, zone)), []).append(row)
    points = {(key(one), day_of(at_, zone)): value for one in answer["series"] for at_, value in one["points"]}
    assert set(points) == set(days)
    for place, rows in days.items():
        money, calls = ORACLE["cost_usd"](rows, 1), ORACLE["request_count"](rows, 1)
        assert same(points[place], float((money - Decimal("0.5")) * 2) / calls if calls else None)


@law
@given(questions(), st.sampled_from(["gt", "le"]))
def test_calculations_decide_and_order(engine: QueryEngine, lake: Lake, question: dict[str, Any], way: str) -> None:
    question = {**question, "groups": ["model", "service"]}
    more = [("calculate", "net=event_count - 2*request_count"), ("having", f"net:{way}:0"), ("order", "-net")]
    answer = ask(engine, question, "aggregate", [*more, *by(question)])
    net = {group: len(rows) - 2 * ORACLE["request_count"](rows, 1) for group, rows in groups_of(lake, question).items()}
    kept = {group: value for group, value in net.items() if (value > 0) == (way == "gt")}
    found = {key(row): row["values"]["net"] for row in answer["rows"]}
    assert found == kept and list(found.values()) == sorted(kept.values(), reverse=True)


def test_every_bucket_of_a_zone_is_filled_also_where_clocks_change(engine: QueryEngine, lake: Lake) -> None:
    for zone, hours in (("Europe/Berlin", 25), ("UTC", 24), ("Asia/Kolkata", 24)):
        pairs = [*WEEKS, ("measure", "event_count"), ("measure", "tokens_per_s"), ("fill", "zero")]
        answer = query(engine, "timeseries", [*pairs, ("granularity", "1d"), ("time_zone", zone)])
        counts, rates = (dict(one["points"]) for one in answer["series"])
        rows = inside(lake, WEEKS_US)
        days = [local_day(row, zone) for row in rows]
        assert {day_of(text, zone): count for text, count in counts.items() if count} == {
            day: days.count(day) for day in days
        }
        # The last Sunday of October.
        (sunday,) = (text for text in rates if day_of(text, zone) == date(2025, 10, 26))
        of_day = [row for row in rows if local_day(row, zone) == date(2025, 10, 26)]
        check("tokens_per_s", rates[sunday], of_day, hours * 3600)


def test_pages_hold_every_row_once(engine: QueryEngine) -> None:
    pairs = [("from", "-4d"), ("measure", "event_count"), ("group_by", "user_id")]
    whole = query(engine, "aggregate", pairs)["rows"]
    rows: list[Any] = []
    cursor: list[tuple[str, str]] = []
    while True:
        page = query(engine, "aggregate", [*pairs, ("limit", "7"), *cursor])
        rows += page["rows"]
        if page["next_cursor"] is None:
            break
        cursor = [("cursor", page["next_cursor"])]
    assert rows == whole and len(rows) > 30
