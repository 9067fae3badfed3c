"""Exact cost of a batch of events by a price book, a column at a time; Python sees each distinct model once.

A cost that was sent stays, and the hub's own figure stands beside it. A row that lacks what its price needs has no
figure of the hub's: nothing is made up.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.contract.event import CACHE_HITS, COST_NANO_USD_MAX, INFERENCE_OPERATIONS, REQUEST_KINDS
from cluster.contract.money import money_of_nano, rounded_nano_usd
from cluster.contract.prices import PRICE_KIND, STANDARD, TIERS, Price
from models.pricing.book import PriceBook
from models.pricing.charge import Plan, Usage, charge

# Answered from a cache of the application's own: no provider was asked, so nothing is owed.
CACHE_HIT_VERSION: Final = "cache_hit"
# Words of providers for a tier. One that is not here is no tier we know, and has no cost.
_TIER_WORDS: Final = {**{tier: tier for tier in TIERS}, "default": STANDARD, "auto": STANDARD, "on_demand": STANDARD}
_ASKED_TIER: Final = r'"(?:[a-z_.]*\.)?service_tier"\s*:\s*"(?P<word>[^"\\]{1,32})"'
_ANSWERED_TIER: Final = r'"(?:[a-z_.]*response\.)?service_tier"\s*:\s*"(?P<word>[^"\\]{1,32})"'
_HOUR: Final = r'"(?:ephemeral_1h_input_tokens|cache_write_1h_tokens)"\s*:\s*(?P<count>[0-9]{1,13})\s*[,}]'
_TIER_MARK: Final = b"service_tier"
_HOUR_MARK: Final = b"_1h_"
_NEVER: Final = 2**62
_COUNTED_SPACE_MAX: Final = 65_536

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
# Which of the marks occur in the attributes and in the payload.
Marks = dict[str, tuple[bool, bool]]


def tells_prices(events: pa.RecordBatch) -> bool:
    """Whether a row says that a price changed."""
    kinds = events.column("kind")
    data = kinds.buffers()[2]
    return data is not None and PRICE_KIND.encode() in memoryview(data).tobytes()


def price(events: pa.RecordBatch, book: PriceBook, tenant: str) -> pa.RecordBatch:
    """The events with the hub's own cost of each call whose price the book knows, and with the version of that price.

    Args:
        events: in EVENT_SCHEMA, of one tenant; `cost_usd` holds what was sent and nothing else.
    """
    size = events.num_rows
    if not size:
        return events
    hits = _owes_nothing(events)
    wanted = _is_call(events)
    known = wanted & hits
    nano, versions, codes = np.zeros(size, np.int64), [CACHE_HIT_VERSION], np.zeros(size, np.int64)
    if events.column("model").null_count < size:
        rows = np.flatnonzero(wanted & ~hits & _has_usage(events))
        if rows.size:
            some = events if rows.size == size else events.take(pa.array(rows))
            found, steps = _costs(some, book, tenant)
            good = found >= 0
            versions += steps[1]
            nano[rows[good]], codes[rows[good]] = found[good], steps[0][good] + 1
            known[rows[good]] = True
    return _with_costs(events, (nano, known), (versions, codes))


def _with_costs(events: pa.RecordBatch, found: tuple[Ints, Mask], named: tuple[list[str], Ints]) -> pa.RecordBatch:
    nano, known = found
    sent = events.column("cost_usd")
    all_sent, none_sent = sent.null_count == 0, sent.null_count == len(sent)
    columns = dict(zip(events.schema.names, events.columns, strict=True))
    some = bool(known.any())
    if some:
        computed = money_of_nano(nano, known)
        columns["cost_usd_computed"] = computed
        columns["cost_usd"] = sent if all_sent else computed if none_sent else pc.coalesce(sent, computed)
        columns["price_version"] = _versions(columns["price_version"], named, known, sent)
    is_sent = np.ones(len(sent), np.bool_) if all_sent else np.asarray(sent.is_valid())
    if some or not none_sent:
        has_cost = is_sent | known
        columns["cost_is_sent"] = pa.array(is_sent, mask=None if has_cost.all() else ~has_cost)
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=events.schema)


def _versions(told: pa.Array, named: tuple[list[str], Ints], known: Mask, sent: pa.Array) -> pa.Array:
    """Of the price that gave the hub's figure; a sender's own word stays beside the sender's cost."""
    versions, codes = named
    places = pa.array(codes, mask=None if known.all() else ~known)
    ours = pa.array(versions).take(places)
    if told.null_count == len(told):
        return ours
    if sent.null_count == len(sent):
        return pc.coalesce(ours, told)
    return pc.if_else(sent.is_valid(), pc.coalesce(told, ours), pc.coalesce(ours, told))


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
    mask: Mask = np.ones(events.num_rows, np.bool_)
    for name in ("provider", "model", "input_tokens"):
        column = events.column(name)
        if column.null_count:
            mask &= np.asarray(column.is_valid())
    answer = events.column("output_tokens")
    if answer.null_count:
        embeds = np.asarray(pc.equal(events.column("operation"), "embeddings").fill_null(False))
        mask &= np.asarray(answer.is_valid()) | embeds
    conflict = events.column("usage_conflict")
    if conflict.null_count < len(conflict) and conflict.true_count:
        mask &= ~np.asarray(conflict.fill_null(False))
    return mask


