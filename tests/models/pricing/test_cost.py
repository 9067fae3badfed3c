"""Costs against prices worked out by hand and against plain decimals, one row at a time."""

from __future__ import annotations

import json
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.contract.columns import EVENT_SCHEMA
from cluster.contract.prices import BUCKETS, read_price
from cluster.metadata.prices import EVERYBODY, starter_prices
from models.pricing.book import PriceBook
from models.pricing.cost import price

STARTER = [(EVERYBODY, one) for one in starter_prices()]
AT_US = 1_764_000_000_000_000  # 2025-11-24T16:00:00Z
GPT_5 = {"provider": "openai", "model": "gpt-5"}


def batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    base = {"occurred_at": AT_US, "received_at": AT_US, "counted": 0, "kind": "gateway.request", "operation": "chat"}
    return pa.RecordBatch.from_pylist([{"event_id": str(n), **base, **row} for n, row in enumerate(rows)], EVENT_SCHEMA)


def priced(book: PriceBook, *rows: dict[str, Any], tenant: str = "acme") -> list[tuple[Decimal | None, str | None]]:
    found = price(batch(list(rows)), book, tenant)
    return list(zip(found.column("cost_usd").to_pylist(), found.column("price_version").to_pylist(), strict=True))


def one(**row: Any) -> Decimal | None:
    return priced(PriceBook(STARTER), row)[0][0]


def test_cached_tokens_are_not_billed_twice() -> None:
    # 17,903 input of which 17,817 from the cache: 86 at 1.25, 17,817 at 0.125, 100 out at 10.
    cost = one(**GPT_5, input_tokens=17_903, cache_read_tokens=17_817, output_tokens=100)
    assert cost == Decimal("0.003334625")


def test_reasoning_is_billed_as_output() -> None:
    assert one(**GPT_5, input_tokens=0, output_tokens=1_000, reasoning_tokens=900) == Decimal("0.01")


@pytest.mark.parametrize(("tier", "cost"), [("default", "0.011250000"), ("priority", "0.0225"), ("flex", "0.005625")])
@pytest.mark.parametrize("place", ["attributes", "payload"])
def test_the_service_tier_has_its_price(place: str, tier: str, cost: str) -> None:
    said = {place: json.dumps({"gen_ai.openai.response.service_tier": tier})}
    assert one(**GPT_5, **said, input_tokens=1_000, output_tokens=1_000) == Decimal(cost)


def test_a_tier_without_a_price_has_no_cost_and_quoted_text_is_no_tier() -> None:
    scale, quoted = {"service_tier": "scale"}, {"prompt": '"service_tier": "priority"'}
    assert one(**GPT_5, attributes=json.dumps(scale), input_tokens=1_000, output_tokens=0) is None
    assert one(**GPT_5, payload=json.dumps(quoted), input_tokens=1_000, output_tokens=0) == Decimal("0.00125")


def test_what_was_answered_goes_before_what_was_asked_for() -> None:
    said = {"gen_ai.openai.request.service_tier": "priority", "gen_ai.openai.response.service_tier": "default"}
    assert one(**GPT_5, attributes=json.dumps(said), input_tokens=1_000, output_tokens=0) == Decimal("0.00125")


@pytest.mark.parametrize(("sent", "cost"), [(200_000, "0.265"), (200_001, "0.5150025")])
def test_a_long_context_moves_the_whole_call_to_its_tier(sent: int, cost: str) -> None:
    call = {"provider": "gcp.gemini", "model": "gemini-2.5-pro", "input_tokens": sent}
    [(found, version)] = priced(PriceBook(STARTER), {**call, "output_tokens": 1_500 if sent == 200_000 else 1_000})
    assert found == Decimal(cost)
    assert (version or "").endswith(">200000") == (sent > 200_000)


def test_a_hit_of_the_own_cache_is_free() -> None:
    [found] = priced(PriceBook(STARTER), {**GPT_5, "cache_status": "hit", "input_tokens": 9_000, "output_tokens": 90})
    assert found == (Decimal(0), "cache_hit")


