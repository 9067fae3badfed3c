"""Event ids of rows that were sent without one: a hash of what the row says, so that a retry says the same id."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.contract.columns import LATER_COLUMNS
from cluster.contract.rows import hex_ids
from cluster.hashing import combine, hash128, seed_of

_SEED: Final = seed_of("event-id")
_KEY_SEED: Final = seed_of("event-id-of-key")
# Not what the sender said: when and where the hub took the row.
_OURS: Final = frozenset({"event_id", "received_at", "counted", "usage_conflict", *LATER_COLUMNS})


def fill_event_ids(
    columns: dict[str, pa.Array], key: str | None = None, indexes: npt.NDArray[np.int64] | None = None
) -> pa.StringArray:
    """Event ids with the missing ones made: by the key of the request and the place in it, else by what a row says.

    Two equal rows of one body are two events: the second is told from the first by its ordinal among equals. The
    body sent again gives the same ids in the same order.

    Args:
        columns: every column of EVENT_SCHEMA.
        key: of the request, `Idempotency-Key`.
        indexes: (n,) number of each row in the body; needed with a key.
    """
    ids = columns["event_id"]
    if ids.null_count == 0:
        return ids
    missing = ids.is_null()
    if key is not None and indexes is not None:
        places = pc.binary_join_element_wise(key, pa.array(indexes).filter(missing).cast(pa.string()), "\x1f")
        return _filled(ids, missing, hex_ids(hash128(places, _KEY_SEED)))
    words = np.zeros((pc.sum(missing).as_py(), 2), np.uint64)
    begun = np.zeros(len(words), np.bool_)
    for name, column in columns.items():
        if name in _OURS or column.null_count == len(column):
            continue
        said = column.filter(missing)
        # What a row does not say is no part of it: another row of the body may say it, and the id stays.
        rows = np.flatnonzero(said.is_valid()) if said.null_count else slice(None)
        part = hash128(_text(said.drop_null() if said.null_count else said), _SEED ^ _seed_of_column(name))
        first = ~begun[rows]
        joined = combine(words[rows], part)
        words[rows] = np.where(first[:, None], part, joined) if first.any() else joined
        begun[rows] = True
    if not begun.all():
        raise ValueError("rows without any column cannot be told apart")
    return _filled(ids, missing, hex_ids(_numbered(words)))


def _filled(ids: pa.StringArray, missing: pa.BooleanArray, made: pa.StringArray) -> pa.StringArray:
    return made if ids.null_count == len(ids) else pc.replace_with_mask(ids, missing, made)


def _text(column: pa.Array) -> pa.StringArray:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    return column if pa.types.is_string(column.type) else column.cast(pa.string())


def _seed_of_column(name: str) -> int:
    return seed_of(f"event-id:{name}")


def _numbered(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Words with the ordinal among equals mixed into each second and later one."""
    order = np.lexsort((words[:, 1], words[:, 0]))
    ranked = words[order]
    new = np.ones(len(words), np.bool_)
    new[1:] = (ranked[1:] != ranked[:-1]).any(axis=1)
    if new.all():
        return words
    starts = np.maximum.accumulate(np.where(new, np.arange(len(words)), 0))
    ordinals = np.empty(len(words), np.int64)
    ordinals[order] = np.arange(len(words)) - starts
    again = ordinals > 0
    out = words.copy()
    out[again] = combine(words[again], hash128(pa.array(ordinals[again]).cast(pa.string()), _SEED))
    return out
