"""Plain rows read by compiled code come out as the row-by-row reader gives them, whatever the bytes."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.contract.coerce import ROW_FIELDS
from cluster.contract.decode import decode
from cluster.contract.rows import Decoded
from cluster.contract.sources import ndjson
from tests.cluster.contract.bodies import CONTEXT, NDJSON, checked, event, only, send

TEXTS = st.text(max_size=12) | st.sampled_from(["", "ok", "4BF92F35-77", "épée", "😀", "\ud7ff", 'a"b', "a\\b", "x\ny"])
NUMBERS = st.one_of(
    st.integers(-5, 10**17),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(0, 1e5).map(lambda value: round(value, 3)),
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
DOCUMENTS = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))
VALUES = {
    "occurred_at": st.sampled_from(
        ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.123456+02:00", 1767225600, 1.7672256e9]
    ),
    "kind": st.sampled_from(["gateway.request", "request", "observatory.span", "nothing.known", ""]),
    "schema_version": st.sampled_from(["2.0.0", "1.0.0", "3.0.0"]),
    "attributes": st.dictionaries(TEXTS, DOCUMENTS, max_size=3) | SCALARS,
    "payload": DOCUMENTS,
    "latency_ms": NUMBERS,
    "input_tokens": st.integers(0, 10**16) | NUMBERS,
    "cost_usd": st.floats(0, 100) | st.sampled_from(["0.5", "1e-7", "", "null", "1,5"]) | SCALARS,
}


@st.composite
def rows(draw: st.DrawFn) -> bytes:
    """One event as text: mostly what the contract asks for, in any order, spaced and escaped one way or another."""
    names = draw(st.lists(st.sampled_from([*ROW_FIELDS, "model_name", "unknown"]), max_size=6, unique=True))
    row: dict[str, Any] = event()
    row |= {name: draw(VALUES.get(name, TEXTS) if draw(st.integers(0, 5)) else SCALARS) for name in names}
    members = draw(st.permutations(list(row.items()))) if draw(st.booleans()) else list(row.items())
    spaces = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " :\r")]))
    return json.dumps(dict(members), separators=spaces, ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")


def _both(body: bytes) -> tuple[Decoded, Decoded]:
    fast = checked(decode(body, content_type=NDJSON, context=CONTEXT))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ndjson, "_read_lines", lambda body, context: None)
        slow = checked(decode(body, content_type=NDJSON, context=CONTEXT))
    return fast, slow


def _assert_alike(body: bytes) -> None:
    fast, slow = _both(body)
    assert fast.refusals == slow.refusals
    assert fast.events.to_pylist() == slow.events.to_pylist()
    assert fast.dead_letters.to_pylist() == slow.dead_letters.to_pylist()


@settings(max_examples=300, deadline=None)
@given(st.lists(rows(), min_size=1, max_size=12))
def test_rows_are_read_as_one_by_one(body: list[bytes]) -> None:
    _assert_alike(b"\n".join(body))


@settings(max_examples=300, deadline=None)
@given(st.lists(rows(), min_size=2, max_size=6), st.randoms(use_true_random=False), st.integers(1, 4))
def test_damaged_bodies_are_read_as_one_by_one(body: list[bytes], chance: random.Random, wounds: int) -> None:
    damaged = bytearray(b"\n".join(body))
    for _ in range(wounds):
        place = chance.randrange(1, max(len(damaged), 2))
        choice = chance.randrange(3)
        if choice == 0:
            damaged[place : place + 1] = [
                chance.choice(b'{}[]",:\\\n\r \t\x00\x1f-+.eE019nulltrue\x80\xc3\xe2\xed\xf0\xff')
            ]
        elif choice == 1:
            del damaged[place : place + chance.randrange(1, 9)]
        else:
            damaged[place:place] = damaged[: chance.randrange(1, 40)]
    _assert_alike(bytes(damaged))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.30000000000000004", 0.30000000000000004),
        ("98765.43210987654", 98765.43210987654),
        ("-0", -0.0),
        ("1e-05", 1e-05),
    ],
)
def test_durations_are_the_nearest_double(text: str, value: float) -> None:
    line = json.dumps(event()).encode().removesuffix(b"}") + b', "latency_ms": ' + text.encode() + b"}"
    assert only(send(line))["latency_ms"] == value


def test_odd_rows_stay_in_their_places() -> None:
    body = [event(event_id=f"e{index}", user_id=index if index % 7 == 0 else f"u{index}") for index in range(500)]
    decoded = send(*body)
    assert decoded.events.column("event_id").to_pylist() == [f"e{index}" for index in range(500)]
    assert decoded.events.column("user_id").to_pylist() == [
        str(index) if index % 7 == 0 else f"u{index}" for index in range(500)
    ]


def test_two_rows_on_one_line_are_refused_beside_good_ones() -> None:
    one = json.dumps(event()).encode()
    decoded = send(one, one + b" " + one, one)
    assert (decoded.events.num_rows, [refusal.index for refusal in decoded.refusals]) == (2, [1])


def test_a_cost_that_is_not_utf8_is_refused_beside_a_good_row() -> None:
    decoded = send(event(), json.dumps(event()).encode().removesuffix(b"}") + b', "cost_usd": "\xff"}')
    assert (decoded.events.num_rows, [refusal.index for refusal in decoded.refusals]) == (1, [1])