def test_an_hour_of_cache_has_its_price() -> None:
    call = {"provider": "anthropic", "model": "claude-haiku-4-5", "input_tokens": 1_000, "output_tokens": 0}
    kept = json.dumps({"cache_creation": {"ephemeral_5m_input_tokens": 600, "ephemeral_1h_input_tokens": 400}})
    assert one(**call, cache_write_tokens=1_000, payload=kept) == Decimal("0.00155")


@pytest.mark.parametrize(
    "row",
    [
        {"model": "gpt-5", "input_tokens": 1, "output_tokens": 1},
        {"provider": "openai", "model": "gpt-unheard-of", "input_tokens": 1, "output_tokens": 1},
        {**GPT_5, "input_tokens": 1},
        {**GPT_5, "output_tokens": 1},
        {**GPT_5, "input_tokens": 1, "output_tokens": 1, "usage_conflict": True},
        {**GPT_5, "input_tokens": 1, "output_tokens": 1, "other_modal_tokens": 5},
        {**GPT_5, "input_tokens": 1, "output_tokens": 1, "operation": "invoke_agent"},
        {**GPT_5, "input_tokens": 1, "output_tokens": 1, "occurred_at": 1_262_304_000_000_000},
    ],
)
def test_no_cost_is_made_up(row: dict[str, Any]) -> None:
    assert priced(PriceBook(STARTER), row) == [(None, None)]


def test_a_sent_cost_stays() -> None:
    row = {**GPT_5, "input_tokens": 1, "output_tokens": 1, "cost_usd": Decimal("7.5"), "price_version": "theirs"}
    assert priced(PriceBook(STARTER), row, row) == [(Decimal("7.5"), "theirs")] * 2


def test_a_change_moves_its_tenant_from_its_instant_until_its_end() -> None:
    said = {**GPT_5, "input_usd_per_mtok": "2", "output_usd_per_mtok": "20"}
    ends = {"effective_to": "2025-11-24T17:00:00Z"}
    book = PriceBook([*STARTER, ("acme", read_price({**said, **ends}, from_us=AT_US))])
    call = {**GPT_5, "input_tokens": 1_000_000, "output_tokens": 0}
    rows = [{**call, "occurred_at": at} for at in (AT_US - 1, AT_US, AT_US + 3_599_999_999, AT_US + 3_600_000_000)]
    assert [cost for cost, _ in priced(book, *rows)] == [Decimal("1.25"), Decimal(2), Decimal(2), Decimal("1.25")]
    assert {cost for cost, _ in priced(book, *rows, tenant="globex")} == {Decimal("1.25")}
    assert len({version for _, version in priced(book, *rows)}) == 2


amounts = st.integers(0, 10**12)
counts = st.one_of(st.integers(0, 2_000), st.integers(0, 10**12))


@given(
    st.lists(st.tuples(amounts, amounts, amounts, amounts, amounts, amounts), min_size=2, max_size=2),
    st.lists(st.tuples(st.integers(0, 1), counts, counts, counts, counts, counts), min_size=1, max_size=20),
)
def test_the_columns_agree_with_plain_decimals(
    told: list[tuple[int, ...]], calls: list[tuple[int, int, int, int, int, int]]
) -> None:
    names = [name for name in BUCKETS if name not in ("cache_write_1h",)]
    book = PriceBook(
        (
            EVERYBODY,
            read_price(
                {"provider": "p", "model": f"m{number}"}
                | {f"{name}_usd_per_mtok": str(Decimal(a).scaleb(-9)) for name, a in zip(names, line, strict=True)},
                from_us=0,
            ),
        )
        for number, line in enumerate(told)
    )
    rows, expected = [], []
    for model, fresh, read, write, text, reasoning in calls:
        used = {"input": fresh, "cache_read": read, "cache_write": write, "output": text, "reasoning": reasoning}
        exact = sum(Decimal(told[model][names.index(name)]) * count for name, count in used.items()) / 10**6
        nano = Decimal(exact).quantize(Decimal(1), ROUND_HALF_EVEN)
        expected.append(nano.scaleb(-9) if nano <= 10**17 else None)
        tokens = {"input_tokens": fresh + read + write, "cache_read_tokens": read, "cache_write_tokens": write}
        more = {"output_tokens": text + reasoning, "reasoning_tokens": reasoning}
        rows.append({"provider": "p", "model": f"m{model}", **tokens, **more})
    assert [cost for cost, _ in priced(book, *rows)] == expected
