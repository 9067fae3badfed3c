"""Each measure has one value: from merged partials, from SQL over rollups, from SQL over raw events."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.contract.columns import ROLLUP_SCHEMA
from models.aggregate.rollup import MINUTE_US, merge, roll
from models.measures import MEASURES, STATES, finalise, values
from tests.models.aggregate.events import Row, batch_of, law, rows

_SECONDS = 60.0
_ROLLED = [name for name, measure in MEASURES.items() if measure.rollup_sql is not None]


def _ask(sql: list[str], table: pa.Table) -> tuple[object, ...]:
    text = ", ".join(sql).replace("{seconds}", str(_SECONDS))
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("told", table)
        row = connection.execute(f"SELECT {text} FROM told").fetchone()
    assert row is not None
    return row


@law
@given(st.lists(rows(), min_size=1, max_size=30))
def test_three_ways_to_a_value_agree(events: list[Row]) -> None:
    batch = batch_of(events)
    rolled = roll(batch, MINUTE_US)
    merged = {name: found[0] for name, found in values(merge([rolled], keys=()), list(MEASURES), seconds=60.0).items()}
    from_rollups = _ask([MEASURES[name].rollup_sql or "" for name in _ROLLED], rolled)
    assert dict(zip(_ROLLED, from_rollups, strict=True)) == {name: merged[name] for name in _ROLLED}
    from_events = dict(zip(MEASURES, _ask([m.event_sql for m in MEASURES.values()], pa.table(batch)), strict=True))
    for name, measure in MEASURES.items():
        if measure.quantile and from_events[name] is not None:
            assert merged[name] == pytest.approx(from_events[name], rel=0.01 + 1e-9, abs=1e-6)
        else:
            assert merged[name] == from_events[name], name


def test_no_rows_give_zero_counts_and_no_ratios() -> None:
    sums = _ask([MEASURES[name].rollup_sql or "" for name in _ROLLED], ROLLUP_SCHEMA.empty_table())
    empty = dict(zip(_ROLLED, sums, strict=True))
    assert empty["request_count"] == 0
    assert empty["cost_usd"] == 0
    assert empty["error_ratio"] is None
    assert empty["latency_ms_max"] is None


def test_exclusive_token_buckets_add_up_to_the_totals() -> None:
    told = {"input_tokens": 100, "cache_read_tokens": 30, "cache_write_tokens": 20, "output_tokens": 50}
    merged = merge([roll(batch_of([{**told, "reasoning_tokens": 15, "other_modal_tokens": 4}]), MINUTE_US)])
    names = ("input_uncached_tokens", "cache_read_tokens", "cache_write_tokens", "output_text_tokens")
    found = values(merged, [*names, "reasoning_tokens", "other_modal_tokens", "total_tokens"], seconds=60.0)
    assert [found[name][0] for name in names] == [50, 30, 20, 35]
    assert sum(found[name][0] or 0 for name in (*names, "reasoning_tokens")) == found["total_tokens"][0] == 150


def test_contradicting_buckets_never_give_a_negative_share() -> None:
    merged = merge([roll(batch_of([{"input_tokens": 5, "cache_read_tokens": 9}]), MINUTE_US)])
    assert values(merged, ["input_uncached_tokens"], seconds=60.0)["input_uncached_tokens"] == [0]


def test_money_stays_decimal_and_a_rate_uses_the_seconds_given() -> None:
    partial = {"cost_usd": Decimal("0.000000001"), "input_tokens": 90, "output_tokens": 30}
    assert finalise(MEASURES["cost_usd"], partial, seconds=60) == Decimal("0.000000001")
    assert finalise(MEASURES["tokens_per_s"], partial, seconds=60) == 2.0


def test_a_latency_quantile_never_exceeds_the_longest_call() -> None:
    merged = merge([roll(batch_of([{"latency_ms": 100.0}]), MINUTE_US)])
    assert values(merged, ["latency_ms_p99", "latency_ms_max"], seconds=60.0) == {
        "latency_ms_p99": [100.0],
        "latency_ms_max": [100.0],
    }


def test_every_measure_reads_columns_that_exist() -> None:
    assert {column for measure in MEASURES.values() for column in measure.columns} <= set(ROLLUP_SCHEMA.names)
    assert {measure.needs for measure in MEASURES.values()} == {None, *STATES}


def test_every_measure_has_its_heading_in_docs() -> None:
    text = (Path(__file__).parents[3] / "docs" / "measures.md").read_text()
    assert [name for name in MEASURES if f"## {name}\n" not in text] == []
