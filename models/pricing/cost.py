"""Exact cost of a batch of events by a price book, a column at a time; Python sees each distinct model once.

A cost that was sent stays. A row that lacks what its price needs stays without one: nothing is made up.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.contract.event import CACHE_HITS, COST_NANO_USD_MAX, INFERENCE_OPERATIONS, REQUEST_KINDS
from cluster.contract.money import money_of_nano, rounded_nano_usd
from cluster.contract.prices import BUCKETS, PRICE_KIND, STANDARD, TIERS, UNPRICED, Price
from models.pricing.book import PriceBook

# Answered from a cache of the application's own: no provider was asked, so nothing is owed.
CACHE_HIT_VERSION: Final = "cache_hit"
_MILLION: Final = 1_000_000
# Words of providers for a tier. One that is not here is no tier we know, and has no cost.
_TIER_WORDS: Final = {**{tier: tier for tier in TIERS}, "default": STANDARD, "auto": STANDARD, "on_demand": STANDARD}
_ASKED_TIER: Final = r'"(?:[a-z_.]*\.)?service_tier"\s*:\s*"(?P<word>[^"\\]{1,32})"'
_ANSWERED_TIER: Final = r'"(?:[a-z_.]*response\.)?service_tier"\s*:\s*"(?P<word>[^"\\]{1,32})"'
_HOUR: Final = r'"(?:ephemeral_1h_input_tokens|cache_write_1h_tokens)"\s*:\s*(?P<count>[0-9]{1,13})\s*[,}]'
_NEVER: Final = 2**62
_COUNTED_SPACE_MAX: Final = 65_536

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def tells_prices(events: pa.RecordBatch) -> bool:
    """Whether a row says that a price changed."""
    kinds = events.column("kind")
    data = kinds.buffers()[2]
    return data is not None and PRICE_KIND.encode() in memoryview(data).tobytes()


def price(events: pa.RecordBatch, book: PriceBook, tenant: str) -> pa.RecordBatch:
    """The events, rows without a cost given one and the version of its price where the book knows it.

    Args:
        events: in EVENT_SCHEMA, of one tenant.
    """
    size = events.num_rows
    model, cost = events.column("model"), events.column("cost_usd")
    if not size or not cost.null_count:
        return events
    hits = _owes_nothing(events)
    wanted = np.asarray(cost.is_null()) & _is_call(events)
    free = wanted & hits
    told = bool(free.any())
    nano, versions, codes = np.zeros(size, np.int64), [CACHE_HIT_VERSION], np.zeros(size, np.int64)
    if model.null_count < size:
        rows = np.flatnonzero(wanted & ~hits & _has_usage(events))
        if rows.size:
            some = events if rows.size == size else events.take(pa.array(rows))
            found, steps = _costs(some, book, tenant)
            good = found >= 0
            versions += steps[1]
            nano[rows[good]], codes[rows[good]] = found[good], steps[0][good] + 1
            free[rows[good]] = told = True
    return _with_costs(events, (nano, free), pa.array(versions).take(pa.array(codes))) if told else events


def _with_costs(events: pa.RecordBatch, found: tuple[Ints, Mask], versions: pa.Array) -> pa.RecordBatch:
    nano, known = found
    mask = pa.array(known)
    columns = dict(zip(events.schema.names, events.columns, strict=True))
    columns["cost_usd"] = pc.if_else(mask, money_of_nano(nano, known), columns["cost_usd"])
    columns["price_version"] = pc.if_else(mask, versions, columns["price_version"])
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=events.schema)


def _is_call(events: pa.RecordBatch) -> Mask:
    kinds = pc.is_in(events.column("kind"), pa.array(REQUEST_KINDS))
    operations = pc.is_in(events.column("operation"), pa.array(INFERENCE_OPERATIONS))
    return np.asarray(pc.and_(kinds, operations))


def _owes_nothing(events: pa.RecordBatch) -> Mask:
    status = events.column("cache_status")
    if status.null_count == len(status):
        return np.zeros(len(status), np.bool_)
    return np.asarray(pc.is_in(status, pa.array(CACHE_HITS)))


def _has_usage(events: pa.RecordBatch) -> Mask:
    """Rows with a provider, a model, and token counts that do not contradict each other."""
    known = np.asarray(pc.and_(events.column("provider").is_valid(), events.column("model").is_valid()))
    embeds = np.asarray(pc.equal(events.column("operation"), "embeddings").fill_null(False))
    answered = np.asarray(events.column("output_tokens").is_valid()) | embeds
    sound = ~np.asarray(events.column("usage_conflict").fill_null(False))
    mask: Mask = known & np.asarray(events.column("input_tokens").is_valid()) & answered & sound
    return mask


def _costs(events: pa.RecordBatch, book: PriceBook, tenant: str) -> tuple[Ints, tuple[Ints, list[str]]]:
    """(n,) nano-dollars, -1 where none is known; and which version priced each row, of the listed ones."""
    prices, chosen = _chosen(events, book, tenant)
    above = np.full((len(prices), max(len(one.steps) for one in prices) if prices else 1), _NEVER, np.int64)
    first = np.zeros(len(prices), np.int64)
    amounts: list[tuple[int, ...]] = []
    versions: list[str] = []
    for place, one in enumerate(prices):
        first[place] = len(amounts)
        for column, step in enumerate(one.steps):
            above[place, column] = step.input_tokens_above
            amounts.append(step.amounts)
            over = step.input_tokens_above
            versions.append(one.version if over < 0 else f"{one.version}>{over}")
    if not prices:
        return np.full(events.num_rows, -1, np.int64), (chosen, [])
    known = chosen >= 0
    chosen = np.where(known, chosen, 0)
    sent = _counts(events, "input_tokens")
    at = first[chosen]
    for column in range(1, above.shape[1]):
        at = at + (sent > above[chosen, column])
    nano, payable = _sum(_buckets(events), np.array(amounts, np.int64), at)
    return np.where(known & payable, nano, -1), (at, versions)


def _chosen(events: pa.RecordBatch, book: PriceBook, tenant: str) -> tuple[list[Price], Ints]:
    """The prices of the batch, and (n,) which of them holds for each row when it occurred; -1 is none."""
    encoded = [events.column(name).dictionary_encode() for name in ("provider", "model")]
    words, tiers = _tiers(events)
    names = [column.dictionary.to_pylist() for column in encoded]
    codes = np.asarray(encoded[0].indices).astype(np.int64) * len(names[1]) + np.asarray(encoded[1].indices)
    codes = codes * len(words) + tiers
    present, places = _distinct(codes, len(names[0]) * len(names[1]) * len(words))
    lines = []
    for code in present.tolist():
        pair, word = divmod(code, len(words))
        provider, model = divmod(pair, len(names[1]))
        tier = _TIER_WORDS.get(words[word])
        lines.append(book.timeline(tenant, names[0][provider], names[1][model], tier) if tier else ((-_NEVER, None),))
    prices: dict[Price, int] = {}
    starts = np.full((len(lines), max(map(len, lines))), _NEVER, np.int64)
    owners = np.full(starts.shape, -1, np.int64)
    for row, line in enumerate(lines):
        for column, (from_us, one) in enumerate(line):
            starts[row, column] = from_us
            owners[row, column] = -1 if one is None else prices.setdefault(one, len(prices))
    at_us = np.asarray(events.column("occurred_at").cast(pa.int64()))
    slot = np.zeros(len(places), np.int64)
    for column in range(1, starts.shape[1]):
        slot += at_us >= starts[places, column]
    return list(prices), owners[places, slot]


def _distinct(codes: Ints, space: int) -> tuple[Ints, Ints]:
    """The codes that occur, ascending, and (n,) the place of each row's in them."""
    if space > _COUNTED_SPACE_MAX:
        present, places = np.unique(codes, return_inverse=True)
        return present, places
    # Counting is a tenth of sorting, and models are few.
    found = np.flatnonzero(np.bincount(codes, minlength=space)).astype(np.int64)
    place = np.zeros(space, np.int64)
    place[found] = np.arange(found.size)
    return found, place[codes]


