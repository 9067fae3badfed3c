"""A model call told of by gateway and span counts once, part by part, in any order and split."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from actors.calls import count, recall
from actors.seen import Seen
from cluster.contract.event import (
    COUNTED_CACHE,
    COUNTED_COST,
    COUNTED_ERROR,
    COUNTED_LATENCY,
    COUNTED_REQUEST,
    COUNTED_TOKENS,
    COUNTED_TTFT,
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


def test_a_row_with_both_names_ties_them_over_batches() -> None:
    calls, span = Seen(1000), {"trace_id": _TRACE, "span_id": "b" * 16}
    nothing: dict[str, object] = {"input_tokens": None, "output_tokens": None}
    count(events(["a"], **span, **nothing, latency_ms=5.0), DEFAULT_TENANT, calls)
    count(events(["b"], **span, request_id="r-1"), DEFAULT_TENANT, calls)
    late = count(events(["c"], request_id="r-1", **nothing, latency_ms=5.0), DEFAULT_TENANT, calls)
    assert late.counted.tolist() == [0]


def test_a_restart_remembers_which_names_are_of_one_call() -> None:
    calls, span = Seen(1000), {"trace_id": _TRACE, "span_id": "b" * 16}
    nothing: dict[str, object] = {"input_tokens": None, "output_tokens": None}
    first = events(["a"], **span, **nothing, latency_ms=5.0)
    tie = events(["b"], **span, request_id="r-1")
    late = events(["c"], request_id="r-1", **nothing, latency_ms=5.0)
    from_keys, from_rows = Seen(1000), Seen(1000)
    for batch in (first, tie):
        told = count(batch, DEFAULT_TENANT, calls)
        from_keys.exchange(told.keys, told.bits)
        place = batch.schema.get_field_index("counted")
        recall(batch.set_column(place, batch.schema[place], pa.array(told.counted)), DEFAULT_TENANT, from_rows)
    for remembered in (from_keys, from_rows):
        assert count(late, DEFAULT_TENANT, remembered).counted.tolist() == [0]


class _Row(NamedTuple):
    """What decides what a row tells; None or False for a column without a value."""

    kind: str | None
    operation: str | None
    status: str | None
    span: int | None
    request: int | None
    tokens: tuple[bool, bool]
    latency: bool
    ttft: bool
    cost: bool
    cache: bool


_NAME = st.one_of(st.none(), st.integers(0, 3))
_ROW = st.builds(
    _Row,
    kind=st.sampled_from(["gateway.request", "observatory.span", "observatory.spam", "audit.authn", "", None]),
    operation=st.sampled_from(["chat", "embeddings", "execute_tool", "error", None]),
    status=st.sampled_from(["ok", "error", "timeout", "chat", None]),
    span=_NAME,
    request=_NAME,
    tokens=st.tuples(st.booleans(), st.booleans()),
    latency=st.booleans(),
    ttft=st.booleans(),
    cost=st.booleans(),
    cache=st.booleans(),
)


@given(st.lists(st.lists(_ROW, max_size=25), min_size=1, max_size=3), st.integers(0, 3))
def test_counting_agrees_with_a_dict_row_by_row(batches: list[list[_Row]], cut: int) -> None:
    calls = Seen(1000)
    known: dict[tuple[str, int], int] = {}
    for rows in batches:
        told = count(_batch(rows).slice(cut), DEFAULT_TENANT, calls)
        kept = rows[cut:]
        assert told.counted.tolist() == [_model(row, known) for row in kept]
        names = [name for row in kept if _told_by(row) for name in _names(row)]
        assert len(told.keys) == len(names)
        assert told.bits.tolist() == [known[name] for name in names]


def _model(row: _Row, known: dict[tuple[str, int], int]) -> int:
    told, before = _told_by(row), 0
    if not told:
        return 0
    for name in _names(row):
        before |= known.get(name, 0)
    for name in _names(row):
        known[name] = before | told
    return told & ~before


def _names(row: _Row) -> list[tuple[str, int]]:
    names = [("span", row.span), ("request", row.request)]
    return [(kind, number) for kind, number in names if number is not None]


def _told_by(row: _Row) -> int:
    is_span = row.kind == "observatory.span" and row.operation in ("chat", "embeddings")
    if row.kind != "gateway.request" and not is_span:
        return 0
    parts = (
        (COUNTED_TOKENS, any(row.tokens)),
        (COUNTED_LATENCY, row.latency),
        (COUNTED_TTFT, row.ttft),
        (COUNTED_COST, row.cost),
        (COUNTED_CACHE, row.cache),
        (COUNTED_ERROR, row.status in ("error", "timeout")),
    )
    return COUNTED_REQUEST | sum(bit for bit, has in parts if has)


def _batch(rows: list[_Row]) -> pa.RecordBatch:
    return events(
        [f"e{index}" for index in range(len(rows))],
        kind=[row.kind for row in rows],
        operation=[row.operation for row in rows],
        status=[row.status for row in rows],
        trace_id=[None if row.span is None else f"{row.span:032x}" for row in rows],
        span_id=[None if row.span is None else f"{row.span:016x}" for row in rows],
        request_id=[None if row.request is None else f"r{row.request}" for row in rows],
        input_tokens=[1 if row.tokens[0] else None for row in rows],
        output_tokens=[1 if row.tokens[1] else None for row in rows],
        latency_ms=[1.0 if row.latency else None for row in rows],
        ttft_ms=[1.0 if row.ttft else None for row in rows],
        cost_usd=[Decimal("0.1") if row.cost else None for row in rows],
        cache_status=["hit" if row.cache else None for row in rows],
    )
