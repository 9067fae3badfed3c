"""What every decoder takes and gives: the context of a body, its raw rows, and the outcome: events and dead letters."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.contract.columns import DEAD_LETTER_SCHEMA, INSTANT
from cluster.contract.event import DEAD_LETTER_BYTES_MAX
from cluster.hashing import hash128, seed_of

REFUSALS_LISTED_MAX: Final = 100
_SHOWN_MAX: Final = 80
_DEAD_LETTER_SEED: Final = seed_of("dead-letter")
_NO_DEAD_LETTERS: Final = pa.RecordBatch.from_pylist([], DEAD_LETTER_SCHEMA)

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeContext:
    """What the door knows about a body that the body cannot say of itself.

    Attributes:
        module: module of rows that name none.
        project_id: project of the credential; rows that name another are refused.
        source: name of the door, kept with dead letters.
        idempotency_key: of the request; ids of rows without one follow from it and from their place in the body.
        inflated_bytes_max: ceiling of what a columnar body may unpack to in memory.
    """

    tenant_id: str
    region: str
    received_at_us: int
    project_id: str | None = None
    module: str | None = None
    source: str = "events"
    idempotency_key: str | None = None
    rows_max: int = 200_000
    row_bytes_max: int = 2 * 1024 * 1024
    inflated_bytes_max: int = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Refusal:
    """One row that was not taken; `index` counts the rows of the body from 0."""

    index: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """A body split in two: rows in EVENT_SCHEMA, and refused rows in DEAD_LETTER_SCHEMA.

    Attributes:
        refusals: the first hundred refused rows; `dead_letters` has them all.
        row_count: rows sent = events.num_rows + dead_letters.num_rows.
    """

    events: pa.RecordBatch
    dead_letters: pa.RecordBatch
    refusals: list[Refusal]
    row_count: int


class RowRefused(Exception):
    """A single row does not fit; the rest of the body goes on."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(slots=True)
class RawRows:
    """Rows as a decoder read them, before the contract's rules.

    Attributes:
        columns: by canonical field name, all of one length; a missing column is all null.
        indexes: (n,) row number in the body of each position, ascending.
        original: row number in the body -> its bytes as sent.
        place: row number in the body -> how a person finds it, e.g. "line 7".
        refused: rows already refused, not in `columns`.
        unreadable: column -> mask of values that did not fit its type, refused with the name of the field.
    """

    columns: dict[str, pa.Array]
    indexes: npt.NDArray[np.int64]
    original: Callable[[int], bytes]
    row_count: int
    refused: list[Refusal] = field(default_factory=list)
    place: Callable[[int], str] = field(default=lambda index: f"row {index}")
    unreadable: Mapping[str, Mask] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.indexes)


class Problems:
    """The first problem of each position; later ones would only repeat it."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[str, str]] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, position: int, code: str, message: str) -> None:
        self._found.setdefault(position, (code, message))

    def mark(self, mask: Mask, code: str, describe: Callable[[int], str]) -> None:
        """Every position where `mask` holds; `describe` is only called for those."""
        if mask.any():
            for position in np.flatnonzero(mask).tolist():
                if position not in self._found:
                    self._found[position] = (code, describe(position))

    def keep(self, size: int) -> Mask:
        mask = np.ones(size, np.bool_)
        mask[list(self._found)] = False
        return mask

    def refusals(self, rows: RawRows) -> list[Refusal]:
        out = []
        for position, (code, message) in self._found.items():
            index = int(rows.indexes[position])
            out.append(Refusal(index, code, f"{rows.place(index)}: {message}"))
        return out


def numbers(column: pa.Array) -> npt.NDArray[Any]:
    """Values of a numeric or boolean column, 0 where null."""
    return np.asarray(column if column.null_count == 0 else column.fill_null(0))


def shown(value: object) -> str:
    """A value as a message may show it: bounded, and with control characters escaped."""
    text = ascii(value)
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 3] + "..."


def dead_letters(
    refused: Sequence[Refusal], original: Callable[[int], bytes], context: DecodeContext
) -> pa.RecordBatch:
    """Refused rows in DEAD_LETTER_SCHEMA, ids the same for the same bytes at the same place.

    A sender that repeats a body after a lost answer repeats its dead letters under the same ids.
    """
    if not refused:
        return _NO_DEAD_LETTERS
    originals = [original(refusal.index) for refusal in refused]
    kept = [data[:DEAD_LETTER_BYTES_MAX] for data in originals]
    size = len(refused)
    seen: Counter[int] = Counter()
    keyed = []
    for refusal, data in zip(refused, originals, strict=True):
        # Every byte counts: long rows may differ in their last one. Of an item that is several rows each has its own.
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        keyed.append(f"{context.source}\x1f{refusal.index}\x1f{digest}\x1f{seen[refusal.index]}")
        seen[refusal.index] += 1
    columns = [
        hex_ids(hash128(pa.array(keyed, pa.string()), _DEAD_LETTER_SEED)),
        pa.array(np.full(size, context.received_at_us, np.int64)).cast(INSTANT),
        pa.array([context.source] * size, pa.string()),
        pa.array([refusal.index for refusal in refused], pa.int64()),
        pa.array([refusal.code for refusal in refused], pa.string()),
        pa.array([refusal.message for refusal in refused], pa.string()),
        pa.array(kept, pa.binary()),
        pa.array([len(data) for data in originals], pa.int64()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=DEAD_LETTER_SCHEMA)


def hex_ids(words: npt.NDArray[np.uint64]) -> pa.StringArray:
    """(n, 2) hash words as (n,) strings of 32 hex digits."""
    size = len(words)
    text = words.astype(">u8").tobytes().hex().encode()
    offsets = np.arange(size + 1, dtype=np.int32) * 32
    return pa.StringArray.from_buffers(size, pa.py_buffer(offsets), pa.py_buffer(text))
