"""Days and weeks of time zones: SQL and calendar agree on every instant, where clocks jump and days are missing too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import RequestInvalid
from models.query.calendar import WEEK_US, buckets, parse_zone
from models.query.times import DAY_US, GRANULARITIES, HOUR_US, MINUTE_US, Range

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Half an hour of summer time; jumps at midnight; a day that never was; a zone of 45 minutes; none.
ZONES = [
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Asia/Beirut",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "Europe/Berlin",
    "",
]
INSTANTS = st.integers(10 * 365 * DAY_US, 60 * 365 * DAY_US)


def local(at_us: int, zone: str) -> datetime:
    return (EPOCH + timedelta(microseconds=at_us)).astimezone(ZoneInfo(zone or "UTC"))


@given(INSTANTS, st.integers(1, 800 * DAY_US), st.sampled_from(ZONES), st.sampled_from([DAY_US, WEEK_US]))
def test_buckets_are_the_days_and_weeks_of_the_calendar(first: int, length: int, zone: str, step: int) -> None:
    found = buckets(Range(first, first + length), step, zone)
    starts, ends = found.starts, found.ends
    assert starts[0] <= first < ends[0] and starts[-1] < first + length <= ends[-1]
    assert starts[1:] == ends[:-1]
    days = [local(at, zone).date() for at in starts]
    for at, day in zip(starts, days, strict=True):
        assert local(at - 1, zone).date() < day
        assert step == DAY_US or day.weekday() == 0 or zone == "Pacific/Apia"
    for before, after in pairwise(days):
        assert (after - before).days == step // DAY_US or zone == "Pacific/Apia"
    assert all(edge % found.grid_us == 0 for edge in (*starts, *ends)) and found.grid_us % MINUTE_US == 0


@given(INSTANTS, st.sampled_from(ZONES), st.sampled_from([DAY_US, WEEK_US]), st.data())
def test_sql_finds_the_bucket_of_every_instant(first: int, zone: str, step: int, data: st.DataObject) -> None:
    span = Range(first, first + 400 * DAY_US)
    found = buckets(span, step, zone)
    edges = [at + by for at in found.starts for by in (-1, 0, 1) if span.from_us <= at + by < span.to_us]
    instants = edges + data.draw(st.lists(st.integers(span.from_us, span.to_us - 1), max_size=20))
    spans = dict(zip(found.starts, found.ends, strict=True))
    with duckdb.connect(":memory:") as connection:
        start, length = found.start_sql("make_timestamptz(t)"), found.length_sql("s")
        told = connection.execute(
            f"SELECT t, s, {length} FROM (SELECT t, {start} AS s FROM (SELECT unnest(?::BIGINT[]) AS t))", [instants]
        ).fetchall()
    assert len(told) == len(instants)
    for at, begun, lasts in told:
        assert begun <= at < begun + lasts == spans[begun]


def test_lengths_of_days_where_clocks_change() -> None:
    march = buckets(Range(*(day_us(2025, 3, day) for day in (29, 32))), DAY_US, "Europe/Berlin")
    assert [(end - start) // HOUR_US for start, end in zip(march.starts, march.ends, strict=True)] == [24, 23, 24, 24]
    # Samoa went from the 29th to the 31st of December 2011.
    apia = buckets(Range(day_us(2011, 12, 29), day_us(2012, 1, 1)), DAY_US, "Pacific/Apia")
    assert [local(at, "Pacific/Apia").day for at in apia.starts] == [28, 29, 31, 1]


def day_us(year: int, month: int, day: int) -> int:
    return (datetime(year, month, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1) + (day - 1) * DAY_US


def test_the_grid_says_which_roll_ups_fit() -> None:
    span = Range(day_us(2025, 3, 1), day_us(2025, 5, 1))
    assert buckets(span, DAY_US).grid_us == DAY_US
    assert buckets(span, DAY_US, "Europe/Berlin").grid_us == HOUR_US
    assert buckets(span, DAY_US, "Asia/Kolkata").grid_us == HOUR_US // 2
    assert all(buckets(span, step).grid_us == step for step in GRANULARITIES.values())


@pytest.mark.parametrize(
    "text", ["Europe/Berln", "berlin", "../../etc/passwd", "x" * 10_000, "\x00", "+02:00", "Europe"]
)
def test_an_unknown_zone_is_refused_with_names(text: str) -> None:
    with pytest.raises(RequestInvalid) as refused:
        parse_zone(text, DAY_US)
    assert refused.value.hint and len(refused.value.message) < 300


def test_hours_have_no_zone() -> None:
    assert parse_zone("UTC", MINUTE_US) == parse_zone("", MINUTE_US) == ""
    with pytest.raises(RequestInvalid, match="shorter"):
        parse_zone("Europe/Berlin", HOUR_US)
