"""Committed rows priced again by the book of today: which change, how they read then, what moves in the roll-ups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.contract.columns import EVENT_SCHEMA, MONEY, ROLLUP_SCHEMA
from cluster.contract.event import COUNTED_COST
from models.aggregate.groups import money_of, nano_usd
from models.aggregate.rollup import MINUTE_US, roll
from models.pricing.book import PriceBook
from models.pricing.cost import CACHE_HIT_VERSION, price

Mask = npt.NDArray[np.bool_]

_COST_COLUMNS: Final = ("cost_usd", "cost_usd_computed", "cost_is_sent", "price_version")
# How the hub's own versions end: rows from before `cost_is_sent` are known by it.
_OURS: Final = r"@\d{4}-\d\d-\d\d:[a-z]+#[0-9a-f]{10}(>\d+)?$"


@dataclass(frozen=True, slots=True)
class Repriced:
    """Rows of one tenant priced again.

    Attributes:
        rows: all of them, in their order; only cost columns of changed ones are other than before.
        changed: (n,) rows whose cost or computed cost is another now.
        newly: (n,) changed rows that had no cost before: whether they count for their call is not decided here.
    """

    rows: pa.RecordBatch
    changed: Mask
    newly: Mask


def reprice(events: pa.RecordBatch, book: PriceBook, tenant: str) -> Repriced:
    """Price rows of one tenant again.

    A cost that was sent stays. A row whose price is not known any more keeps what it has.

    Args:
        events: in EVENT_SCHEMA.
    """
    sent = _is_sent(events)
    # As it came to the door: what was sent, and nothing of the hub's.
    nothing = np.zeros(events.num_rows, np.bool_)
    kept = {"cost_usd": sent, "price_version": sent, "cost_usd_computed": nothing, "cost_is_sent": nothing}
    bare = _with(events, {name: _only(events.column(name), mask) for name, mask in kept.items()})
    again = price(bare, book, tenant)
    known = np.asarray(again.column("cost_usd_computed").is_valid())
    changed = known & (_differ(events, again, "cost_usd") | _differ(events, again, "cost_usd_computed"))
    mask = pa.array(changed)
    columns = {name: pc.if_else(mask, again.column(name), events.column(name)) for name in _COST_COLUMNS}
    newly = changed & np.asarray(events.column("cost_usd").is_null())
    return Repriced(_with(events, columns), changed, newly)


def correction(before: pa.RecordBatch, after: pa.RecordBatch) -> pa.Table:
    """Partials that, merged with those of `before`, tell what those of `after` tell: money alone, up or down.

    Args:
        before, after: the same rows, (n,), with other costs and, where a cost is new, other `counted`.
    """
    moved = _counted_nano(after) - _counted_nano(before)
    some = np.flatnonzero(moved)
    if not some.size:
        return ROLLUP_SCHEMA.empty_table()
    told = {
        "cost_usd": money_of(moved),
        "counted": pa.array(np.full(after.num_rows, COUNTED_COST, np.int16)),
        **{name: pa.nulls(after.num_rows, pa.string()) for name in ("user_id", "session_id")},
    }
    partials = roll(_with(after, told).take(pa.array(some)), MINUTE_US)
    for place, one in enumerate(ROLLUP_SCHEMA):
        if one.name.endswith("_count"):
            partials = partials.set_column(place, one, pa.array(np.zeros(partials.num_rows, np.int64)))
    zero = pa.scalar(0, MONEY)
    return partials.filter(pc.not_equal(partials.column("cost_usd"), zero))


def counting(events: pa.RecordBatch, rows: Mask) -> pa.RecordBatch:
    """The events with the cost of some rows, (n,), counted for their call from now on."""
    counted = np.asarray(events.column("counted")) | np.where(rows, COUNTED_COST, 0).astype(np.int16)
    return _with(events, {"counted": pa.array(counted, pa.int16())})


def _is_sent(events: pa.RecordBatch) -> Mask:
    """Rows whose cost their sender told; of rows from before it was noted, those without a version of ours."""
    told = events.column("cost_is_sent")
    versions = events.column("price_version")
    ours = pc.or_(pc.match_substring_regex(versions, _OURS), pc.equal(versions, CACHE_HIT_VERSION)).fill_null(False)
    legacy = pc.and_(events.column("cost_usd").is_valid(), pc.invert(ours))
    mask: Mask = np.asarray(pc.if_else(told.is_valid(), told.fill_null(False), legacy))
    return mask


def _only(column: pa.Array, mask: Mask) -> pa.Array:
    return pc.if_else(pa.array(mask), column, pa.scalar(None, column.type))


def _differ(before: pa.RecordBatch, after: pa.RecordBatch, name: str) -> Mask:
    one, other = before.column(name), after.column(name)
    same = pc.or_kleene(pc.equal(one, other), pc.and_(one.is_null(), other.is_null()))
    mask: Mask = ~np.asarray(same.fill_null(False))
    return mask


def _counted_nano(events: pa.RecordBatch) -> npt.NDArray[np.int64]:
    counted = np.asarray(events.column("counted"))
    nano: npt.NDArray[np.int64] = nano_usd(events.column("cost_usd")) * ((counted & COUNTED_COST) != 0)
    return nano


def _with(events: pa.RecordBatch, columns: dict[str, pa.Array]) -> pa.RecordBatch:
    arrays = [columns.get(one.name, events.column(one.name)) for one in EVENT_SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=EVENT_SCHEMA)
