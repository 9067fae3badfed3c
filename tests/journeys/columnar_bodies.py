"""Bodies of columns that are almost right: types that no sender should use, values and scales beyond any measure."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from functools import cache
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from tests.journeys import mutations

_NEEDED: Final = ("event_id", "occurred_at", "module", "kind")


@cache
def _plain_table() -> pa.Table:
    plain = [
        {**row, "attributes": json.dumps(row.get("attributes", {})), "payload": "{}"} for row in mutations.rows()[:4]
    ]
    return pa.Table.from_pylist([{name: str(value) for name, value in row.items()} for row in plain])


def table(choose: random.Random) -> pa.Table:
    """One to four valid rows as a table, some columns of another type than theirs; a quarter has every column there is.

    A column costs as much to write and to read as hundreds of rows: the others have what a row needs and a few more.
    """
    out = _plain_table().slice(choose.randrange(4), choose.choice([1, 1, 2, 4]))
    if choose.random() < 0.75:
        named = {*_NEEDED, *choose.sample(out.column_names, choose.randrange(9))}
        out = out.select([name for name in out.column_names if name in named])
    for _ in range(choose.randrange(4)):
        number = choose.randrange(out.num_columns)
        made = choose.choice(_COLUMNS)(out.num_rows, choose)
        out = out.set_column(number, out.column_names[number], made)
    return out.append_column("told", choose.choice(_COLUMNS)(out.num_rows, choose)) if choose.random() < 0.3 else out


def _column(kind: pa.DataType) -> Callable[[int, random.Random], pa.Array]:
    def make(size: int, choose: random.Random) -> pa.Array:
        whole = [choose.choice([None, 0, 1, -1, 127]) for _ in range(size)]
        return pa.array(whole, pa.int64()).cast(kind, safe=False)

    return make


def _extreme(kind: pa.DataType) -> Callable[[int, random.Random], pa.Array]:
    def make(size: int, choose: random.Random) -> pa.Array:
        bits = kind.bit_width
        edges = (0, 1, -1, 123_456_789, 86_400_000 * 10**11, 2 ** (bits - 1) - 1, -(2 ** (bits - 1)), 2 ** (bits - 2))
        words = [(choose.choice(edges) % 2**bits).to_bytes(bits // 8, "little") for _ in range(size)]
        return pa.Array.from_buffers(kind, size, [None, pa.py_buffer(b"".join(words))])

    return make


_LATE: Final = pa.timestamp("s", "UTC")
# Of any value and scale: a sender's library need not be Arrow's own.
_EXTREMES: Final = tuple(
    _extreme(kind)
    for kind in (
        *(_LATE, pa.timestamp("ms", "Europe/Paris"), pa.timestamp("us", "Mars/Olympus"), pa.timestamp("ns", "Europe")),
        *(pa.date32(), pa.date64(), pa.duration("s"), pa.time64("us"), pa.decimal128(38, 2**31 - 1)),
        *(pa.decimal128(10, 2), pa.decimal256(76, -(2**31)), pa.decimal128(38, 38)),
    )
)
_COLUMNS: Final[tuple[Callable[[int, random.Random], pa.Array], ...]] = (
    *map(_column, (pa.int8(), pa.uint64(), pa.float32(), pa.float64(), pa.timestamp("ns"), pa.decimal128(38, 9))),
    *map(_column, (pa.timestamp("s", "UTC"), pa.date64(), pa.duration("us"), pa.string(), pa.large_string())),
    lambda size, _: pa.nulls(size),
    lambda size, _: pa.array([b"\xff\xfe"] * size, pa.binary()),
    lambda size, _: pa.array([{"a": [{"b": 1}, {"b": None}]}] * size),
    lambda size, _: pa.array([[("k", 1)]] * size, pa.map_(pa.string(), pa.int64())),
    lambda size, _: pa.array(["x"] * size).dictionary_encode(),
    lambda size, _: pa.array([float("nan")] * size),
    lambda size, _: pa.array([True] * size),
    *_EXTREMES,
    lambda size, choose: pa.StructArray.from_arrays([choose.choice(_EXTREMES)(size, choose)] * 2, names=["a", "a"]),
    lambda size, _: pa.array([[2**62]] * size, pa.list_(_LATE)),
    lambda size, _: pa.array([[(2**62, 1)]] * size, pa.map_(_LATE, pa.int64())),
)


def arrow_body(choose: random.Random) -> bytes:
    sent, sink = table(choose), io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=choose.choice([None, "lz4", "zstd"]))
    with pa.ipc.new_stream(sink, sent.schema, options=options) as writer:
        writer.write_table(sent)
    return sink.getvalue()


def parquet_body(choose: random.Random) -> bytes:
    sent, sink = table(choose), io.BytesIO()
    compression, checksum = choose.choice(["none", "snappy", "zstd"]), choose.random() < 0.5
    try:
        pq.write_table(sent, sink, compression=compression, write_page_checksum=checksum)
    except (pa.ArrowException, ValueError, OSError):
        # Parquet has no such column.
        sink = io.BytesIO()
        pq.write_table(_plain_table(), sink, compression=compression, write_page_checksum=checksum)
    return sink.getvalue()
