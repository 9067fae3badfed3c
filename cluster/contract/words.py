"""Text columns of few words as dictionaries, from the door into the file: a word is hashed, sent and written once.

Rows of one sender say the same service, model, user and often the same attributes over and over. An encoded batch has
the columns of EVENT_SCHEMA, some of them as dictionaries of distinct words.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.contract.columns import EVENT_SCHEMA

# Shorter batches stay plain: there a dictionary costs more than it saves.
ENCODED_ROWS_MIN: Final = 256
# Indices on the way are 16 bits wide.
_WORDS_MAX: Final = 1 << 15
_SAMPLE_ROWS: Final = 256
_SHORT_BYTES: Final = 64
# Names of one thing each.
_DISTINCT: Final = frozenset(("event_id", "trace_id", "span_id", "parent_span_id", "request_id"))
ENCODABLE: Final = frozenset(
    field.name for field in EVENT_SCHEMA if pa.types.is_string(field.type) and field.name not in _DISTINCT
)

Codes = npt.NDArray[np.int64]


def is_encoded(column: pa.Array) -> bool:
    return bool(pa.types.is_dictionary(column.type))


def encoded(column: pa.StringArray) -> pa.DictionaryArray | None:
    """The column as 16-bit places in its distinct words; None where that would hardly be shorter."""
    size = len(column)
    if size < ENCODED_ROWS_MIN or pc.count_distinct(column.slice(0, _SAMPLE_ROWS)).as_py() > _SAMPLE_ROWS // 2:
        return None
    found = column.dictionary_encode()
    if len(found.dictionary) > min(size // 2, _WORDS_MAX):
        return None
    return pa.DictionaryArray.from_arrays(found.indices.cast(pa.int16()), found.dictionary)


def plain(column: pa.Array) -> pa.Array:
    """The column with its words in every row."""
    return column.dictionary_decode() if is_encoded(column) else column


def codes_of(column: pa.DictionaryArray) -> tuple[Codes, int]:
    """(n,) places in the words, and how many there are; one more stands for null where there are nulls."""
    count = len(column.dictionary)
    if not column.null_count:
        return column.indices.to_numpy().astype(np.int64), count
    indices = np.asarray(column.indices.cast(pa.int64()).fill_null(count))
    return indices, count + 1


def spared_bytes(batch: pa.RecordBatch) -> int:
    """Bytes that the words of an encoded batch would take in every row: what whoever decodes it has to hold."""
    return sum(_spared(column) for column in batch.columns if is_encoded(column))


def _spared(column: pa.DictionaryArray) -> int:
    lengths = np.append(pc.binary_length(column.dictionary).to_numpy(), np.int32(0))
    if len(lengths) == 2:
        # Names of one word for all are short; a document need not be.
        width = int(lengths[0])
        return width * len(column) if width > _SHORT_BYTES else 0
    return int(lengths[codes_of(column)[0]].sum(dtype=np.int64))


def joined(batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """Rows of plain and encoded batches, in order, each column in one piece; one that is mostly encoded is so here.

    Args:
        batches: one at least, of EVENT_SCHEMA but for columns that are encoded.
    """
    runs: list[pa.RecordBatch | pa.Table] = []
    for is_plain, run in groupby(batches, key=lambda batch: batch.schema.equals(EVENT_SCHEMA)):
        together = list(run)
        runs += [pa.Table.from_batches(together, EVENT_SCHEMA).combine_chunks()] if is_plain else together
    columns = [_joined([_piece(run.column(place)) for run in runs]) for place in range(len(EVENT_SCHEMA))]
    fields = [field.with_type(column.type) for field, column in zip(EVENT_SCHEMA, columns, strict=True)]
    return pa.table(columns, schema=pa.schema(fields))


def _piece(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _joined(pieces: list[pa.Array]) -> pa.Array:
    if len(pieces) == 1 and not is_encoded(pieces[0]):
        return pieces[0]
    rows = sum(len(piece) for piece in pieces if is_encoded(piece) or piece.null_count == len(piece))
    size = sum(map(len, pieces))
    if not any(map(is_encoded, pieces)) or 2 * rows < size:
        return pa.concat_arrays([plain(piece) for piece in pieces])
    words: list[pa.Array] = []
    parts: list[npt.NDArray[Any]] = []
    count = 0
    for piece in pieces:
        if piece.null_count == len(piece):
            parts.append(np.full(len(piece), -1, np.int64))
            continue
        one = piece if is_encoded(piece) else piece.dictionary_encode()
        places, _ = codes_of(one)
        known = len(one.dictionary)
        parts.append(np.where(places < known, places + count, -1) if one.null_count else places + count)
        words.append(one.dictionary)
        count += known
    # The same word of two batches is one: whoever groups by places relies on it.
    distinct = pa.concat_arrays(words).dictionary_encode()
    # Place -1 is the last one: null.
    translated = np.append(distinct.indices.to_numpy(), np.int32(0))
    places = np.concatenate(parts)
    missing = places < 0
    indices = pa.array(translated[places].astype(np.int32), mask=missing if missing.any() else None)
    return pa.DictionaryArray.from_arrays(indices, distinct.dictionary)