def _buckets(events: pa.RecordBatch) -> list[Ints]:
    """The exclusive counts of tokens, in the order of BUCKETS; cache writes by how long they are kept."""
    read, write = _counts(events, "cache_read_tokens"), _counts(events, "cache_write_tokens")
    hour = np.minimum(_hour_writes(events), write)
    reasoning = _counts(events, "reasoning_tokens")
    sent, output = _counts(events, "input_tokens") - read - write, _counts(events, "output_tokens") - reasoning
    return [sent, read, write - hour, hour, output, reasoning, _counts(events, "other_modal_tokens")]


def _sum(tokens: list[Ints], amounts: Ints, step: Ints) -> tuple[Ints, Mask]:
    """(n,) nano-dollars, and which rows can be paid: every bucket they use has an amount.

    Args:
        amounts: (steps, buckets) nano-dollars for a million tokens.
        step: (n,) row of `amounts`.
    """
    whole, millionths = np.zeros(step.size, np.int64), np.zeros(step.size, np.int64)
    payable = np.ones(step.size, np.bool_)
    for bucket in range(len(BUCKETS)):
        count = tokens[bucket]
        if not count.any():
            continue
        each = amounts[step, bucket]
        payable &= (each != UNPRICED) | (count == 0)
        # Millions apart from the rest: both products then fit 64 bits whatever the count.
        millions, rest = np.divmod(count, _MILLION)
        whole += millions * each
        millionths += rest * each
    payable &= millionths >= 0
    nano = rounded_nano_usd(whole, np.maximum(millionths, 0))
    return nano, payable & (nano <= COST_NANO_USD_MAX)


def _counts(events: pa.RecordBatch, name: str) -> Ints:
    column = events.column(name)
    return np.asarray(column if not column.null_count else column.fill_null(0))


def _tiers(events: pa.RecordBatch) -> tuple[list[str], Ints]:
    """Words for service tiers, and (n,) which of them each row says; a row that says none has the standard one.

    What the provider answered goes before what was asked for.
    """
    said = _said(events, (_ANSWERED_TIER, _ASKED_TIER), b"service_tier", "word")
    if said is None:
        return [STANDARD], np.zeros(events.num_rows, np.int64)
    encoded = pc.utf8_lower(said.fill_null(STANDARD)).dictionary_encode()
    return encoded.dictionary.to_pylist(), np.asarray(encoded.indices).astype(np.int64)


def _hour_writes(events: pa.RecordBatch) -> Ints:
    said = _said(events, (_HOUR,), b"1h", "count")
    if said is None:
        return np.zeros(events.num_rows, np.int64)
    return np.asarray(said.fill_null("0").cast(pa.int64()))


def _said(events: pa.RecordBatch, patterns: tuple[str, ...], mark: bytes, group: str) -> Any:
    """(n,) texts that the first fitting pattern finds in the attributes, else the payload; None where no row can fit.

    A quoted text inside a value cannot fit: its own quotes are escaped.
    """
    found = None
    for pattern in patterns:
        for name in ("attributes", "payload"):
            column = events.column(name)
            data = column.buffers()[2]
            if column.null_count == len(column) or data is None or mark not in memoryview(data).tobytes():
                continue
            texts = pc.struct_field(pc.extract_regex(column, pattern), group)
            found = texts if found is None else pc.coalesce(found, texts)
    return found
