"""The price engine against public prices: `llmhub bench prices --data DIR`, DIR laid out as the shared data is.

Three comparisons. `engine`: a public list's prices, put into our book, over recorded usage objects of real answers,
against the dollars that list's own project derives. `starter`: the same calls by the table that comes with the hub.
`lists`: each price of that table against two public lists. Every kind of disagreement has a count and a first example.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.contract.columns import EVENT_SCHEMA
from cluster.contract.prices import BUCKETS, UNPRICED, Price, read_price
from cluster.errors import RequestInvalid
from cluster.metadata.prices import starter_prices
from models.pricing.book import PriceBook
from models.pricing.cost import price

# After every recorded answer and every price of the lists.
_AT_US: Final = 1_780_000_000_000_000
_MODALITIES: Final = ("audio", "image", "video")
_STEPS: Final = {"input": "input_mtok", "cache_read": "cache_read_mtok", "cache_write": "cache_write_mtok"}
_LISTED: Final = {**_STEPS, "output": "output_mtok", "other_modal": "input_audio_mtok"}
# The list's names of providers -> ours.
_PROVIDERS: Final = {"google": "gcp.gemini", "aws": "aws.bedrock", "x-ai": "x_ai", "mistral": "mistral_ai"}
_LITELLM: Final = {
    "input": "input_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "output": "output_cost_per_token",
}
_TIER_SUFFIX: Final = {"standard": "", "batch": "_batches", "flex": "_flex", "priority": "_priority"}


class Told:
    """Counts of outcomes, each kind with its first example."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, Any] = {}

    def add(self, kind: str, example: Any) -> None:
        self._counts[kind] += 1
        self._examples.setdefault(kind, example)

    def figures(self) -> dict[str, Any]:
        compared = self._counts["equal"] + sum(n for kind, n in self._counts.items() if kind.startswith("differs"))
        return {
            "compared": compared,
            "equal": self._counts["equal"],
            "agreement": round(self._counts["equal"] / compared, 4) if compared else None,
            "kinds": {
                kind: {"count": count, "example": self._examples[kind]}
                for kind, count in self._counts.most_common()
                if kind != "equal"
            },
        }


def readings(data: Path) -> Iterator[dict[str, Any]]:
    """Each (record, provider) whose dollars the list's project derives: its model, tokens and dollars."""
    for row in pq.read_table(data / "llm_requests" / "llm_api_usage_bodies.parquet").to_pylist():
        for told in json.loads(row["extracted_json"]):
            seen: set[str] = set()
            for one in told["extractors"]:
                if one["provider_id"] in seen or not {"input_price", "output_price"} <= one.keys() or not row["model"]:
                    continue
                seen.add(one["provider_id"])
                dollars = Decimal(one["input_price"]) + Decimal(one["output_price"])
                body = json.loads(row["usage_body_json"])
                yield {
                    "record_no": row["record_no"],
                    "provider": one["provider_id"],
                    "model": row["model"],
                    "usage": told["usage"],
                    "usd": dollars,
                    "body": body,
                }


