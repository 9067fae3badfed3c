"""A model call told of by gateway and span counts once, part by part, in any order and split."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.calls import count
from actors.seen import Seen
from cluster.contract.event import (
    COUNTED_COST,
    COUNTED_ERROR,
    COUNTED_LATENCY,
    COUNTED_REQUEST,
    COUNTED_TOKENS,
)
from cluster.tenancy import DEFAULT_TENANT
from tests.actors.batches import events

_TRACE = "a" * 32


def _told(counted: list[int], bit: int) -> int:
    return sum(1 for value in counted if value & bit)


def test_gateway_and_span_of_one_call_count_once() -> None:
    calls = Seen(1000)
    gateway = events(["g"], trace_id=_TRACE, span_id="b" * 16, request_id="r-1")
    span = events(
        ["s"], kind="observatory.span", module="observatory", trace_id=_TRACE, span_id="b" * 16, latency_ms=5.0
    )
    first = count(gateway, DEFAULT_TENANT, calls)
    second = count(span, DEFAULT_TENANT, calls)
    assert first.counted.tolist() == [COUNTED_REQUEST | COUNTED_TOKENS]
    assert second.counted.tolist() == [COUNTED_LATENCY]


def test_three_tellers_by_request_id_share_the_parts() -> None:
    calls = Seen(1000)
    batch = events(
        ["latency", "tokens", "cost"],
        request_id="r-1",
        latency_ms=[9.0, None, None],
        input_tokens=[None, 3, None],
        output_tokens=[None, 4, None],
        status=["error", None, None],
    )
    counted = count(batch, DEFAULT_TENANT, calls).counted.tolist()
    assert _told(counted, COUNTED_REQUEST) == _told(counted, COUNTED_TOKENS) == _told(counted, COUNTED_ERROR) == 1
    assert _told(counted, COUNTED_COST) == 0


def test_rows_that_are_no_model_call_carry_no_bits() -> None:
    batch = events(["a", "b"], kind=["observatory.span", "audit.authn"], operation=["execute_tool", None])
    assert count(batch, DEFAULT_TENANT, Seen(1000)).counted.tolist() == [0, 0]


def test_a_call_that_nothing_names_always_counts() -> None:
    calls = Seen(1000)
    assert count(events(["a", "b"]), DEFAULT_TENANT, calls).counted.tolist() == [COUNTED_REQUEST | COUNTED_TOKENS] * 2


@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=20),
    st.data(),
)
def test_any_split_into_batches_counts_the_same(
    tellers: list[tuple[int, bool, bool, bool]], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(tellers)), max_size=3)))
    whole = _counted([tellers], Seen(1000))
    parts = [tellers[a:b] for a, b in zip([0, *cuts], [*cuts, len(tellers)], strict=True)]
    assert _counted([part for part in parts if part], Seen(1000)) == whole
    assert _told(whole, COUNTED_REQUEST) == len({call for call, *_ in tellers})
    assert _told(whole, COUNTED_TOKENS) == len({call for call, tokens, *_ in tellers if tokens})


def _counted(batches: list[list[tuple[int, bool, bool, bool]]], calls: Seen) -> list[int]:
    found: list[int] = []
    for rows in batches:
        batch = events(
            [f"e{index}" for index in range(len(rows))],
            request_id=[f"r{call}" for call, *_ in rows],
            trace_id=[f"{call:032x}" if span else None for call, _, _, span in rows],
            span_id=[f"{call:016x}" if span else None for call, _, _, span in rows],
            input_tokens=[1 if tokens else None for _, tokens, _, _ in rows],
            output_tokens=[None for _ in rows],
            latency_ms=[1.0 if latency else None for _, _, latency, _ in rows],
        )
        found += count(batch, DEFAULT_TENANT, calls).counted.tolist()
    return found
