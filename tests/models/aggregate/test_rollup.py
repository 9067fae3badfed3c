"""What a partial row holds: exactly what the events of its window and dimensions tell, to the last nano-dollar."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.contract import event
from cluster.contract.columns import ROLLUP_SCHEMA
from models.aggregate.rollup import MINUTE_US, coarsen, merge, roll
from tests.models.aggregate.events import START_US, Row, batch_of, counted, law, rows


@law
@given(st.lists(rows(), min_size=1, max_size=60))
def test_totals_equal_a_plain_loop_over_the_events(events: list[Row]) -> None:
    (total,) = merge([roll(batch_of(events), MINUTE_US)], keys=()).to_pylist()
    lookups = [row for row in events if row["counted"] & event.COUNTED_CACHE]
    checks = [row for row in events if row["kind"] == event.GUARDRAIL_KIND]
    latencies = counted(events, event.COUNTED_LATENCY, "latency_ms")
    assert total["event_count"] == len(events)
    assert total["request_count"] == sum(row["counted"] & event.COUNTED_REQUEST for row in events)
    assert total["error_count"] == sum(bool(row["counted"] & event.COUNTED_ERROR) for row in events)
    assert total["cache_lookup_count"] == len(lookups)
    assert total["cache_hit_count"] == sum(row["cache_status"] in event.CACHE_HITS for row in lookups)
    assert total["guardrail_count"] == len(checks)
    assert total["guardrail_block_count"] == sum(r["guardrail_action"] in event.BLOCKING_ACTIONS for r in checks)
    for name in ("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens"):
        assert total[name] == sum(counted(events, event.COUNTED_TOKENS, name))
    assert total["cost_usd"] == sum(counted(events, event.COUNTED_COST, "cost_usd"), Decimal(0))
    assert total["latency_count"] == len(latencies) == sum(total["latency_bucket_counts"] or [])
    assert total["latency_ms_sum"] == sum(latencies)
    assert total["latency_ms_min"] == min(latencies, default=None)
    assert total["latency_ms_max"] == max(latencies, default=None)
    assert total["ttft_count"] == len(counted(events, event.COUNTED_TTFT, "ttft_ms"))


@law
@given(st.lists(rows(), min_size=1, max_size=60))
def test_one_row_for_each_window_and_dimension_set(events: list[Row]) -> None:
    keys = {(r["occurred_at"] // MINUTE_US, r["kind"], r["model"], r["status"]) for r in events}
    partial = roll(batch_of(events), MINUTE_US)
    assert partial.schema == ROLLUP_SCHEMA
    assert partial.num_rows == len(keys)
    partial.validate(full=True)
    assert sum(partial.column("event_count").to_pylist()) == len(events)


def test_windows_are_half_open_and_reach_before_1970() -> None:
    instants = [START_US - 1, START_US, START_US + MINUTE_US - 1, -1]
    starts = roll(batch_of([{"occurred_at": instant} for instant in instants]), MINUTE_US).column("window_start")
    expected = [(START_US - MINUTE_US), START_US, -MINUTE_US]
    assert sorted(starts.cast(pa.int64()).to_pylist()) == sorted(expected)


def test_a_chunked_and_sliced_table_rolls_like_a_batch() -> None:
    batch = batch_of([{"cost_usd": Decimal(n), "latency_ms": float(n), "user_id": f"u{n}"} for n in range(1, 7)])
    table = pa.Table.from_batches([batch.slice(1, 2), batch.slice(3, 2)])
    (row,) = roll(table, MINUTE_US).to_pylist()
    assert row["cost_usd"] == 2 + 3 + 4 + 5
    assert row["latency_ms_max"] == 5.0


def test_money_too_wide_for_one_row_takes_more_rows_and_none_is_lost() -> None:
    cost = Decimal(event.COST_NANO_USD_MAX).scaleb(-9)
    events: list[Row] = [{"cost_usd": cost, "user_id": f"u{n}", "latency_ms": 1.0} for n in range(25)]
    partial = merge([roll(batch_of(events), MINUTE_US), roll(batch_of(events), MINUTE_US)])
    assert partial.num_rows > 1
    assert sum(partial.column("cost_usd").to_pylist()) == 50 * cost
    assert sum(partial.column("event_count").to_pylist()) == 50


def test_tokens_too_many_for_one_row_take_more_rows() -> None:
    partial = roll(batch_of([{"input_tokens": 7}]), MINUTE_US)
    place = partial.schema.get_field_index("input_tokens")
    full = partial.set_column(place, partial.schema.field(place), pa.array([2**62], pa.int64()))
    merged = merge([full] * 5)
    assert sum(merged.column("input_tokens").to_pylist()) == 5 * 2**62


def test_a_not_a_number_duration_is_not_counted() -> None:
    (row,) = roll(batch_of([{"latency_ms": float("nan")}, {"latency_ms": 8.0}]), MINUTE_US).to_pylist()
    assert (row["latency_count"], row["latency_ms_sum"], row["latency_ms_min"]) == (1, 8.0, 8.0)


def test_a_window_without_durations_users_or_sessions_holds_nulls() -> None:
    (row,) = roll(batch_of([{}]), MINUTE_US).to_pylist()
    absent = ("latency_ms_min", "latency_ms_max", "latency_buckets", "ttft_bucket_counts", "users_sketch")
    assert [row[name] for name in absent] == [None] * len(absent)


def test_merging_by_foreign_keys_keeps_tenants_apart() -> None:
    partial = roll(batch_of([{"model": "a"}, {"model": "b"}]), MINUTE_US)
    both = [partial.append_column("tenant_id", pa.array([name] * 2)) for name in ("acme", "globex")]
    merged = merge(both, keys=("tenant_id",))
    assert merged.select(["tenant_id", "event_count"]).to_pylist() == [
        {"tenant_id": "acme", "event_count": 2},
        {"tenant_id": "globex", "event_count": 2},
    ]


def test_readers_string_views_and_wide_money_are_accepted() -> None:
    partial = roll(batch_of([{"model": "a", "cost_usd": Decimal("0.25")}]), MINUTE_US)
    wide = partial.set_column(5, "model", partial.column("model").cast(pa.large_string()))
    place = wide.schema.get_field_index("cost_usd")
    wide = wide.set_column(place, "cost_usd", wide.column("cost_usd").cast(pa.decimal128(38, 9)))
    assert merge([wide, partial]).column("cost_usd").to_pylist() == [Decimal("0.5")]


def test_coarsening_moves_windows_to_multiples_of_the_longer_one() -> None:
    events: list[Row] = [{"occurred_at": START_US + minute * MINUTE_US} for minute in range(3)]
    coarse = coarsen(roll(batch_of(events), MINUTE_US), 86_400_000_000)
    starts = coarse.column("window_start").to_pylist()
    assert starts == [datetime.fromtimestamp(START_US // 86_400_000_000 * 86_400, UTC)]
    assert coarse.column("event_count").to_pylist() == [3]


@pytest.mark.parametrize("count", [1, 70_000])
def test_many_dimension_values_stay_apart(count: int) -> None:
    names = pa.array([f"model-{number}" for number in range(count)])
    batch = batch_of([{"latency_ms": 1.0}])
    table = pa.Table.from_batches([batch]).take(pa.array([0] * count))
    table = table.set_column(table.schema.get_field_index("model"), "model", names)
    assert roll(table, MINUTE_US).num_rows == count