def listed_prices(data: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(row of the list, its price as members that `read_price` takes) of every row that always applies."""
    found = []
    for row in pq.read_table(data / "prices" / "genai_prices.parquet").to_pylist():
        amounts = json.loads(row["prices_json"])
        if row["constraint_json"] is not None and "start_date" not in row["constraint_json"]:
            continue
        if "input_mtok" not in amounts:
            continue
        begins = json.loads(row["constraint_json"] or "{}").get("start_date", "1970-01-01")
        steps: dict[int, dict[str, Any]] = {}
        said: dict[str, Any] = {"provider": row["provider"], "model": row["model"][:160]}
        for bucket, name in _LISTED.items():
            amount = amounts.get(name)
            said[f"{bucket}_usd_per_mtok"] = amount["base"] if isinstance(amount, dict) else amount
            for step in amount["tiers"] if isinstance(amount, dict) else ():
                steps.setdefault(step["start"], {})[f"{bucket}_usd_per_mtok"] = step["price"]
        base = {name: value for name, value in said.items() if name.endswith("_mtok")}
        said["above"] = [{"input_tokens_above": at, **base, **steps[at]} for at in sorted(steps)]
        found.append((row, {**said, "effective_from": f"{begins}T00:00:00Z"}))
    return found


def matches(rule: dict[str, Any], model: str) -> bool:
    """Whether a list's rule fits a model's name."""
    ((kind, told),) = rule.items()
    if kind in ("or", "and"):
        return (any if kind == "or" else all)(matches(one, model) for one in told)
    name = model.lower()
    if kind == "regex":
        return re.search(told, name) is not None
    tests = {
        "equals": name.__eq__,
        "starts_with": name.startswith,
        "ends_with": name.endswith,
        "contains": name.__contains__,
    }
    return bool(tests[kind](told.lower()))


def call(reading: dict[str, Any], provider: str, model: str, *, audio_apart: bool) -> dict[str, Any]:
    """The reading as an event of ours."""
    usage = reading["usage"]
    audio = usage.get("input_audio_tokens", 0) if audio_apart else 0
    return {
        "event_id": str(reading["record_no"]),
        "occurred_at": _AT_US,
        "received_at": _AT_US,
        "kind": "gateway.request",
        "operation": "chat" if "output_tokens" in usage else "embeddings",
        "provider": provider,
        "model": model,
        "input_tokens": usage.get("input_tokens", 0) - audio,
        "output_tokens": usage.get("output_tokens"),
        "cache_read_tokens": usage.get("cache_read_tokens"),
        "cache_write_tokens": usage.get("cache_write_tokens"),
        "reasoning_tokens": usage.get("output_reasoning_tokens"),
        "other_modal_tokens": audio or None,
        "payload": json.dumps(reading["body"]),
        "counted": 0,
    }


def priced(book: PriceBook, rows: Sequence[dict[str, Any]]) -> list[Decimal | None]:
    found: list[Decimal | None] = (
        price(pa.RecordBatch.from_pylist(list(rows), EVENT_SCHEMA), book, "").column("cost_usd_computed").to_pylist()
    )
    return found


def engine(data: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The list's prices in our book against its own dollars; and the readings."""
    listed = listed_prices(data)
    owned, by_provider = [], {}
    for number, (row, said) in enumerate(listed):
        name = f"list-{number}"
        try:
            owned.append(("", read_price({**said, "provider": "list", "model": name}, from_us=0)))
        except RequestInvalid:
            continue
        by_provider.setdefault(row["provider"], []).append((json.loads(row["match_json"]), name, said))
    found, rows, told = list(readings(data)), [], Told()
    for reading in found:
        fits = [one for one in by_provider.get(reading["provider"], ()) if matches(one[0], reading["model"])]
        # Of dated prices of one model the last holds; the list has them newest first or last, so by their begin.
        chosen = max(fits, key=lambda one: one[2]["effective_from"], default=(None, "none", {}))
        apart = chosen[2].get("other_modal_usd_per_mtok") is not None
        if chosen[0] is None:
            reading["why"] = "not priced: the list's rows of the provider have no such model; its project falls back"
        rows.append(call(reading, "list", chosen[1], audio_apart=apart))
    for reading, ours in zip(found, priced(PriceBook(owned), rows), strict=True):
        told.add(_kind(reading, ours), _example(reading, ours))
    return told.figures(), found


def starter(found: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The hub's own table over the same readings."""
    told = Told()
    prices = starter_prices()
    known, book = {one.provider for one in prices}, PriceBook(("", one) for one in prices)
    readings_ = [{**one, "ours": _PROVIDERS.get(one["provider"], one["provider"])} for one in found]
    rows = [call(one, one["ours"], one["model"], audio_apart=False) for one in readings_]
    for reading, ours in zip(readings_, priced(book, rows), strict=True):
        what = "model" if reading["ours"] in known else "provider"
        reading["why"] = f"not priced: the starter table does not have the {what}"
        told.add(_kind(reading, ours), _example(reading, ours))
    return told.figures()


def _kind(reading: dict[str, Any], ours: Decimal | None) -> str:
    usage, usd, tier = reading["usage"], reading["usd"], _tier(reading["body"])
    if ours is None:
        return reading.get("why", "not priced")
    if abs(ours - usd) < Decimal("1e-9"):
        return "equal"
    if tier not in (None, "default", "standard", "on_demand", "auto"):
        return f"differs: service tier {tier}, which the list does not know"
    if any(f"{side}_{name}_tokens" in usage for name in _MODALITIES for side in ("input", "output")):
        return "differs: other modalities, for which one of the two has a price of its own"
    if "1h_input_tokens" in json.dumps(reading["body"]) and usage.get("cache_write_tokens"):
        return "differs: an hour of cache, which the list prices as five minutes"
    return "differs: otherwise"


def _tier(body: dict[str, Any]) -> str | None:
    usage = body.get("usage") or {}
    told = body.get("service_tier") or (usage.get("service_tier") if isinstance(usage, dict) else None)
    return str(told) if told else None


def _example(reading: dict[str, Any], ours: Decimal | None) -> dict[str, Any]:
    shown = {name: reading[name] for name in ("record_no", "provider", "model", "usage")}
    return {**shown, "theirs_usd": f"{reading['usd']:f}", "ours_usd": None if ours is None else f"{ours:f}"}


def lists(data: Path) -> dict[str, Any]:
    """Each amount of the starter table against the public lists that have the model."""
    theirs = {
        (row["provider"], str(row["model_key"]).split("/")[-1].lower()): json.loads(row["entry_json"])
        for row in pq.read_table(data / "prices" / "litellm_model_prices.parquet").to_pylist()
    }
    told = {"litellm": Told(), "genai-prices": Told()}
    listed = listed_prices(data)
    providers = {ours: name for name, ours in _PROVIDERS.items()}
    for one in latest(starter_prices()):
        named = f"{one.provider} {one.model} {one.tier}"
        entry = next((theirs[key] for key in _keys(one) if key in theirs), None)
        if entry is None:
            told["litellm"].add("not in the list", named)
        else:
            suffix = _TIER_SUFFIX[one.tier]
            amounts = {bucket: entry.get(name + suffix) for bucket, name in _LITELLM.items()}
            _compare(told["litellm"], one, amounts, scale=6)
        provider = providers.get(one.provider, one.provider)
        said = [
            said
            for row, said in listed
            if row["provider"] == provider and matches(json.loads(row["match_json"]), one.matches[-1].rstrip("*"))
        ]
        if one.tier == "standard":
            if not said:
                told["genai-prices"].add("not in the list", named)
            else:
                chosen = max(said, key=lambda each: each["effective_from"])
                amounts = {bucket: chosen.get(f"{bucket}_usd_per_mtok") for bucket in _LITELLM}
                _compare(told["genai-prices"], one, amounts, scale=0)
    return {name: one.figures() for name, one in told.items()}


def latest(prices: Iterable[Price]) -> list[Price]:
    """The newest price of each provider, model and tier."""
    newest: dict[tuple[str, str, str], Price] = {}
    for one in sorted(prices, key=lambda one: one.from_us):
        newest[one.provider, one.model, one.tier] = one
    return list(newest.values())


def _keys(one: Price) -> Iterator[tuple[str, str]]:
    names = {"gcp.gemini": ("gemini", "vertex_ai-language-models"), "aws.bedrock": ("bedrock", "bedrock_converse")}
    for provider in (*names.get(one.provider, (one.provider,)), one.provider.replace("_ai", "").replace("_", "")):
        for model in one.matches:
            yield provider, model.rstrip("*").rstrip("-")


def _compare(told: Told, one: Price, amounts: dict[str, Any], *, scale: int) -> None:
    for bucket, amount in amounts.items():
        ours = one.steps[0].amounts[BUCKETS.index(bucket)]
        if amount is None or ours == UNPRICED:
            continue
        nano = int((Decimal(str(amount)).scaleb(scale) * 10**9).to_integral_value())
        example = {
            "price": one.version,
            "bucket": bucket,
            "theirs": str(Decimal(nano).scaleb(-9)),
            "ours": str(Decimal(ours).scaleb(-9)),
        }
        told.add("equal" if nano == ours else f"differs: {bucket}", example)


def speed(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Microseconds of the processor for a call, in batches of 5,000, the best of several: what a door pays."""
    batch = pa.RecordBatch.from_pylist((list(rows) * (5_000 // len(rows) + 1))[:5_000], EVENT_SCHEMA)
    book, best = PriceBook(("", one) for one in starter_prices()), float("inf")
    for _ in range(20):
        began_s = time.process_time()
        price(batch, book, "")
        best = min(best, time.process_time() - began_s)
    return {"us_per_event": round(best / batch.num_rows * 1e6, 3)}


def main(arguments: Sequence[str]) -> dict[str, Any]:
    """All comparisons and the cost of pricing."""
    parser = argparse.ArgumentParser(prog="llmhub bench prices", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    by_engine, found = engine(chosen.data)
    plain = [
        call(one, _PROVIDERS.get(one["provider"], one["provider"]), one["model"], audio_apart=False) for one in found
    ]
    figures = {
        "engine": by_engine,
        "starter": starter(found),
        "lists": lists(chosen.data),
        # Without the recorded object, as gateways send calls.
        "pricing": speed([{**one, "payload": None} for one in plain]),
    }
    text = json.dumps(figures, indent=2, default=str)
    print(text)
    if chosen.json:
        chosen.json.write_text(text + "\n")
    return figures


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
