"""Traces of every shape become one tree: each span once, parents before children, and a path that adds up."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.contract.columns import EVENT_SCHEMA
from models.correlate.trace import assemble

Row = dict[str, Any]
START_US = 1_767_225_600_000_000


def span(name: str, parent: str | None = None, start_ms: float = 0, latency_ms: float | None = 10, **more: Any) -> Row:
    return {
        **dict.fromkeys(EVENT_SCHEMA.names),
        "event_id": f"{more.get('kind', 'span')}-{name}",
        "occurred_at": START_US + int(start_ms * 1_000),
        "module": "observatory",
        "kind": "observatory.span",
        "span_id": name,
        "parent_span_id": parent,
        "latency_ms": latency_ms,
        "counted": 0,
        **more,
    }


def told(*rows: Row) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in assemble("t", rows)["spans"]}


def test_five_modules_make_one_tree() -> None:
    rows = [
        span("a", None, 0, 100),
        span("b", "a", 10, 50, request_id="r1"),
        span("b", "a", 11, 48, module="gateway", kind="gateway.request", event_id="g", request_id="r1", counted=127),
        span(
            "",
            None,
            5,
            None,
            span_id=None,
            module="guardrails",
            kind="guardrails.evaluation",
            event_id="c",
            request_id="r1",
        ),
        span("", None, 6, None, span_id=None, module="audit", kind="audit.authz", event_id="d", causation_id="c"),
        span("", None, 7, None, span_id=None, module="registry", kind="registry.price.changed", event_id="e"),
    ]
    trace = assemble("t", rows)
    spans = {one["id"]: one for one in trace["spans"]}
    assert trace["roots"] == ["a"]
    assert {name: (one["parent"], one["link"]) for name, one in spans.items()} == {
        "a": (None, "root"),
        "b": ("a", "parent"),
        "event:c": ("b", "request"),
        "event:d": ("event:c", "cause"),
        "event:e": ("a", "trace"),
    }
    assert trace["modules"] == {"audit": 1, "gateway": 1, "guardrails": 1, "observatory": 2, "registry": 1}
    # The span speaks for the call; what the gateway told is beside it, and the call counts once.
    assert [event["module"] for event in spans["b"]["events"]] == ["observatory", "gateway"]
    assert trace["totals"]["request_count"] == 1


def test_buckets_are_exclusive_and_come_from_one_teller() -> None:
    gateway = span("a", kind="gateway.request", event_id="g", input_tokens=9_999, cost_usd=Decimal("0.000000001"))
    own: dict[str, Any] = {"input_tokens": 100, "cache_read_tokens": 30, "cache_write_tokens": 20, "output_tokens": 50}
    trace = assemble("t", [gateway, span("a", model="m", reasoning_tokens=40, other_modal_tokens=7, **own)])
    one = trace["spans"][0]
    assert one["tokens"] == {
        "input_uncached": 50,
        "cache_read": 30,
        "cache_write": 20,
        "output_text": 10,
        "reasoning": 40,
        "other_modal": 7,
    }
    assert one["model"] == "m" and bytes(one["cost_usd"]) == b"0.000000001"
    assert assemble("t", [span("b")])["spans"][0]["tokens"] is None


def test_a_span_whose_parent_never_came_is_an_orphan_root() -> None:
    spans = told(span("a"), span("b", "nobody", 1))
    assert spans["b"]["link"] == "orphan" and spans["b"]["parent"] is None


def test_rings_are_opened_at_their_first_span() -> None:
    spans = told(span("a", "c", 2), span("b", "a", 1), span("c", "b", 3), span("d", "a", 4), span("e", "e", 5))
    assert spans["b"]["link"] == "cycle" and spans["e"]["link"] == "cycle"
    assert [spans[name]["parent"] for name in "acde"] == ["c", "b", "a", None]


def test_the_critical_path_follows_what_ran_last() -> None:
    trace = assemble(
        "t",
        [
            span("root", None, 0, 100),
            span("early", "root", 0, 40),
            span("late", "root", 30, 60),
            span("in", "late", 35, 50),
        ],
    )
    assert {one["id"]: one["critical_ms"] for one in trace["critical_path"]} == {
        "root": 10.0,
        "late": 10.0,
        "in": 50.0,
        "early": 30.0,
    }


def test_a_chain_and_a_fan_of_ten_thousand_spans() -> None:
    chain = assemble("t", [span(str(i), str(i - 1) if i else None, i / 1_000, 20 - i / 1_000) for i in range(10_000)])
    assert chain["spans"][-1]["depth"] == 9_999 and len(chain["critical_path"]) == 10_000
    fan = assemble("t", [span("r", None, 0, 10_000), *(span(str(i), "r", i, 1) for i in range(10_000))])
    assert len(fan["spans"]) == 10_001 and len(fan["spans"][0]["children"]) == 10_000


_SPANS = st.lists(
    st.tuples(st.integers(0, 12), st.none() | st.integers(0, 14), st.integers(0, 50), st.none() | st.integers(0, 60)),
    min_size=1,
    max_size=25,
)


@settings(deadline=None)
@given(_SPANS)
def test_any_trace_is_a_forest_with_every_event_in_it(drawn: list[tuple[int, int | None, int, int | None]]) -> None:
    rows = [
        span(f"s{name}", None if parent is None else f"s{parent}", start, latency, event_id=str(index))
        for index, (name, parent, start, latency) in enumerate(drawn)
    ]
    trace = assemble("t", rows)
    spans = trace["spans"]
    assert sorted(event["event_id"] for one in spans for event in one["events"]) == sorted(
        row["event_id"] for row in rows
    )
    place = {one["id"]: index for index, one in enumerate(spans)}
    assert len(place) == len(spans)
    for one in spans:
        assert (one["parent"] is None) == (one["id"] in trace["roots"])
        if one["parent"] is not None:
            assert place[one["parent"]] < place[one["id"]]
            assert one["id"] in spans[place[one["parent"]]]["children"]
    longest = max((one for one in spans if one["parent"] is None), key=lambda one: duration_us(rows, one))
    total = sum(one["critical_ms"] for one in trace["critical_path"])
    assert abs(total * 1_000 - duration_us(rows, longest)) < 1


def duration_us(rows: list[Row], one: dict[str, Any]) -> int:
    speaker = next(row for row in rows if row["event_id"] == one["events"][0]["event_id"])
    return int((speaker["latency_ms"] or 0) * 1_000)
