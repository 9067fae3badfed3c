"""Every kind of question equals an independent plain-Python answer over the raw rows, whichever table it came from."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import NotFound
from cluster.tenancy import TenantId, TenantScope
from models.measures import MEASURES
from models.query.times import format_instant
from serving.query_engine import QueryEngine
from tests.promises.test_queries import FILTERS, GROUPS, ORACLE, check, grouped, questions, rank, ratio, seen, told
from tests.serving.small_lake import DAY_US, NOW_US, Lake, Row, event, random_rows, tenants_apart

law = settings(max_examples=40, deadline=None)
Pairs = Sequence[tuple[str, str]]
FIELDS = {"latency_ms": 8, "ttft_ms": 16}
SUMS = ["event_count", "request_count", "error_count", "cost_usd", "input_tokens", "total_tokens"]
HOURS_US = 3_600_000_000


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = tenants_apart(tmp_path_factory.mktemp("lake"), {"alpha": 1_200, "beta": 300})
    # Hours and days hold the rows above, minutes alone those that come late.
    lake.roll()
    lake.seal("alpha", random_rows(150, seed=8))
    lake.seal("beta", random_rows(50, seed=9))
    return lake


@pytest.fixture(scope="module")
def engine(lake: Lake) -> Iterator[QueryEngine]:
    engine = lake.engine()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def narrow(lake: Lake) -> Iterator[QueryEngine]:
    """An engine that tells four groups one by one."""
    engine = lake.engine(groups_max=4)
    yield engine
    engine.close()


def ask(engine: QueryEngine, question: dict[str, Any], kind: str, more: Pairs) -> dict[str, Any]:
    scope = TenantScope.of(TenantId(question["tenant"]), question["project"])
    first, last = question["range"]
    pairs = [("from", format_instant(first)), ("to", format_instant(last))]
    pairs += [("filter", text) for text, _ in question["filters"]]
    answer = asyncio.run(engine.query(scope, kind, [*pairs, *more]))
    found: dict[str, Any] = json.loads(answer.body, parse_float=Decimal)
    assert found["tier"] and found["reason"] and found["version"] >= 0
    return found


def by(question: dict[str, Any]) -> list[tuple[str, str]]:
    return [("group_by", name) for name in question["groups"]]


def groups_of(lake: Lake, question: dict[str, Any], *, whole: bool = True) -> dict[tuple[Any, ...], list[Row]]:
    found = grouped(seen(lake, question), question["groups"])
    if whole and not question["groups"]:
        found.setdefault((), [])
    return found


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row["group"].values())


def same(found: Any, expected: Any) -> bool:
    if found is None or expected is None:
        return found is None and expected is None
    return math.isclose(float(found), float(expected), rel_tol=1e-9, abs_tol=1e-12)


@law
@given(questions(), st.sampled_from(sorted(FIELDS)), st.lists(st.integers(1, 999), min_size=1, max_size=3, unique=True))
def test_percentiles(engine: QueryEngine, lake: Lake, question: dict[str, Any], field: str, places: list[int]) -> None:
    asked = [("quantile", f"0.{place:03}") for place in places]
    answer = ask(engine, question, "percentile", [("field", field), ("limit", "10000"), *asked, *by(question)])
    expected = groups_of(lake, question)
    assert {key(row) for row in answer["rows"]} == set(expected)
    for row in answer["rows"]:
        values = told(expected[key(row)], FIELDS[field], field)
        assert row["count"] == len(values)
        for place, found in zip(places, row["values"].values(), strict=True):
            exact = rank(values, place / 1000)
            allowed = float(answer["relative_error"]) * (exact or 0) * 1.01 + 1e-6
            assert found is exact or abs(float(found) - exact) <= allowed


@law
@given(questions(), st.sampled_from(sorted(FIELDS)), st.integers(3, 60))
def test_histograms(engine: QueryEngine, lake: Lake, question: dict[str, Any], field: str, most: int) -> None:
    question = {**question, "groups": question["groups"][:1]}
    more = [("field", field), ("buckets", str(most)), ("limit", "100"), *by(question)]
    answer = ask(engine, question, "histogram", more)
    assert len(answer["bounds"]) <= most
    found = {key(row): row["counts"] for row in answer["rows"]}
    for group, rows in groups_of(lake, question).items():
        values = told(rows, FIELDS[field], field)
        if values or not group:
            assert found.pop(group) == counted(values, answer["bounds"])
    assert found == {}


def counted(values: Sequence[float], bounds: Sequence[Sequence[Decimal]]) -> list[int]:
    counts = [sum(float(low) < value <= float(high) for value in values) for low, high in bounds]
    if bounds and bounds[0][0] == 0:
        counts[0] += sum(value == 0 for value in values)
    return counts


@law
@given(questions(), st.sampled_from(["1h", "6h", "1d"]))
def test_heatmaps(engine: QueryEngine, lake: Lake, question: dict[str, Any], granularity: str) -> None:
    answer = ask(engine, question, "heatmap", [("buckets", "12"), ("granularity", granularity)])
    step = {"1h": 1, "6h": 6, "1d": 24}[granularity] * HOURS_US
    columns: dict[str, list[float]] = {}
    for row in told_rows(seen(lake, question)):
        columns.setdefault(format_instant(row["occurred_at"] // step * step), []).append(row["latency_ms"])
    found: dict[str, list[int]] = {}
    for time, place, count in answer["cells"]:
        found.setdefault(answer["times"][time], [0] * len(answer["bounds"]))[place] = count
    assert found == {at: counted(values, answer["bounds"]) for at, values in columns.items()}


def told_rows(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["counted"] & 8 and row["latency_ms"] is not None]


@law
@given(
    questions(),
    st.tuples(st.sampled_from([*SUMS, "latency_ms_max", "unique_users"]), st.integers(1, 3), st.booleans()),
)
def test_the_largest_groups_and_the_rest(
    engine: QueryEngine, narrow: QueryEngine, lake: Lake, question: dict[str, Any], rest: tuple[Any, ...]
) -> None:
    measure, limit, few = rest
    question = {**question, "groups": question["groups"] or ["model"]}
    more = [("measure", measure), ("measure", "cost_usd"), ("limit", str(limit)), *by(question)]
    answer = ask(narrow if few else engine, question, "top", more)
    expected = groups_of(lake, question)
    values = {group: ORACLE[measure](rows, 1) for group, rows in expected.items()}
    ordered = sorted(values.values(), key=lambda value: (value is not None, value or 0), reverse=True)
    assert answer["group_count"] == len(expected)
    if not few or MEASURES[measure].additive:
        assert [row["values"][measure] for row in answer["rows"]] == ordered[:limit]
    for row in answer["rows"]:
        check(measure, row["values"][measure], expected[key(row)], 1)
    parts = [*answer["rows"], *([answer["rest"]] if "rest" in answer else [])]
    money = sum((Decimal(row["values"]["cost_usd"]) for row in parts), Decimal(0))
    check("cost_usd", money, seen(lake, question), 1)
    check(measure, answer["total"][measure], seen(lake, question), 1)
    if MEASURES[measure].additive and answer["total"][measure]:
        assert math.isclose(sum(float(row["share"]) for row in parts), 1, rel_tol=1e-9)


@law
@given(questions(), st.tuples(st.sampled_from(FILTERS), st.sampled_from(SUMS), st.booleans()))
def test_ratios(engine: QueryEngine, lake: Lake, question: dict[str, Any], rest: tuple[Any, ...]) -> None:
    (text, holds), measure, over_time = rest
    more = [("numerator", measure), ("denominator", "event_count"), ("numerator_filter", text), *by(question)]
    more.append(("granularity", "6h") if over_time else ("limit", "10000"))
    answer = ask(engine, question, "ratio", more)
    found: dict[Any, list[Any]] = {}
    if over_time:
        found = {(key(one), point[0]): point[1:] for one in answer["series"] for point in one["points"]}
    else:
        found = {key(row): [row[name] for name in ("ratio", "numerator", "denominator")] for row in answer["rows"]}
    expected: dict[Any, list[Row]] = {}
    for group, rows in groups_of(lake, question, whole=not over_time).items():
        for row in rows:
            start = format_instant(row["occurred_at"] // (6 * HOURS_US) * (6 * HOURS_US))
            expected.setdefault((group, start) if over_time else group, []).append(row)
        if not over_time:
            expected.setdefault(group, [])
    assert set(found) == set(expected)
    for place, rows in expected.items():
        above = ORACLE[measure]([row for row in rows if holds(row)], 1)
        assert found[place][1:] == [above, len(rows)]
        assert same(found[place][0], ratio(float(above), len(rows)))


@law
@given(questions(), st.tuples(st.one_of(st.none(), st.sampled_from(FILTERS)), st.sampled_from(SUMS)))
def test_comparisons(engine: QueryEngine, lake: Lake, question: dict[str, Any], rest: tuple[Any, ...]) -> None:
    own, measure = rest
    first, last = question["range"]
    before = {**question, "range": [2 * first - last, first]}
    more = [("measure", measure), ("limit", "10000"), *by(question)]
    if own is not None:
        more.append(("baseline_filter", own[0]))
        before = {**question, "filters": [*question["filters"], own]}
    answer = ask(engine, question, "compare", more)
    now, then = groups_of(lake, question), groups_of(lake, before)
    assert {key(row) for row in answer["rows"]} == {*now, *then}
    for row in answer["rows"]:
        above, below = (ORACLE[measure](side.get(key(row), []), 1) for side in (now, then))
        assert (row["values"][measure], row["baseline"][measure]) == (above, below)
        assert row["delta"][measure] == above - below
        assert same(row["percent"][measure], float(above - below) / float(below) * 100 if below else None)


@law
@given(questions(), st.integers(1, 6), st.booleans())
def test_costs_are_allocated_to_the_last_digit(
    engine: QueryEngine, narrow: QueryEngine, lake: Lake, question: dict[str, Any], limit: int, few: bool
) -> None:
    question = {**question, "groups": question["groups"] or ["attributes.team"]}
    answer = ask(narrow if few else engine, question, "cost_allocation", [("limit", str(limit)), *by(question)])
    expected = groups_of(lake, question)
    for row in answer["rows"]:
        check("cost_usd", row["values"]["cost_usd"], expected[key(row)], 1)
    nowhere = expected.get((None,) * len(question["groups"]), [])
    check("cost_usd", answer["unallocated"]["values"]["cost_usd"], nowhere, 1)
    parts = [*answer["rows"], answer["other"], answer["unallocated"]]
    for measure in ("cost_usd", "request_count", "total_tokens"):
        whole = sum((Decimal(part["values"][measure]) for part in parts), Decimal(0))
        assert whole == answer["total"]["values"][measure]
        check(measure, whole, seen(lake, question), 1)
    shares = [part["share"] for part in parts]
    assert sum(shares, Decimal(0)) == 1 if answer["total"]["values"]["cost_usd"] else set(shares) == {None}


@law
@given(questions(), st.sampled_from(["user_id", "session_id", "trace_id", "model", *GROUPS]), st.booleans())
def test_distinct_counts(engine: QueryEngine, lake: Lake, question: dict[str, Any], field: str, exact: bool) -> None:
    more = [("field", field), ("limit", "10000"), *([("method", "exact")] if exact else []), *by(question)]
    answer = ask(engine, question, "distinct", more)
    expected = groups_of(lake, question)
    found = {key(row): row["value"] for row in answer["rows"]}
    # 40 users and 20 sessions: sketches count them exactly too.
    counts = {group: len({name[0] for name in grouped(rows, [field])} - {None}) for group, rows in expected.items()}
    assert found == counts and answer["group_count"] == len(counts)
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_a_version_is_answered_again_and_one_that_is_gone_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    lake = tenants_apart(tmp_path_factory.mktemp("past"), {"alpha": 200})
    engine = lake.engine()
    question: dict[str, Any] = {"tenant": "alpha", "project": None, "filters": [], "groups": ["model"]}
    question["range"] = [NOW_US - 3 * DAY_US, NOW_US]
    before = ask(engine, question, "aggregate", [("measure", "cost_usd"), *by(question)])
    again = [("version", str(before["version"])), ("measure", "cost_usd"), *by(question)]
    lake.seal("alpha", random_rows(100, seed=5))
    engine.refresh()
    after = ask(engine, question, "aggregate", [("measure", "cost_usd"), *by(question)])
    past = ask(engine, question, "as_of", again)
    assert past["rows"] == before["rows"] != after["rows"] and past["version"] == before["version"]
    # The lake was sealed in five parts of forty rows.
    for version in (1, 2, 5):
        told = ask(engine, question, "as_of", [("version", str(version)), ("measure", "event_count")])
        assert (told["rows"][0]["values"]["event_count"], told["version"]) == (40 * version, version)
    for more in ([("version", "99")], [("at", "2020-01-01T00:00:00Z")]):
        with pytest.raises(NotFound):
            ask(engine, question, "as_of", [("measure", "cost_usd"), *more])
    # What a vacuum does.
    for path in lake.settings.lake.glob("rollup_1m/**/*.parquet"):
        path.unlink()
    engine.close()
    fresh = QueryEngine(lake.settings, lake.clock)
    with pytest.raises(NotFound, match="no longer kept"):
        ask(fresh, question, "as_of", again)
    fresh.close()


def test_relative_times_stand_on_the_instant_a_past_answer_is_of(engine: QueryEngine) -> None:
    pairs = [("at", "2125-01-01T00:00:00Z"), ("measure", "event_count"), ("from", "-1d")]
    answer = json.loads(asyncio.run(engine.query(TenantScope.of(TenantId("alpha")), "as_of", pairs)).body)
    assert (answer["from"], answer["to"]) == ("2124-12-31T00:00:00.000000Z", "2125-01-01T00:00:00.000000Z")


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QueryEngine]:
    """Durations of 0 and of all sizes, and many large groups beside a small one without a name."""
    lake = Lake(tmp_path_factory.mktemp("edges"))
    paid = {"counted": 15, "input_tokens": 0}
    spent = [event(n, user_id=f"u{n % 9}", cost_usd=Decimal(n), latency_ms=float(n % 4), **paid) for n in range(1, 90)]
    lake.seal("alpha", [*spent, event(500, cost_usd=Decimal("0.000000001"), latency_ms=0.0, **paid)])
    engine = lake.engine(groups_max=4)
    yield engine
    engine.close()


def test_what_nobody_owns_stays_unallocated_however_little_it_is(edges: QueryEngine) -> None:
    pairs = [("group_by", "user_id"), ("from", "-2h")]
    answer = json.loads(
        asyncio.run(edges.query(TenantScope.of(TenantId("alpha")), "cost_allocation", pairs)).body, parse_float=Decimal
    )
    assert answer["unallocated"]["values"]["cost_usd"] == Decimal("0.000000001")
    assert len(answer["rows"]) == 2 and answer["total"]["values"]["cost_usd"] == sum(range(90)) + Decimal("0.000000001")


@pytest.mark.parametrize("more", [(), (("filter", "user_id:exists:true"),)])
def test_durations_of_nothing_have_a_bucket_of_their_own(edges: QueryEngine, more: Pairs) -> None:
    scope = TenantScope.of(TenantId("alpha"))
    pairs = [("from", "-2h"), ("buckets", "500"), *more]
    answer = json.loads(asyncio.run(edges.query(scope, "histogram", pairs)).body)
    told = {
        high: count for (_, high), count in zip(answer["bounds"], answer["rows"][0]["counts"], strict=True) if count
    }
    assert answer["bounds"][0] == [0.0, 1e-06] and sorted(told)[0] == 1e-06
    assert list(told.values()) == [22 + (not more), 23, 22, 22]
    pairs.append(("granularity", "1h"))
    cells = json.loads(asyncio.run(edges.query(scope, "heatmap", pairs)).body)["cells"]
    assert [count for _, _, count in cells] == list(told.values()) and cells[0][1] == 0


@pytest.fixture(scope="module")
def cold(lake: Lake) -> Iterator[QueryEngine]:
    """An engine that keeps next to nothing in memory."""
    engine = lake.engine(hot_share=0.0)
    yield engine
    engine.close()


@law
@given(questions(), st.integers(1, 4))
def test_memory_and_files_give_the_same_answer(
    engine: QueryEngine, cold: QueryEngine, question: dict[str, Any], limit: int
) -> None:
    question = {**question, "groups": question["groups"] or ["service"]}
    few = [("limit", str(limit)), *by(question)]
    for kind, more in (
        ("histogram", [("buckets", "30"), *few]),
        ("heatmap", [("buckets", "9"), ("granularity", "6h")]),
        ("top", [("measure", "event_count"), ("measure", "unique_users"), ("measure", "latency_ms_p50"), *few]),
        ("percentile", [("quantile", "0.25"), *by(question)]),
    ):
        assert ask(engine, question, kind, more) == ask(cold, question, kind, more)