def _costs(events: pa.RecordBatch, book: PriceBook, tenant: str) -> tuple[Ints, tuple[Ints, list[str]]]:
    """(n,) nano-dollars, -1 where none is known; and which version priced each row, of the listed ones."""
    size = events.num_rows
    marks = _marks(events)
    prices, plan, lines = _chosen(events, book, tenant, _tiers(events, marks))
    steps = np.zeros(size, np.int64)
    if not prices:
        return np.full(size, -1, np.int64), (steps, [])
    counts = [_counts(events, f"{name}_tokens") for name in ("input", "cache_read", "cache_write")]
    more = [_counts(events, f"{name}_tokens") for name in ("output", "reasoning", "other_modal")]
    at_us = np.asarray(events.column("occurred_at").cast(pa.int64()))
    whole, millionths = np.empty(size, np.int64), np.empty(size, np.int64)
    usage = Usage(*map(_plain, (lines, at_us, *counts, _hour_writes(events, marks), *more)))
    charge(usage, plan, (whole, millionths), steps)
    nano = rounded_nano_usd(whole, np.maximum(millionths, 0))
    versions = [
        one.version if step.input_tokens_above < 0 else f"{one.version}>{step.input_tokens_above}"
        for one in prices
        for step in one.steps
    ]
    return np.where((millionths >= 0) & (nano <= COST_NANO_USD_MAX), nano, -1), (steps, versions)


def _plan(prices: list[Price], starts: Ints, owners: Ints) -> Plan:
    """The prices of a batch as the compiled pass reads them."""
    above = np.full((len(prices), max((len(one.steps) for one in prices), default=1)), _NEVER, np.int64)
    first = np.zeros(len(prices), np.int64)
    amounts: list[tuple[int, ...]] = []
    for place, one in enumerate(prices):
        first[place] = len(amounts)
        for column, step in enumerate(one.steps):
            above[place, column] = step.input_tokens_above
            amounts.append(step.amounts)
    return Plan(*map(_plain, (starts, owners, above, first, np.array(amounts, np.int64))))


