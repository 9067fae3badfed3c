"""Laws of pricing again: as if the door had known today's prices, and roll-ups that move by exactly that."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.contract.columns import EVENT_SCHEMA
from cluster.contract.prices import read_price
from models.aggregate.difference import difference
from models.aggregate.rollup import MINUTE_US, merge, roll
from models.pricing.book import PriceBook
from models.pricing.cost import price
from models.pricing.reprice import correction, counting, reprice

START_US = 1_780_000_020_000_000
law = settings(max_examples=40, deadline=None)


def book(amounts: dict[str, int]) -> PriceBook:
    """Prices of models in whole dollars for a million tokens of either side."""
    said = {"provider": "p", "input_usd_per_mtok": 0, "output_usd_per_mtok": 0}
    told = ({**said, "model": name, "input_usd_per_mtok": usd} for name, usd in amounts.items())
    return PriceBook(("", read_price(one, from_us=0)) for one in told)


books = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(0, 50)).map(book)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "occurred_at": st.integers(START_US, START_US + 150_000_000),
            "model": st.sampled_from(["a", "b", "c"]),
            "input_tokens": st.integers(0, 10_000_000),
            "latency_ms": st.none() | st.integers(0, 10**6).map(lambda eighths: eighths / 8),
            "user_id": st.sampled_from([None, "u1", "u2"]),
            "cost_usd": st.none() | st.integers(0, 10**12).map(lambda nano: Decimal(nano).scaleb(-9)),
            "counted": st.integers(0, 127),
        }
    ),
    min_size=1,
    max_size=12,
)


def events_of(told: list[dict[str, Any]]) -> pa.RecordBatch:
    base = {"received_at": START_US, "kind": "gateway.request", "operation": "chat", "provider": "p"}
    filled = [{"event_id": str(n), **base, "output_tokens": 0, **row} for n, row in enumerate(told)]
    return pa.RecordBatch.from_pylist(filled, EVENT_SCHEMA)


@law
@given(rows, books, books)
def test_it_is_as_if_the_door_had_known_the_prices_of_today(
    told: list[dict[str, Any]], then: PriceBook, now: PriceBook
) -> None:
    sent = events_of(told)
    before, expected = price(sent, then, "t"), price(sent, now, "t")
    after = reprice(before, now, "t").rows
    known = np.asarray(expected.column("cost_usd_computed").is_valid())
    names = ("cost_usd", "cost_usd_computed", "cost_is_sent")
    for row, (is_known, old, new) in enumerate(zip(known, before.to_pylist(), after.to_pylist(), strict=True)):
        wanted = expected.slice(row, 1).to_pylist()[0] if is_known else old
        assert {name: new[name] for name in names} == {name: wanted[name] for name in names}
        unmoved = EVENT_SCHEMA.names[: EVENT_SCHEMA.get_field_index("cost_usd")]
        assert all(old[name] == new[name] for name in unmoved if name != "price_version")
    assert not reprice(after, now, "t").changed.any()


@law
@given(rows, books, books)
def test_a_correction_moves_the_roll_ups_to_what_the_events_tell(
    told: list[dict[str, Any]], then: PriceBook, now: PriceBook
) -> None:
    before = price(events_of(told), then, "t")
    found = reprice(before, now, "t")
    after = counting(found.rows, found.newly)
    moved = merge([roll(before, MINUTE_US), correction(before, after)])
    assert difference(_placed(roll(after, MINUTE_US)), _placed(moved)) == []


def _placed(partials: pa.Table) -> pa.Table:
    for name, text in (("tenant_id", "t"), ("event_date", "2026-05-28")):
        partials = partials.append_column(name, pa.array([text] * partials.num_rows, pa.string()))
    return partials
