"""Every answer about measures equals what plain Python says over the raw rows, whichever table it came from."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.tenancy import TenantId, TenantScope
from models.measures import MEASURES
from models.query.times import GRANULARITIES, format_instant
from serving.query_engine import QueryEngine
from tests.serving.small_lake import DAY_US, NOW_US, Lake, Row, tenants_apart

law = settings(max_examples=40, deadline=None)
MINUTE_US = 60_000_000


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return tenants_apart(tmp_path_factory.mktemp("lake"), {"alpha": 1_500, "beta": 400})


@pytest.fixture(scope="module")
def engine(lake: Lake) -> Iterator[QueryEngine]:
    engine = lake.engine()
    yield engine
    engine.close()


def told(rows: Sequence[Row], bit: int, name: str) -> list[Any]:
    return [row[name] for row in rows if row["counted"] & bit and row[name] is not None]


def marked(rows: Sequence[Row], bit: int) -> list[Row]:
    return [row for row in rows if row["counted"] & bit]


def ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def rank(values: Sequence[float], q: float) -> float | None:
    return sorted(values)[max(1, math.ceil(q * len(values))) - 1] if values else None


def guarded(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["kind"] == "guardrails.evaluation"]


ORACLE: dict[str, Callable[[Sequence[Row], float], Any]] = {
    "event_count": lambda rows, s: len(rows),
    "request_count": lambda rows, s: len(marked(rows, 1)),
    "error_count": lambda rows, s: len(marked(rows, 64)),
    "error_ratio": lambda rows, s: ratio(len(marked(rows, 64)), len(marked(rows, 1))),
    "latency_ms_avg": lambda rows, s: ratio(sum(told(rows, 8, "latency_ms")), len(told(rows, 8, "latency_ms"))),
    "latency_ms_p50": lambda rows, s: rank(told(rows, 8, "latency_ms"), 0.5),
    "latency_ms_p95": lambda rows, s: rank(told(rows, 8, "latency_ms"), 0.95),
    "latency_ms_p99": lambda rows, s: rank(told(rows, 8, "latency_ms"), 0.99),
    "latency_ms_max": lambda rows, s: max(told(rows, 8, "latency_ms"), default=None),
    "ttft_ms_p50": lambda rows, s: rank(told(rows, 16, "ttft_ms"), 0.5),
    "ttft_ms_p95": lambda rows, s: rank(told(rows, 16, "ttft_ms"), 0.95),
    "input_tokens": lambda rows, s: sum(told(rows, 2, "input_tokens")),
    "output_tokens": lambda rows, s: sum(told(rows, 2, "output_tokens")),
    "total_tokens": lambda rows, s: sum(told(rows, 2, "input_tokens")) + sum(told(rows, 2, "output_tokens")),
    "cost_usd": lambda rows, s: sum(told(rows, 4, "cost_usd"), Decimal(0)),
    "cache_hit_ratio": lambda rows, s: ratio(
        len([row for row in marked(rows, 32) if row["cache_status"] in ("hit", "semantic")]), len(marked(rows, 32))
    ),
    "tokens_per_s": lambda rows, s: (sum(told(rows, 2, "input_tokens")) + sum(told(rows, 2, "output_tokens"))) / s,
    "unique_users": lambda rows, s: len({row["user_id"] for row in rows} - {None}),
    "unique_sessions": lambda rows, s: len({row["session_id"] for row in rows} - {None}),
    "guardrail_count": lambda rows, s: len(guarded(rows)),
    "guardrail_block_ratio": lambda rows, s: ratio(
        len([row for row in guarded(rows) if row["guardrail_action"] in ("block", "deny")]), len(guarded(rows))
    ),
}


def attribute(row: Row, name: str) -> str | None:
    held = json.loads(row["attributes"] or "{}")
    if name in held:
        return str(held[name])
    for step in name.split("."):
        held = held.get(step) if isinstance(held, dict) else None
    return None if held is None else str(held)


def value(row: Row, name: str) -> Any:
    return attribute(row, name[len("attributes.") :]) if name.startswith("attributes.") else row[name]


# Text of a filter, and what it means.
FILTERS: list[tuple[str, Callable[[Row], bool]]] = [
    ("model:m-1", lambda row: row["model"] == "m-1"),
    ("model:ne:m-1", lambda row: row["model"] != "m-1"),
    ("model:in:m-1,m-2", lambda row: row["model"] in ("m-1", "m-2")),
    ("model:nin:m-1,m-2", lambda row: row["model"] not in ("m-1", "m-2")),
    ("model:eq:m'; DROP TABLE events; --", lambda row: row["model"] == "m'; DROP TABLE events; --"),
    ("status:exists:false", lambda row: row["status"] is None),
    ("service:prefix:se", lambda row: (row["service"] or "").startswith("se")),
    ("module:contains:ate", lambda row: "ate" in row["module"]),
    ("latency_ms:ge:5000", lambda row: row["latency_ms"] is not None and row["latency_ms"] >= 5000),
    ("input_tokens:lt:100", lambda row: row["input_tokens"] is not None and row["input_tokens"] < 100),
    ("cost_usd:gt:0.5", lambda row: row["cost_usd"] is not None and row["cost_usd"] > Decimal("0.5")),
    ("user_id:u7", lambda row: row["user_id"] == "u7"),
    ("attributes.team:red", lambda row: attribute(row, "team") == "red"),
    ("attributes.a.b:exists", lambda row: attribute(row, "a.b") == "exists"),
    ("attributes.a.b:exists:true", lambda row: attribute(row, "a.b") is not None),
]
GROUPS = [
    "module",
    "model",
    "status",
    "service",
    "project_id",
    "user_id",
    "session_id",
    "attributes.team",
    "attributes.a.b",
]


def questions() -> st.SearchStrategy[dict[str, Any]]:
    on_minutes = st.integers(0, 3 * 1440).map(lambda minutes: NOW_US - minutes * MINUTE_US)
    anywhere = st.integers(0, 3 * DAY_US).map(lambda us: NOW_US - us)
    ends = st.one_of(st.tuples(on_minutes, on_minutes), st.tuples(anywhere, anywhere))
    return st.fixed_dictionaries(
        {
            "measures": st.lists(st.sampled_from(sorted(ORACLE)), min_size=1, max_size=6, unique=True),
            "range": ends.filter(lambda pair: pair[0] != pair[1]).map(sorted),
            "groups": st.lists(st.sampled_from(GROUPS), max_size=2, unique=True),
            "filters": st.lists(st.sampled_from(FILTERS), max_size=2, unique_by=lambda one: one[0]),
            "tenant": st.sampled_from(["alpha", "beta"]),
            "project": st.sampled_from([None, None, "north"]),
        }
    )


def pairs(question: dict[str, Any]) -> list[tuple[str, str]]:
    first, last = question["range"]
    return [
        *(("measure", name) for name in question["measures"]),
        ("from", format_instant(first)),
        ("to", format_instant(last)),
        *(("group_by", name) for name in question["groups"]),
        *(("filter", text) for text, _ in question["filters"]),
    ]


def seen(lake: Lake, question: dict[str, Any]) -> list[Row]:
    """Rows that the question is about, by plain Python."""
    first, last = question["range"]
    return [
        row
        for row in lake.rows[question["tenant"]]
        if first <= row["occurred_at"] < last
        and question["project"] in (None, row["project_id"])
        and all(holds(row) for _, holds in question["filters"])
    ]


def ask(engine: QueryEngine, question: dict[str, Any], kind: str, more: list[tuple[str, str]]) -> dict[str, Any]:
    scope = TenantScope.of(TenantId(question["tenant"]), question["project"])
    answer = asyncio.run(engine.query(scope, kind, [*pairs(question), *more]))
    told: dict[str, Any] = json.loads(answer.body, parse_float=Decimal)
    return told


def check(name: str, found: Any, rows: Sequence[Row], seconds: float) -> None:
    expected = ORACLE[name](rows, seconds)
    if expected is None or found is None:
        assert found == expected, name
    elif isinstance(expected, int | Decimal):
        # Counts, tokens and money: to the last digit. 40 users and 20 sessions are counted exactly.
        assert found == expected, name
    elif MEASURES[name].quantile:
        assert abs(float(found) - expected) <= 0.0101 * expected + 1e-6, name
    else:
        assert math.isclose(float(found), expected, rel_tol=1e-9, abs_tol=1e-9), name


def grouped(rows: Sequence[Row], names: Sequence[str]) -> dict[tuple[Any, ...], list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(value(row, name) for name in names), []).append(row)
    return groups


@law
@given(questions())
def test_an_aggregate_equals_plain_python(engine: QueryEngine, lake: Lake, question: dict[str, Any]) -> None:
    answer = ask(engine, question, "aggregate", [("limit", "10000")])
    expected = grouped(seen(lake, question), question["groups"])
    if not question["groups"]:
        expected.setdefault((), [])
    seconds = (question["range"][1] - question["range"][0]) / 1e6
    assert {tuple(row["group"].values()) for row in answer["rows"]} == set(expected)
    for row in answer["rows"]:
        for name in question["measures"]:
            check(name, row["values"][name], expected[tuple(row["group"].values())], seconds)


@law
@given(questions(), st.sampled_from(["5m", "1h", "6h", "1d"]))
def test_a_timeseries_equals_plain_python(
    engine: QueryEngine, lake: Lake, question: dict[str, Any], granularity: str
) -> None:
    answer = ask(engine, question, "timeseries", [("granularity", granularity)])
    step, (first, last) = GRANULARITIES[granularity], question["range"]
    expected: dict[tuple[Any, ...], dict[str, list[Row]]] = {}
    for group, rows in grouped(seen(lake, question), question["groups"]).items():
        for row in rows:
            start = row["occurred_at"] // step * step
            expected.setdefault(group, {}).setdefault(format_instant(start), []).append(row)
    if not question["groups"]:
        expected.setdefault((), {})
    assert len(answer["series"]) == len(expected) * len(question["measures"])
    starts = {format_instant(at): at for at in range(first // step * step, last, step)}
    for series in answer["series"]:
        buckets = expected[tuple(series["group"].values())]
        assert [point[0] for point in series["points"]] == sorted(buckets)
        for at, found in series["points"]:
            seconds = (min(starts[at] + step, last) - max(starts[at], first)) / 1e6
            check(series["measure"], found, buckets[at], seconds)


@law
@given(questions(), st.integers(1, 5))
def test_folding_conserves_every_sum(lake: Lake, question: dict[str, Any], most: int) -> None:
    question = {**question, "measures": ["event_count", "cost_usd"], "groups": ["model", "user_id"]}
    small = small_engine(lake, most, groups_max=most)
    answer = ask(small, question, "aggregate", [])
    rows = seen(lake, question)
    assert len(answer["rows"]) <= most
    assert sum(row["values"]["event_count"] for row in answer["rows"]) == len(rows)
    assert sum((Decimal(row["values"]["cost_usd"]) for row in answer["rows"]), Decimal(0)) == ORACLE["cost_usd"](
        rows, 1
    )


SMALL: dict[int, QueryEngine] = {}


def small_engine(lake: Lake, name: int, *, hot_share: float = 0.5, **settings: Any) -> QueryEngine:
    if name not in SMALL:
        SMALL[name] = lake.engine(hot_share=hot_share, **settings)
    return SMALL[name]


@pytest.fixture(scope="module", autouse=True)
def _close_small() -> Iterator[None]:
    yield
    for engine in SMALL.values():
        engine.close()
    SMALL.clear()


@law
@given(questions())
def test_memory_and_bare_files_give_the_same_answer(engine: QueryEngine, lake: Lake, question: dict[str, Any]) -> None:
    # No memory, so that only the newest day is held, and most ranges are read from the files.
    cold = small_engine(lake, 0, hot_share=0.0)
    more = [("order", "event_count")] if "event_count" in question["measures"] else []
    assert ask(engine, question, "aggregate", more) == ask(cold, question, "aggregate", more)
