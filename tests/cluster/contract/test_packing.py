"""Packed rows come out as they went in, take less room, and journals written before packing are still read."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.contract.columns import EVENT_SCHEMA
from cluster.contract.packing import pack, unpack

_VALUES = {
    pa.string(): st.text(max_size=6),
    pa.float64(): st.floats(allow_nan=False),
    pa.int64(): st.integers(0, 1 << 62),
    pa.int16(): st.integers(0, 7),
    pa.bool_(): st.booleans(),
    pa.decimal128(18, 9): st.integers(0, 10**17).map(lambda nanos: Decimal(nanos).scaleb(-9)),
    pa.timestamp("us", tz="UTC"): st.integers(0, 1 << 52),
}


@st.composite
def batches(draw: st.DrawFn) -> pa.RecordBatch:
    """Rows whose columns are null, of one value, or of any values; perhaps from the middle of others."""
    size = draw(st.integers(0, 9))
    columns = []
    for field in EVENT_SCHEMA:
        values = _VALUES[field.type]
        kinds = ["one", "any"] if not field.nullable else ["null", "one", "any", "some"]
        kind = draw(st.sampled_from(kinds))
        if kind == "null":
            rows: list[object] = [None] * size
        elif kind == "one":
            rows = [draw(values)] * size
        else:
            each = values if kind == "any" else st.none() | values
            rows = draw(st.lists(each, min_size=size, max_size=size))
        columns.append(pa.array(rows, field.type))
    batch = pa.RecordBatch.from_arrays(columns, schema=EVENT_SCHEMA)
    start = draw(st.integers(0, size))
    return batch.slice(start, draw(st.integers(0, size - start)))


@given(batches())
def test_rows_come_out_as_they_went_in(batch: pa.RecordBatch) -> None:
    back = unpack(pack(batch))
    back.validate(full=True)
    assert back.equals(batch)
    # And once more, as a shard packs what it unpacked; filtered first, as it does with repeats.
    again = back.filter(pa.array([row % 2 == 0 for row in range(back.num_rows)], pa.bool_()))
    assert unpack(pack(again)).equals(again)


@given(batches())
def test_rows_journaled_before_packing_are_read(batch: pa.RecordBatch) -> None:
    assert unpack(batch.serialize()).equals(batch)


def test_columns_that_say_nothing_take_no_room() -> None:
    size = 5_000
    said = {"event_id": [f"{row:032x}" for row in range(size)], "module": ["gateway"] * size}
    columns = [
        pa.array(said[field.name], field.type)
        if field.name in said
        else pa.repeat(pa.scalar(0).cast(field.type), size)
        if not field.nullable
        else pa.nulls(size, field.type)
        for field in EVENT_SCHEMA
    ]
    batch = pa.RecordBatch.from_arrays(columns, schema=EVENT_SCHEMA)
    # The id with its offset, and a time that is not looked at.
    assert pack(batch).size / size == pytest.approx(32 + 4 + 8, abs=1)
    assert batch.serialize().size / size > 150
