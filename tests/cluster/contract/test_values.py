"""Times, money and words, each as a sender may write it."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.clock import format_rfc3339
from cluster.contract import vocabulary
from cluster.contract.instants import instant_us, read_instants
from cluster.contract.money import money_of, read_money
from tests.cluster.contract.bodies import event, only, send

NEW_YEAR_US = 1_767_225_600_000_000


@pytest.mark.parametrize(
    "sent",
    [
        "2026-01-01T00:00:00Z",
        "2026-01-01t00:00:00z",
        "2026-01-01T02:00:00+02:00",
        "2025-12-31 18:30:00-05:30",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00:00.000000999Z",
        "1767225600",
        1767225600,
        1767225600.0,
        1767225600_000,
        1767225600_000_000,
        1767225600_000_000_000,
    ],
)
def test_every_way_to_write_an_instant_is_the_same_microsecond(sent: object) -> None:
    assert instant_us(sent) == NEW_YEAR_US
    at_us, readable = read_instants(pa.array([sent, None, sent]))
    assert readable.tolist() == [True, False, True]
    assert at_us.tolist() == [NEW_YEAR_US, 0, NEW_YEAR_US]


@given(st.integers(1_262_304_000_000_000, 4_000_000_000_000_000))
def test_an_instant_written_by_the_hub_is_read_back(at_us: int) -> None:
    assert instant_us(format_rfc3339(at_us)) == at_us
    assert read_instants(pa.array([format_rfc3339(at_us)]))[0].tolist() == [at_us]


def test_arrow_times_of_any_unit_are_instants() -> None:
    for unit, factor in (("s", 10**6), ("ms", 10**3), ("us", 1)):
        for zone in (None, "Europe/Berlin"):
            column = pa.array([NEW_YEAR_US // factor], pa.timestamp(unit, zone))
            assert read_instants(column)[0].tolist() == [NEW_YEAR_US]
    huge = pa.array([2**62], pa.timestamp("s"))
    assert read_instants(huge)[1].tolist() == [False]


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (b"0.1", "0.100000000"),
        (b"0.10000000049", "0.100000000"),
        (b"0.0000000005", "0.000000000"),
        (b"0.0000000015", "0.000000002"),
        (b"1e-9", "0.000000001"),
        (b"12345678.123456789", "12345678.123456789"),
        (b'"0.000000003"', "0.000000003"),
        (b"0", "0.000000000"),
    ],
)
def test_money_is_the_digits_that_were_sent(sent: bytes, stored: str) -> None:
    row = only(
        send(b'{"occurred_at":"2026-01-01T00:00:00Z","module":"gateway","kind":"request","cost_usd":' + sent + b"}")
    )
    assert str(row["cost_usd"]) == str(Decimal(stored))


@given(st.decimals(0, 10**8, places=9))
def test_nine_decimals_survive_exactly(amount: Decimal) -> None:
    assert money_of(str(amount)) == amount
    column, bad = read_money(pa.array([str(amount)]))
    assert column.to_pylist() == [amount]
    assert not bad.any()


_DOLLARS = st.floats(0, 2e8) | st.floats(0, 1e-6) | st.integers(0, 10**15).map(lambda nano: nano / 1e9)


@given(st.lists(_DOLLARS, min_size=1))
def test_a_double_is_the_amount_of_its_shortest_text(amounts: list[float]) -> None:
    column, bad = read_money(pa.array(amounts))
    wanted = [money_of(repr(amount)) for amount in amounts]
    assert column.to_pylist() == wanted
    np.testing.assert_array_equal(bad, [amount is None for amount in wanted])


def test_doubles_at_a_half_of_the_last_decimal_are_rounded_by_their_text() -> None:
    halves = [0.0000000005, 0.0000000015, 0.0000000025, 12.3456789125, 0.1000000005, -0.0]
    column, bad = read_money(pa.array([*halves, None, 3.0]))
    assert column.to_pylist() == [*map(money_of, map(repr, halves)), None, money_of("3")]
    assert not bad.any()
    column, bad = read_money(pa.array([math.nan, math.inf, -1.0, 1e300, 0.5]))
    assert bad.tolist() == [True, True, True, True, False]
    assert column.to_pylist()[-1] == money_of("0.5")


@pytest.mark.parametrize("sent", ["1e999999999", "9" * 64, "-1", "nan", "1_0"])
def test_an_amount_beyond_measure_is_refused(sent: str) -> None:
    decoded = send(event(cost_usd=sent), event())
    assert ([one.code for one in decoded.refusals], decoded.events.num_rows) == (["cost_out_of_range"], 1)


@pytest.mark.parametrize("sent", ["1e-40004875", "1E-9999999999", "1e-48", "1e-1000", "0." + "0" * 50 + "1"])
def test_an_amount_of_endless_decimals_is_nothing_spent(sent: str) -> None:
    rows = [event(cost_usd=sent, event_id="a"), event(cost_usd="1e-7", event_id="b"), event(event_id="c")]
    decoded = send(*rows)
    assert decoded.events.column("cost_usd").to_pylist() == [0, Decimal("0.0000001"), None]


def test_exponents_as_numbers_are_written_are_exact() -> None:
    sent = ["1e-05", "2.5E-7", "1e3", "12", None, "4.5e+2", "1e-10"]
    column, bad = read_money(pa.array(sent))
    assert column.to_pylist() == [None if text is None else money_of(text) for text in sent]
    assert not bad.any()


def test_narrow_floats_are_the_amount_of_their_own_shortest_text() -> None:
    column, bad = read_money(pa.array([0.1, 1e-12, None], pa.float32()))
    assert column.to_pylist() == [Decimal("0.1"), 0, None]
    assert not bad.any()


def test_statuses_severities_and_operations_have_one_word_each() -> None:
    assert [vocabulary.status_of(word) for word in ("SUCCESS", "200", "STATUS_CODE_OK")] == ["ok"] * 3
    assert [vocabulary.status_of(word) for word in ("failed", "500", "404", "STATUS_CODE_ERROR")] == ["error"] * 4
    assert [vocabulary.status_of(word) for word in ("429", "408", "504", "Denied")] == [
        "rate_limited",
        "timeout",
        "timeout",
        "denied",
    ]
    assert [vocabulary.severity_of(word) for word in ("9", "17", "FATAL", "odd")] == [
        "info",
        "error",
        "critical",
        "odd",
    ]
    assert vocabulary.operation_of("embedding") == "embeddings"
    assert only(send(event(status=None)))["status"] is None
    assert only(send(event()))["operation"] == "chat"
    assert only(send(event(module="observatory", kind="span")))["operation"] is None


def test_a_kind_begins_with_its_module() -> None:
    assert vocabulary.kind_of("gateway", "request") == ("gateway", "gateway.request")
    assert vocabulary.kind_of(None, "gateway.request") == ("gateway", "gateway.request")
    assert vocabulary.kind_of("gateway", "gateway.shadow.compare") == ("gateway", "gateway.shadow.compare")
    assert vocabulary.kind_of("gateway", "audit.authn") is None
    assert vocabulary.kind_of("gateway", "a b") is None
