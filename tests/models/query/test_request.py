"""Questions as people write them: what is understood, what is refused with which hint, and that no value is SQL."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import RequestInvalid
from cluster.tenancy import TenantId
from models.query.compose import compose
from models.query.filters import OPERATORS, condition, parse_filter
from models.query.parameters import Parameters, parse_body
from models.query.plan import choose
from models.query.request import parse_metrics
from models.query.search import Place, page_keys, parse_search, read_cursor, write_cursor
from models.query.sql import Fragment
from models.query.times import DAY_US, MINUTE_US, Range, parse_granularity, parse_range, points

NOW_US = 1_767_225_630_000_001  # half a minute and a microsecond after a minute
ASKED: Parameters = (("measure", "request_count"),)
TABLE = Fragment("SELECT * FROM somewhere")


def refusal(kind: str, *parameters: tuple[str, str]) -> RequestInvalid:
    with pytest.raises(RequestInvalid) as caught:
        choose(parse_metrics(kind, (*ASKED, *parameters), now_us=NOW_US), groups_max=100)
    return caught.value


def test_relative_ends_move_out_to_whole_minutes_and_absolute_ends_stay() -> None:
    relative = parse_range("-24h", "now", now_us=NOW_US)
    assert relative.on_minutes and relative.from_us <= NOW_US - DAY_US and relative.to_us >= NOW_US
    absolute = parse_range("2026-01-01T00:00:00.000001+02:00", "2026-01-01T00:00:00Z", now_us=NOW_US)
    assert absolute.length_us == 7_200_000_000 - 1


@pytest.mark.parametrize(
    "text",
    ["yesterday", "2026-01-01T00:00:00", "-24", "24h", "-1y", "", "9999-01-01T00:00:00Z", "-999999w", "2026-01-01"],
)
def test_a_time_without_a_zone_or_sense_is_refused(text: str) -> None:
    assert "RFC 3339" in refusal("timeseries", ("from", text)).hint


def test_a_reversed_or_empty_range_is_refused() -> None:
    assert "not before" in refusal("timeseries", ("from", "now"), ("to", "-1h")).message
    same = "2026-01-01T00:00:00Z"
    assert "not before" in refusal("timeseries", ("from", same), ("to", same)).message


@given(st.integers(1, 4_000 * DAY_US))
def test_auto_granularity_is_the_finest_that_gives_few_points(length_us: int) -> None:
    span = Range(NOW_US, NOW_US + length_us)
    step = parse_granularity("auto", span)
    assert points(span, step) <= 200 or step == DAY_US
    assert step == MINUTE_US or points(span, MINUTE_US) > 200


def test_too_many_points_name_the_granularity_that_fits() -> None:
    assert "15m" in refusal("timeseries", ("from", "-60d"), ("granularity", "1m")).hint


@pytest.mark.parametrize(
    ("parameter", "near"),
    [
        (("measure", "latency_p95"), "latency_ms_p95"),
        (("group_by", "modle"), "model"),
        (("filter", "providr:x"), "provider"),
        (("granularty", "1h"), "granularity"),
    ],
)
def test_unknown_names_are_refused_with_the_near_ones(parameter: tuple[str, str], near: str) -> None:
    assert near in refusal("timeseries", parameter).hint


@pytest.mark.parametrize(
    "parameter",
    [
        ("filter", "model:gt:5"),
        ("filter", "latency_ms:gt:nan"),
        ("filter", "latency_ms:eq:fast"),
        ("filter", "cost_usd:gt:0.0000000001"),
        ("filter", "latency_ms:contains:5"),
        ("filter", "usage_conflict:maybe"),
        ("filter", "model:exists:perhaps"),
        ("filter", "model"),
        ("filter", "model:" + "x" * 1_001),
        ("filter", "model:in:" + "x," * 300),
        ("filter", "attributes.:x"),
        ("group_by", "trace_id"),
        ("group_by", "x" * 10_000),
        ("having", "request_count:above:5"),
        ("having", "cost_usd:gt:5"),
        ("order", "latency"),
        ("limit", "0"),
        ("limit", "1e3"),
        ("compare", "tomorrow"),
        ("from", "-1h' OR 1=1"),
    ],
)
def test_what_does_not_fit_is_refused(parameter: tuple[str, str]) -> None:
    assert refusal("aggregate", parameter).code == "request_invalid"


def test_a_single_parameter_sent_twice_is_refused() -> None:
    assert "twice" in refusal("aggregate", ("limit", "1"), ("limit", "2")).message


@pytest.mark.parametrize(
    ("parameter", "tier"),
    [
        (("group_by", "model"), "rollup_1h"),
        (("from", "-90m"), "rollup_1m"),
        (("from", "-30d"), "rollup_1d"),
        (("group_by", "user_id"), "events"),
        (("group_by", "attributes.team"), "events"),
        (("filter", "session_id:s"), "events"),
        (("from", "2025-12-31T00:00:00.5Z"), "events"),
        (("compare", "-30s"), "events"),
        (("compare", "-7d"), "rollup_1h"),
    ],
)
def test_the_tier_follows_from_the_fields_and_the_range(parameter: tuple[str, str], tier: str) -> None:
    plan = choose(parse_metrics("aggregate", (*ASKED, parameter), now_us=NOW_US), groups_max=100)
    assert plan.tier == tier and plan.reason


SECRET = st.text(min_size=3, max_size=40).map("~{}~".format)


@given(SECRET, st.sampled_from([one for one in OPERATORS if one not in ("gt", "ge", "lt", "le", "exists")]))
def test_no_filter_value_and_no_attribute_name_becomes_sql(value: str, operator: str) -> None:
    one = parse_filter(f"model:{operator}:{value}")
    assert value not in condition(one).text and one.values
    if "\x00" not in value and ":" not in value:
        named = parse_filter(f"attributes.{value}:eq:x")
        assert value not in condition(named).text
        plan = choose(
            parse_metrics("aggregate", (*ASKED, ("group_by", f"attributes.{value}")), now_us=NOW_US), groups_max=10
        )
        composed = compose(plan, TABLE, plan.request.span).scalars(limit=10)
        assert value not in composed.text and composed.text.count("?") == len(composed.parameters)


@given(SECRET)
def test_search_text_is_bound(value: str) -> None:
    request = parse_search((("q", value),), (TenantId("alpha"),), now_us=NOW_US)
    composed = page_keys(request, TABLE)
    assert value not in composed.text and composed.text.count("?") == len(composed.parameters)


def test_values_with_colons_and_commas_are_kept() -> None:
    assert parse_filter("model:vendor/name:free").values == ("vendor/name:free",)
    assert parse_filter("model:eq:in:x").values == ("in:x",)
    assert parse_filter("model:in:a\\,b,c").values == ("a,b", "c")


@given(st.integers(0, 2**61), st.text(max_size=80), st.binary(min_size=8, max_size=8))
def test_a_cursor_comes_back_and_fits_only_its_own_search(occurred_us: int, event_id: str, binding: bytes) -> None:
    place = Place(occurred_us, event_id)
    assert read_cursor(write_cursor(place, binding), binding) == place
    with pytest.raises(RequestInvalid):
        read_cursor(write_cursor(place, binding), b"another.")


@given(st.text(max_size=60))
def test_a_forged_cursor_is_refused(text: str) -> None:
    with pytest.raises(RequestInvalid):
        read_cursor(text, b"binding.")


@pytest.mark.parametrize(
    "body", [[], "x", {}, {"kind": 5}, {"kind": "aggregate", "measure": {}}, {"kind": "x", "a": [[]]}]
)
def test_a_body_that_is_no_question_is_refused(body: object) -> None:
    with pytest.raises(RequestInvalid):
        parse_body(body)


def test_a_body_asks_the_same_as_a_query_string() -> None:
    kind, pairs = parse_body({"kind": "aggregate", "measure": ["cost_usd"], "limit": 5, "group_by": "model"})
    assert kind == "aggregate" and pairs == (("measure", "cost_usd"), ("limit", "5"), ("group_by", "model"))
