"""Two figures of one call: what the sender told stays what counts, what the hub computes stands beside it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from cluster.contract.columns import EVENT_SCHEMA
from cluster.metadata.prices import EVERYBODY, starter_prices
from models.pricing.book import PriceBook
from models.pricing.cost import price

AT_US = 1_764_000_000_000_000  # 2025-11-24T16:00:00Z
CALL = {"provider": "openai", "model": "gpt-5", "input_tokens": 1_000_000, "output_tokens": 0}
UNKNOWN = {**CALL, "model": "gpt-unheard-of"}
BASE = {"occurred_at": AT_US, "received_at": AT_US, "counted": 0, "kind": "gateway.request", "operation": "chat"}


def told(*rows: dict[str, Any]) -> list[tuple[Any, ...]]:
    batch = pa.RecordBatch.from_pylist(
        [{"event_id": str(n), **BASE, **row} for n, row in enumerate(rows)], EVENT_SCHEMA
    )
    found = price(batch, PriceBook((EVERYBODY, one) for one in starter_prices()), "acme")
    names = ["cost_usd", "cost_usd_computed", "cost_is_sent", "price_version"]
    return [tuple(row[name] for name in names) for row in found.select(names).to_pylist()]


@pytest.mark.parametrize("others", [[], [CALL], [{**CALL, "cost_usd": Decimal(1)}], [UNKNOWN]])
def test_both_figures_are_kept_whatever_stands_beside_the_row(others: list[dict[str, Any]]) -> None:
    rows = [{**CALL, "cost_usd": Decimal("9.5")}, CALL, {**UNKNOWN, "cost_usd": Decimal(3)}, UNKNOWN]
    sent, computed, only_sent, neither = told(*rows, *others)[:4]
    assert sent[:3] == (Decimal("9.5"), Decimal("1.25"), True)
    assert computed[:3] == (Decimal("1.25"), Decimal("1.25"), False)
    assert sent[3] == computed[3]
    assert str(computed[3]).startswith("openai/gpt-5@")
    assert only_sent == (Decimal(3), None, True, None)
    assert neither == (None, None, None, None)


def test_a_senders_version_stays_beside_the_senders_cost_and_gives_way_beside_ours() -> None:
    sent, computed = told({**CALL, "cost_usd": Decimal(1), "price_version": "theirs"}, {**CALL, "price_version": "x"})
    assert sent == (Decimal(1), Decimal("1.25"), True, "theirs")
    assert computed[3] != "x"


def test_a_hit_of_the_own_cache_that_was_billed_is_seen() -> None:
    [(cost, computed, is_sent, version)] = told({**CALL, "cache_status": "hit", "cost_usd": Decimal("0.5")})
    assert (cost, computed, is_sent, version) == (Decimal("0.5"), Decimal(0), True, "cache_hit")


def test_rows_that_are_no_calls_keep_their_cost_and_get_no_figure() -> None:
    [other] = told({**CALL, "operation": "invoke_agent", "cost_usd": Decimal(2)})
    assert other == (Decimal(2), None, True, None)