def _chosen(
    events: pa.RecordBatch, book: PriceBook, tenant: str, told: tuple[list[str], Ints]
) -> tuple[list[Price], Plan, Ints]:
    """The prices of the batch, what holds when for each line of (provider, model, tier), and (n,) each row's line."""
    encoded = [events.column(name).dictionary_encode() for name in ("provider", "model")]
    words, tiers = told
    names = [column.dictionary.to_pylist() for column in encoded]
    codes = np.asarray(encoded[0].indices).astype(np.int64) * len(names[1]) + np.asarray(encoded[1].indices)
    if len(words) > 1:
        codes = codes * len(words) + tiers
    present, places = _distinct(codes, len(names[0]) * len(names[1]) * len(words))
    lines = []
    for code in present.tolist():
        pair, word = divmod(code, len(words))
        provider, model = divmod(pair, len(names[1]))
        tier = _TIER_WORDS.get(words[word])
        lines.append(book.timeline(tenant, names[0][provider], names[1][model], tier) if tier else ((-_NEVER, None),))
    prices: dict[str, tuple[int, Price]] = {}
    starts = np.full((len(lines), max(map(len, lines))), _NEVER, np.int64)
    owners = np.full(starts.shape, -1, np.int64)
    for row, line in enumerate(lines):
        for column, (from_us, one) in enumerate(line):
            starts[row, column] = from_us
            owners[row, column] = -1 if one is None else prices.setdefault(one.version, (len(prices), one))[0]
    chosen = [one for _, one in prices.values()]
    return chosen, _plan(chosen, starts, owners) if chosen else _NOTHING, places


_NOTHING: Final = Plan(*(np.zeros((1, 1), np.int64) for _ in range(5)))


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


def _plain(array: Ints) -> Ints:
    """As the compiled pass wants every array: contiguous and read-only, so that one form is compiled."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def _counts(events: pa.RecordBatch, name: str) -> Ints:
    column = events.column(name)
    if column.null_count == len(column):
        return np.zeros(len(column), np.int64)
    return np.asarray(column if not column.null_count else column.fill_null(0))


def _marks(events: pa.RecordBatch) -> Marks:
    """Which columns can tell of a tier, and of an hour of cache: most batches have neither."""
    found: Marks = {}
    writes = events.column("cache_write_tokens")
    has_writes = writes.null_count < len(writes)
    for name in ("attributes", "payload"):
        column = events.column(name)
        data = column.buffers()[2]
        if column.null_count == len(column) or data is None:
            continue
        ends = np.frombuffer(column.buffers()[1], np.int32, len(column) + 1, offset=4 * column.offset)
        text = memoryview(data)[int(ends[0]) : int(ends[-1])].tobytes()
        found[name] = (_TIER_MARK in text, has_writes and _HOUR_MARK in text)
    return found


def _tiers(events: pa.RecordBatch, marks: Marks) -> tuple[list[str], Ints]:
    """Words for service tiers, and (n,) which of them each row says; a row that says none has the standard one.

    What the provider answered goes before what was asked for.
    """
    named = [name for name, (tier, _) in marks.items() if tier]
    said = _said(events, (_ANSWERED_TIER, _ASKED_TIER), named, "word")
    if said is None:
        return [STANDARD], np.zeros(events.num_rows, np.int64)
    encoded = pc.utf8_lower(said.fill_null(STANDARD)).dictionary_encode()
    return encoded.dictionary.to_pylist(), np.asarray(encoded.indices).astype(np.int64)


def _hour_writes(events: pa.RecordBatch, marks: Marks) -> Ints:
    said = _said(events, (_HOUR,), [name for name, (_, hour) in marks.items() if hour], "count")
    if said is None:
        return np.zeros(events.num_rows, np.int64)
    return np.asarray(said.fill_null("0").cast(pa.int64()))


def _said(events: pa.RecordBatch, patterns: tuple[str, ...], names: list[str], group: str) -> Any:
    """(n,) texts that the first fitting pattern finds in the attributes, else the payload; None where no row can fit.

    A quoted text inside a value cannot fit: its own quotes are escaped.
    """
    found = None
    for pattern in patterns:
        for name in names:
            texts = pc.struct_field(pc.extract_regex(events.column(name), pattern), group)
            found = texts if found is None else pc.coalesce(found, texts)
    return found
