"""Arrow IPC and Parquet bodies."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import orjson
import pyarrow as pa
import pytest

from cluster.contract.decode import decode
from cluster.errors import BodyTooLarge, BodyUnreadable
from tests.cluster.contract.bodies import (
    ARROW,
    CONTEXT,
    PARQUET,
    arrow_body,
    checked,
    codes,
    event,
    only,
    parquet_body,
    send,
)

BODIES = [(ARROW, arrow_body), (PARQUET, parquet_body)]


def table(**columns: object) -> pa.Table:
    rows = len(next(iter(columns.values())))  # type: ignore[arg-type]
    base = {"occurred_at": ["2026-01-01T00:00:00Z"] * rows, "module": ["gateway"] * rows, "kind": ["request"] * rows}
    return pa.table({**base, **columns})


@pytest.mark.parametrize(("content_type", "write"), BODIES)
def test_columns_of_any_castable_type_are_taken(content_type, write) -> None:
    sent = pa.table(
        {
            "timestamp": pa.array([1_767_225_600_000], pa.timestamp("ms")),
            "source_module": pa.array(["llm-gateway"]).dictionary_encode(),
            "event_type": pa.array(["request"], pa.large_string()),
            "prompt_tokens": pa.array([7], pa.uint16()),
            "output_tokens": pa.array(["5"]),
            "latency_ms": pa.array([12], pa.int32()),
            "cost_usd": pa.array([0.1], pa.float64()),
            "user_id": pa.array([42], pa.int64()),
            "payload": pa.array([{"cache_hit": True}]),
            "team": ["search"],
            "score": [0.5],
        }
    )
    row = only(checked(decode(write(sent), content_type=content_type, context=CONTEXT)))
    assert row["occurred_at"] == datetime(2026, 1, 1, tzinfo=UTC)
    assert (row["kind"], row["input_tokens"], row["output_tokens"], row["latency_ms"]) == (
        "gateway.request",
        7,
        5,
        12.0,
    )
    assert (row["cost_usd"], row["user_id"], row["cache_status"]) == (Decimal("0.1"), "42", "hit")
    assert orjson.loads(row["attributes"]) == {"team": "search", "score": 0.5}


@pytest.mark.parametrize(("content_type", "write"), BODIES)
def test_values_that_do_not_fit_refuse_their_row_only(content_type, write) -> None:
    sent = table(
        input_tokens=pa.array(["1", "many", "-3", "4", "5", "6"]),
        cost_usd=pa.array([0.1, 0.1, 0.1, float("nan"), -1.0, 0.1]),
        attributes=pa.array(['{"a": 1}', None, "", None, None, '{"a"']),
    )
    decoded = checked(decode(write(sent), content_type=content_type, context=CONTEXT))
    assert decoded.events.num_rows == 1
    assert codes(decoded) == [
        "field_type",
        "tokens_out_of_range",
        "cost_out_of_range",
        "cost_out_of_range",
        "field_type",
    ]
    assert b'"many"' in decoded.dead_letters.column("original")[0].as_py()


@pytest.mark.parametrize(("content_type", "write"), BODIES)
def test_an_exported_batch_sent_back_in_is_the_same_batch(content_type, write) -> None:
    events = send(
        event(event_id="a", attributes={"x": [1, {"y": 2}]}, cost_usd=0.3, input_tokens=4),
        event(event_id="b", status="timeout"),
    ).events
    again = checked(decode(write(pa.Table.from_batches([events])), content_type=content_type, context=CONTEXT))
    assert again.events.equals(events)


@pytest.mark.parametrize(("content_type", "write"), BODIES)
def test_an_unreadable_body_is_an_error_of_the_request(content_type, write) -> None:
    whole = write(table(user_id=["u"] * 100))
    for body in (b"", b"noise", whole[: len(whole) // 2], whole[:8] + b"\xff" * 40 + whole[48:]):
        with pytest.raises(BodyUnreadable):
            decode(body, content_type=content_type, context=CONTEXT)


def test_a_small_file_of_one_long_text_repeated_is_refused_before_it_unfolds() -> None:
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * 50_000, pa.int32()), pa.array(["x" * 100_000]))
    body = parquet_body(table(user_id=repeated), compression="zstd")
    assert len(body) < 200_000
    with pytest.raises(BodyTooLarge):
        decode(body, content_type=PARQUET, context=CONTEXT)


def test_rows_and_columns_have_ceilings() -> None:
    with pytest.raises(BodyTooLarge):
        decode(arrow_body(table(user_id=["u"] * 3)), content_type=ARROW, context=replace(CONTEXT, rows_max=2))
    with pytest.raises(BodyTooLarge):
        decode(arrow_body(table(**{f"c{i}": ["u"] for i in range(1100)})), content_type=ARROW, context=CONTEXT)


def test_invalid_utf8_in_a_text_column_is_unreadable() -> None:
    broken = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe"))
    with pytest.raises(BodyUnreadable):
        decode(arrow_body(table(user_id=broken)), content_type=ARROW, context=CONTEXT)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", "b", "c"]),
        pa.array(["a", "b", "c"]).dictionary_encode(),
        pa.array([[("k", 1)]] * 3, pa.map_(pa.string(), pa.int64())),
        pa.array([[1], [2], [3]]),
    ],
)
def test_lengths_that_lead_out_of_the_body_are_refused(column: pa.Array) -> None:
    body = arrow_body(pa.table({"x": column}))
    three, many = (number.to_bytes(8, "little") for number in (3, 1 << 28))
    places = [place for place in range(len(body) - 8) if body[place : place + 8] == three]
    refused = 0
    for place in places:
        # Each of them in turn: rows of the batch, of a column, of its dictionary or its children; bytes of a buffer.
        try:
            checked(decode(body[:place] + many + body[place + 8 :], content_type=ARROW, context=CONTEXT))
        except (BodyUnreadable, BodyTooLarge):
            refused += 1
    assert refused > 0


def test_a_column_whose_name_is_no_utf8_is_refused() -> None:
    body = arrow_body(pa.table({"occurred_at": ["2026-01-01T00:00:00Z"]})).replace(b"occurred_at", b"occurred\xff\xfet")
    with pytest.raises(BodyUnreadable):
        decode(body, content_type=ARROW, context=CONTEXT)


@pytest.mark.parametrize("scale", [2**31 - 1, 1_000, 39, -1, -(2**31)])
@pytest.mark.parametrize("name", ["cost_usd", "input_tokens", "occurred_at", "told"])
def test_a_decimal_of_a_scale_that_none_can_have_is_refused(scale: int, name: str) -> None:
    words = pa.py_buffer((123).to_bytes(16, "little"))
    column = pa.Array.from_buffers(pa.decimal128(38, scale), 1, [None, words])
    plain = table(user_id=["u"])
    for sent in (column, pa.StructArray.from_arrays([column], names=["inner"]), column.dictionary_encode()):
        columns = {**{one: plain.column(one) for one in plain.column_names}, name: sent}
        with pytest.raises(BodyUnreadable, match="a column is decimal128"):
            decode(arrow_body(pa.table(columns)), content_type=ARROW, context=CONTEXT)


@pytest.mark.parametrize("kind", ["day_time_interval", "month_interval"])
def test_a_type_whose_values_have_no_form_is_refused(kind: str) -> None:
    spans = pa.array([(1, 2, 3)], pa.month_day_nano_interval())
    plain = table(user_id=["u"])
    columns = {one: plain.column(one) for one in plain.column_names}
    with pytest.raises(BodyUnreadable, match=f"a column is {kind}"):
        decode(_with_unit(arrow_body(pa.table({**columns, "told": spans})), kind), content_type=ARROW, context=CONTEXT)


def _with_unit(body: bytes, kind: str) -> bytes:
    """The body with another unit of its interval column, which Arrow reads and has no name to write by."""
    for at in range(len(body) - 1):
        if body[at : at + 2] != b"\x02\x00":
            continue
        for unit in (b"\x00\x00", b"\x01\x00"):
            other = body[:at] + unit + body[at + 2 :]
            try:
                if str(pa.ipc.open_stream(other).schema.field("told").type) == kind:
                    return other
            except (pa.ArrowException, KeyError, OSError):
                continue
    raise AssertionError(f"no body with a column of {kind}")


_FAR = [
    pa.array([2**62], pa.timestamp("s")),
    pa.array([2**62], pa.timestamp("us", "UTC")),
    pa.array([0], pa.timestamp("us", "Mars/Olympus")),
    pa.array([0], pa.timestamp("us", "Europe")),
    pa.array([86_400_000 * 10**11], pa.int64()).view(pa.date64()),
    pa.array([2**31 - 1], pa.int32()).view(pa.date32()),
    pa.array([2**62], pa.duration("s")),
]


@pytest.mark.parametrize("column", _FAR, ids=lambda column: str(column.type))
def test_times_that_python_has_no_value_for_are_kept_as_their_numbers(column: pa.Array) -> None:
    number = column[0].value
    row = only(checked(decode(arrow_body(table(told=column)), content_type=ARROW, context=CONTEXT)))
    assert orjson.loads(row["attributes"]) == {"told": number}
    decoded = checked(
        decode(arrow_body(table(input_tokens=["many"], told=column)), content_type=ARROW, context=CONTEXT)
    )
    assert orjson.loads(decoded.dead_letters.column("original")[0].as_py())["told"] == number


@pytest.mark.parametrize("column", _FAR, ids=lambda column: str(column.type))
def test_a_row_of_a_time_beyond_the_calendar_is_refused(column: pa.Array) -> None:
    sent = table(user_id=["u"]).drop_columns("occurred_at").append_column("occurred_at", column)
    assert codes(checked(decode(arrow_body(sent), content_type=ARROW, context=CONTEXT)))[0].startswith("occurred_at_")


def test_what_python_has_no_value_for_is_kept_inside_of_others() -> None:
    far = pa.array([2**62], pa.timestamp("s"))
    columns = {
        "twice": pa.StructArray.from_arrays([pa.array([1]), far], names=["a", "a"]),
        "list": pa.array([[2**62, 1]], pa.list_(pa.timestamp("s"))),
        "map": pa.array([[("k", 2**62)]], pa.map_(pa.string(), pa.timestamp("s"))),
        "coded": pa.StructArray.from_arrays([far.dictionary_encode()], names=["a"]),
        "none": pa.StructArray.from_arrays([pa.nulls(1, pa.int64())] * 2, names=["a", "a"]),
    }
    row = only(checked(decode(arrow_body(table(**columns)), content_type=ARROW, context=CONTEXT)))
    assert orjson.loads(row["attributes"]) == {
        "twice": {"a": 2**62},
        "list": [2**62, "1970-01-01T00:00:01"],
        "map": [["k", 2**62]],
        "coded": {"a": 2**62},
        "none": {"a": None},
    }
    row = only(checked(decode(arrow_body(table(payload=columns["map"])), content_type=ARROW, context=CONTEXT)))
    assert orjson.loads(row["payload"]) == {"k": 2**62}
