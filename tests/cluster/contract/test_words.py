"""Columns of few words as dictionaries: the same rows, counts, roll-ups and files as without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.calls import count
from actors.seen import Seen
from cluster.contract.columns import EVENT_SCHEMA
from cluster.contract.packing import pack, unpack
from cluster.contract.words import ENCODABLE, ENCODED_ROWS_MIN, encoded, is_encoded, joined, plain, spared_bytes
from cluster.lake.stage import stage
from cluster.lake.tables import TABLES
from cluster.tenancy import TenantId
from models.aggregate.rollup import MINUTE_US, roll

_AT_US = 1_767_225_600_000_000


def rows(seed: int, size: int, *, words: int, nulls: bool = True) -> pa.RecordBatch:
    """Calls whose texts are drawn from that many words a column."""
    source = np.random.default_rng(seed)
    columns: dict[str, pa.Array] = {
        name: pa.array(
            [None if nulls and source.random() < 0.1 else f"{name}-{word}" for word in source.integers(0, words, size)],
            pa.string(),
        )
        for name in ENCODABLE
    }
    columns["kind"] = pa.array(source.choice(["gateway.request", "guardrail.evaluated", "other"], size))
    columns["status"] = pa.array(source.choice(["ok", "error", "timeout"], size))
    columns["operation"] = pa.array(source.choice(["chat", "embeddings", "tool"], size))
    columns["guardrail_action"] = pa.array(source.choice(["block", "allow"], size))
    for name in ("event_id", "trace_id", "span_id"):
        columns[name] = pa.array([f"{seed}-{name}-{row}" for row in range(size)])
    columns["occurred_at"] = pa.array(_AT_US + source.integers(0, 10**9, size)).cast(pa.timestamp("us", "UTC"))
    columns["received_at"] = columns["occurred_at"]
    columns["latency_ms"] = pa.array(source.uniform(1, 100, size))
    columns["input_tokens"] = pa.array(source.integers(0, 1_000, size))
    columns["counted"] = pa.array(source.integers(0, 128, size).astype(np.int16))
    columns["usage_conflict"] = pa.repeat(False, size)
    for name in ("module", "schema_version", "region", "environment"):
        columns[name] = pa.repeat("gateway", size)
    arrays = [columns.get(field.name, pa.nulls(size, field.type)).cast(field.type) for field in EVENT_SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=EVENT_SCHEMA)


def travelled(batch: pa.RecordBatch) -> pa.RecordBatch:
    """As a shard holds it: sent, filtered, journaled."""
    return unpack(pack(unpack(pack(batch), encode=True)), encode=True)


def decoded(batch: pa.RecordBatch | pa.Table) -> pa.Table:
    columns = [plain(column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column) for column in batch]
    return pa.table(columns, schema=EVENT_SCHEMA)


@settings(max_examples=20)
@given(st.integers(0, 999), st.sampled_from([1, 2, 255, 256, 700]), st.sampled_from([1, 3, 200, 5_000]))
def test_encoded_rows_are_the_rows(seed: int, size: int, words: int) -> None:
    batch = rows(seed, size, words=words)
    held = travelled(batch)
    held.validate(full=True)
    assert decoded(held).equals(pa.Table.from_batches([batch]))
    assert unpack(pack(batch)).equals(batch)
    kept = pa.array(np.random.default_rng(seed).random(size) < 0.5)
    assert unpack(pack(held.filter(kept))).equals(batch.filter(kept))
    assert any(map(is_encoded, held)) == (size >= ENCODED_ROWS_MIN)


def test_few_words_take_two_bytes_a_row() -> None:
    batch = rows(1, 5_000, words=20)
    narrow = pack(batch).size / 5_000
    wide = pack(rows(1, 5_000, words=4_000)).size / 5_000
    assert narrow < 130
    assert wide > 2 * narrow


def test_what_decoding_takes_is_known_before() -> None:
    document = '{"note":"' + "x" * 10_000 + '"}'
    batch = rows(3, 2_000, words=5)
    place = EVENT_SCHEMA.get_field_index("attributes")
    held = travelled(batch.set_column(place, EVENT_SCHEMA.field(place), pa.repeat(document, 2_000)))
    assert pack(held).size < 1_000_000
    assert spared_bytes(held) > 2_000 * 10_000
    texts = [plain(column) for column in travelled(batch) if is_encoded(column) and len(column.dictionary) > 1]
    assert spared_bytes(travelled(batch)) == sum(pc.sum(pc.binary_length(one)).as_py() for one in texts)
    assert spared_bytes(rows(3, 10, words=2)) == 0


def test_words_that_hardly_repeat_stay_as_they_are() -> None:
    assert encoded(pa.array([str(row) for row in range(1_000)])) is None
    assert encoded(pa.array(["a"] * (ENCODED_ROWS_MIN - 1))) is None
    late = pa.array(["a"] * 300 + [str(row) for row in range(700)])
    assert encoded(late) is None


@settings(max_examples=15)
@given(st.lists(st.tuples(st.sampled_from([1, 40, 256, 600]), st.sampled_from([1, 5, 3_000])), min_size=1, max_size=6))
def test_joined_batches_are_the_same_rows_in_order(sizes: list[tuple[int, int]]) -> None:
    batches = [rows(seed, size, words=words) for seed, (size, words) in enumerate(sizes)]
    table = joined([travelled(batch) for batch in batches])
    table.validate(full=True)
    assert decoded(table).equals(pa.Table.from_batches(batches).combine_chunks())
    for column in table.columns:
        if is_encoded(column):
            known = column.chunk(0).dictionary
            assert len(known.unique()) == len(known)


def test_calls_are_counted_and_rolled_up_as_without_words() -> None:
    batches = [rows(seed, 600, words=7) for seed in range(3)]
    held = [travelled(batch) for batch in batches]
    for batch, one in zip(batches, held, strict=True):
        told, same = count(batch, TenantId("t"), Seen(10_000)), count(one, TenantId("t"), Seen(10_000))
        np.testing.assert_array_equal(told.counted, same.counted)
    keys = [(name, "ascending") for name in ("window_start", "kind", "service", "model", "status")]
    whole = roll(pa.Table.from_batches(batches), MINUTE_US)
    from_words = roll(joined(held), MINUTE_US)
    names = [name for name in whole.schema.names if not name.endswith(("_sum", "_sketch"))]
    order = [*keys, *((name, "ascending") for name in ("provider", "operation", "event_count", "input_tokens"))]
    assert from_words.schema.equals(whole.schema)
    assert from_words.select(names).sort_by(order).equals(whole.select(names).sort_by(order))


@pytest.mark.parametrize("words", [3, 3_000])
def test_a_file_of_encoded_rows_has_the_types_of_the_table(tmp_path: Path, words: int) -> None:
    batch = rows(5, 4_000, words=words)
    table = TABLES["events"]
    (one,) = stage(tmp_path, table, joined([travelled(batch)]), tenant_id="t", token="encoded")
    (two,) = stage(tmp_path, table, pa.Table.from_batches([batch]), tenant_id="t", token="plain")
    read = pq.ParquetFile(tmp_path / "events" / one.path, page_checksum_verification=True).read()
    assert read.schema.equals(EVENT_SCHEMA)
    assert read.equals(pq.ParquetFile(tmp_path / "events" / two.path).read())
    if words == 3:
        assert one.size_bytes < two.size_bytes
