"""Five ways in which products were publicly found to bill wrongly, each with the provider's true price to 1e-9 USD.

Each call comes through its door as the product sends it, is decoded, and is priced by the starter table.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa
import pytest

from cluster.contract.columns import TOKEN_FIELDS
from cluster.contract.decode import Decoded, decode
from cluster.contract.sources.hooks.products import DECODE_HOOK
from cluster.contract.sources.otlp import decode_traces
from cluster.metadata.prices import EVERYBODY, starter_prices
from models.pricing.book import PriceBook
from models.pricing.cost import price
from tests.cluster.contract.bodies import CONTEXT, NDJSON, arrow_body
from tests.cluster.contract.test_corpus import CASES, call_of
from tests.cluster.contract.test_otlp import traces

BOOK = PriceBook((EVERYBODY, one) for one in starter_prices())
AT = "2026-01-01T00:00:00Z"


def costs(decoded: Decoded) -> list[tuple[Decimal | None, str | None]]:
    """What the hub computes for the calls of a body, and the version it computes by."""
    assert decoded.refusals == []
    found = price(decoded.events, BOOK, "acme").select(["input_tokens", "cost_usd_computed", "price_version"])
    rows = found.filter(found.column("input_tokens").is_valid()).to_pylist()
    return [(row["cost_usd_computed"], row["price_version"]) for row in rows]


def span(**attributes: Any) -> Decoded:
    told = {"gen_ai.operation.name": "chat", **{name.replace("__", "."): value for name, value in attributes.items()}}
    request = traces({"name": "chat", "attributes": told})
    return decode_traces(request.SerializeToString(), "application/x-protobuf", CONTEXT)


def sent(**fields: Any) -> Decoded:
    row = {"event_id": "e", "occurred_at": AT, "module": "gateway", "kind": "gateway.request", **fields}
    return decode(orjson.dumps(row), content_type=NDJSON, context=CONTEXT)


def langfuse(usage: dict[str, int], model: str) -> Decoded:
    body = {"id": "g", "traceId": "t", "startTime": AT, "endTime": AT, "model": model, "usageDetails": usage}
    batch = {"batch": [{"id": "e", "type": "generation-create", "timestamp": AT, "body": body}]}
    return DECODE_HOOK["langfuse"](orjson.dumps(batch), {"content-type": "application/json"}, CONTEXT)


def litellm(usage: dict[str, Any], model: str, **more: Any) -> Decoded:
    call = {
        "id": "c",
        "call_type": "acompletion",
        "status": "success",
        "custom_llm_provider": "openai",
        "startTime": 1_767_225_600.0,
        "endTime": 1_767_225_601.0,
        "model": model,
        "prompt_tokens": usage["prompt_tokens"],
        "completion_tokens": usage["completion_tokens"],
        "metadata": {"usage_object": usage},
        **more,
    }
    return DECODE_HOOK["litellm"](orjson.dumps([call]), {"content-type": "application/json"}, CONTEXT)


def test_1_cached_tokens_are_not_counted_twice() -> None:
    # 17,903 input tokens, 17,817 of them from the cache, were shown as 35,720. gpt-5: 1.25, cached 0.125, output 10.
    true = Decimal("0.003334625")
    usage = {"prompt_tokens": 17_903, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 17_817}}
    bodies = [
        litellm(usage, "gpt-5"),
        span(
            gen_ai__provider__name="openai",
            gen_ai__request__model="gpt-5",
            gen_ai__usage__input_tokens=17_903,
            gen_ai__usage__output_tokens=100,
            gen_ai__usage__cache_read__input_tokens=17_817,
        ),
    ]
    assert [cost for body in bodies for cost, _ in costs(body)] == [true, true]
    # Told by exclusive buckets: the same input, though without a provider nothing is priced.
    events = langfuse({"input": 86, "input_cached_tokens": 17_817, "output": 100}, "gpt-5").events
    assert [count for count in events.column("input_tokens").to_pylist() if count is not None] == [17_903]


def test_2_reasoning_tokens_are_not_free() -> None:
    # 900 of 1,000 output tokens were reasoning and priced at 0. gpt-5: 10 USD a million, reasoning or not.
    usage = {
        "prompt_tokens": 400,
        "completion_tokens": 1_000,
        "completion_tokens_details": {"reasoning_tokens": 900},
    }
    assert [cost for cost, _ in costs(litellm(usage, "gpt-5"))] == [Decimal("0.0105")]


@pytest.mark.parametrize(("tier", "true"), [("default", "0.01125"), ("priority", "0.0225"), ("flex", "0.005625")])
def test_3_the_service_tier_is_not_ignored(tier: str, true: str) -> None:
    told = {"provider": "openai", "model": "gpt-5", "input_tokens": 1_000, "output_tokens": 1_000}
    assert costs(sent(**told, attributes={"service_tier": tier}))[0][0] == Decimal(true)
    attributes = {"gen_ai.openai.response.service_tier": tier, "gen_ai.openai.request.service_tier": "auto"}
    spans = span(
        **attributes,
        gen_ai__provider__name="openai",
        gen_ai__request__model="gpt-5",
        gen_ai__usage__input_tokens=1_000,
        gen_ai__usage__output_tokens=1_000,
    )
    assert costs(spans)[0][0] == Decimal(true)


@pytest.mark.parametrize(
    ("model", "sent_tokens", "output", "true"),
    [
        # At the threshold the base price, one token over it the whole call at the long one; never a mixture.
        ("gemini-2.5-pro", 200_000, 1_500, "0.265"),
        ("gemini-2.5-pro", 200_001, 1_000, "0.5150025"),
        ("gemini-2.5-pro", 219_400, 600, "0.5575"),
    ],
)
def test_4_the_long_context_price_is_that_of_the_whole_call(
    model: str, sent_tokens: int, output: int, true: str
) -> None:
    told = {"provider": "gcp.gemini", "model": model, "input_tokens": sent_tokens, "output_tokens": output}
    [(cost, version)] = costs(sent(**told))
    assert cost == Decimal(true)
    assert str(version).endswith(">200000") == (sent_tokens > 200_000)


def test_5_a_hit_of_the_applications_own_cache_is_not_billed() -> None:
    usage = {"prompt_tokens": 9_000, "completion_tokens": 90}
    assert costs(litellm(usage, "gpt-5", cache_hit=True)) == [(Decimal(0), "cache_hit")]
    told = {"provider": "openai", "model": "gpt-5", "input_tokens": 9_000, "output_tokens": 90}
    assert costs(sent(**told, cache_status="hit")) == [(Decimal(0), "cache_hit")]
    assert costs(sent(**told, cache_status="miss"))[0][0] == Decimal("0.01215")


def test_one_call_told_in_every_dialect_costs_the_same_to_the_byte() -> None:
    found: dict[str, set[bytes]] = {}
    for case in CASES:
        if not case["same_call"]:
            continue
        for batch in call_of(case):
            # What names no provider, or another one, has no price or another one.
            if batch.column("provider").to_pylist()[0] != "openai":
                continue
            names = ("model", *TOKEN_FIELDS, "cost_usd_computed", "price_version")
            told = price(batch, BOOK, "acme").select(names)
            found.setdefault(case["file"], set()).add(arrow_body(pa.Table.from_batches([told]).slice(0, 1)))
    assert len(found) >= 8
    assert len(set.union(*found.values())) == 1
