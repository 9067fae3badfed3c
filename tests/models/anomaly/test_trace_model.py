"""A detector of traces as it is served: requests become spans, answers name evidence, planted faults are found."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import HubError
from models.anomaly import trace_detector, trace_model
from models.anomaly.refusals import ModelUnreadable, NotEnoughData, SpansInvalid
from models.anomaly.trace_judgement import judge, planted
from models.anomaly.trace_model import TraceModel, answers, spans_of, with_threshold
from tests.bench import trace_faults


@cache
def model() -> TraceModel:
    return with_threshold(
        trace_detector.fit("trace_rarity", trace_faults.usual("traces", 1_500, seed=11).spans, seed=1)
    )


def sent(traces: trace_faults.Traces, count: int) -> list[dict[str, Any]]:
    """As a client would send the first of them."""
    found = []
    for name in traces.trace_ids[:count]:
        spans = traces.spans.filter(pc.equal(traces.spans["trace_id"], name)).to_pylist()
        told = [{**span, "occurred_at": span["occurred_at"].strftime("%Y-%m-%dT%H:%M:%S.%fZ")} for span in spans]
        found.append({"trace_id": name, "spans": told})
    return found


def test_a_request_is_scored_as_the_stored_spans_are() -> None:
    faults = trace_faults.faulty("traces", 2, seed=7)
    told = answers(model(), spans_of(sent(faults, 12)))
    whole = model().fitted.score(faults.spans)
    assert [one["trace_id"] for one in told] == faults.trace_ids[:12]
    assert [one["score"] for one in told] == pytest.approx(whole.score[:12].tolist(), rel=1e-6)
    worst = max(told, key=lambda one: one["score"])
    assert worst["is_anomaly"]
    assert worst["severity"] in ("minor", "major", "critical")
    assert worst["drivers"][0]["span"]["span_id"]


def test_what_cannot_be_scored_says_why_and_has_no_score() -> None:
    ring = [
        {"span_id": one, "parent_span_id": other, "operation": "chat", "occurred_at": 0, "latency_ms": 1}
        for one, other in ("ab", "ba")
    ]
    (told,) = answers(model(), spans_of([{"trace_id": "ring", "spans": ring}]))
    assert (told["state"], told["score"]) == ("not_scored", None)
    assert told["reason"].startswith("cyclic_parents")


@pytest.mark.parametrize(
    "traces",
    [
        [],
        [{}],
        [{"trace_id": "a"}],
        [{"trace_id": "a", "spans": []}],
        [{"trace_id": "a", "spans": ["b"]}],
        [{"trace_id": "a", "spans": [{"span_id": "b", "operation": "c", "latency_ms": 1}]}],
        [{"trace_id": "a", "spans": [{"span_id": "b", "operation": "c", "latency_ms": "1", "occurred_at": 0}]}],
        [{"trace_id": "a", "spans": [{"span_id": 5, "operation": "c", "latency_ms": 1, "occurred_at": 0}]}],
        [{"trace_id": "a", "spans": [{"span_id": "b", "operation": "c", "occurred_at": 0}]}] * 2,
    ],
)
def test_what_is_no_trace_is_refused(traces: list[dict[str, Any]]) -> None:
    with pytest.raises(SpansInvalid):
        spans_of(traces)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
_names = st.sampled_from(["span_id", "parent_span_id", "operation", "occurred_at", "latency_ms", "input_tokens", "x"])


@given(st.lists(st.dictionaries(_names, _json, max_size=6), min_size=1, max_size=4))
def test_any_json_is_scored_or_refused(spans: list[dict[str, Any]]) -> None:
    try:
        told = answers(model(), spans_of([{"trace_id": "t", "spans": spans}]))
        assert len(told) == 1
    except HubError as refused:
        assert refused.code


def test_planted_faults_are_told_from_the_traces_they_were_planted_in() -> None:
    spans = trace_faults.usual("traces", 400, seed=13).spans
    assert planted(spans, seed=1).equals(planted(spans, seed=1))
    found = judge(model(), spans)
    assert found.average_precision > found.chance + 0.1
    assert found.false_share < 0.05
    assert found.recall > 0.2
    with pytest.raises(NotEnoughData, match="50 are needed"):
        judge(model(), trace_faults.usual("traces", 20, seed=1).spans)


def test_a_stored_model_keeps_its_threshold_and_one_without_is_refused() -> None:
    again = trace_model.load("trace_rarity", model().arrays(), model().configuration())
    assert again.threshold == model().threshold == pytest.approx(-np.log(0.002))
    with pytest.raises(ModelUnreadable, match="threshold"):
        trace_model.load("trace_rarity", model().arrays(), {**model().configuration(), "threshold": None})
