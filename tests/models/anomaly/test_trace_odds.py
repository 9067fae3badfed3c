"""Likelihood ratios of traces: laws that they keep, and cases small enough to think through."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from models.anomaly import trace_odds, trace_rarity, trace_ratios
from models.anomaly.trace_graph import Graphs, build, operations_of, vocabulary_of
from models.anomaly.trace_structure import Structure
from tests.bench import trace_faults
from tests.models.anomaly.test_traces import fitted, other, table, usual

LOGARITHMS = st.floats(-50, 50)


@given(
    arrays_of.arrays(np.float64, (4, 6), elements=LOGARITHMS),
    arrays_of.arrays(np.float64, 4, elements=st.floats(0.1, 5)),
)
def test_a_mean_of_logarithms_lies_between_them_and_is_that_of_what_they_are_of(
    logarithms: np.ndarray, weights: np.ndarray
) -> None:
    found = trace_ratios.log_mean(logarithms, weights)
    # Below a billionth of the largest, or of one, nothing is told apart.
    expected = np.log(np.maximum(np.exp(logarithms).T @ weights / weights.sum(), 1e-9))
    np.testing.assert_allclose(np.maximum(found, np.log(1e-9)), expected, rtol=1e-6, atol=1e-6)


def _lone_calls(count: int) -> Graphs:
    spans = table([{"trace_id": f"t{one:05d}", "span_id": "a", "latency_ms": 100.0} for one in range(count)])
    return build(spans, vocabulary_of(spans))


def test_the_ratio_of_what_is_usual_is_one_at_the_mean() -> None:
    """As a likelihood ratio has to be; so that the mean of many, whatever they share, is none that misleads."""
    count = 20_000
    graphs = _lone_calls(count)
    # Wide enough that the largest factor is nothing that 20,000 calls never reach.
    spread = 0.6
    off = np.random.default_rng(1).normal(size=count)
    values = np.log1p(100.0) + spread * off
    ratio = trace_ratios.slower(graphs, np.array([0, 1]), values=values, off=off, spread=np.full(count, spread))
    assert np.exp(ratio).mean() == pytest.approx(1.0, abs=0.1)


@given(st.floats(0.05, 0.6), st.floats(-3, 5), st.floats(0.1, 1))
def test_the_slower_a_call_the_likelier_that_it_is_too_slow(spread: float, off: float, more: float) -> None:
    graphs = _lone_calls(2)
    offs = np.array([off, off + more])
    values = np.log1p(100.0) + spread * offs
    ratio = trace_ratios.slower(graphs, np.array([0, 1]), values=values, off=offs, spread=np.full(2, spread))
    assert ratio[1] >= ratio[0]


@given(st.floats(0.1, 1.0), st.floats(0.2, 8), st.floats(0.5, 5_000), st.floats(0.5, 5_000))
def test_a_factor_says_as_much_of_few_milliseconds_as_of_many(
    spread: float, factor: float, one_ms: float, other_ms: float
) -> None:
    """Whatever the 1 does that is added so that nothing has a logarithm."""
    expected_ms = np.array([one_ms, other_ms])
    values, expected = np.log1p(expected_ms * factor), np.log1p(expected_ms)
    told = spread * expected_ms / (1 + expected_ms)
    ratio = trace_ratios.slower(
        _lone_calls(2), np.array([0, 1]), values=values, off=(values - expected) / told, spread=told
    )
    assert ratio[0] == pytest.approx(ratio[1], rel=1e-6, abs=1e-6)


def test_models_of_before_take_the_logarithm_of_one_more_for_normal() -> None:
    spread, off = 0.3, 2.0
    values = np.full(1, np.log1p(3.0) + spread * off)
    ratio = trace_ratios.slower(
        _lone_calls(1), np.array([0, 1]), values=values, off=np.full(1, off), spread=np.full(1, spread), before=True
    )
    shift = (np.log1p(3.0 * trace_ratios.FACTORS) - np.log1p(3.0)) / spread
    assert ratio[0] == pytest.approx(np.log(np.exp(shift * off - shift**2 / 2).mean()))


def _visits(trace: str, source: np.random.Generator, **slower: float) -> list[dict[str, Any]]:
    """An agent that calls three tools one after the other; times vary by a quarter."""
    took = {name: ms * slower.get(name, 1.0) * source.lognormal(0, 0.25) for name, ms in _TOOK_MS.items()}
    spans, at_ms = [], took["agent"] / 2
    for name in ("search", "read", "write"):
        at = {"occurred_at": round(1_000 * at_ms), "latency_ms": took[name]}
        spans.append({"trace_id": trace, "span_id": name, "parent_span_id": "r", "operation": name, **at})
        at_ms += took[name]
    root = {"trace_id": trace, "span_id": "r", "operation": "agent", "latency_ms": sum(took.values())}
    return [root, *spans]


_TOOK_MS = {"agent": 20.0, "search": 400.0, "read": 30.0, "write": 200.0}


@pytest.mark.parametrize(("slow", "evidence"), [("agent", "slow_between"), ("search", "slow_self")])
def test_a_caller_that_dawdles_is_told_from_a_call_that_is_slow(slow: str, evidence: str) -> None:
    source = np.random.default_rng(3)
    usual_spans = table([span for one in range(1_000) for span in _visits(f"u{one:04d}", source)])
    asked = [span for one in range(20) for span in _visits(f"s{one:02d}", source, **{slow: 4.0})]
    found = trace_rarity.fit(usual_spans, seed=1).score(table(asked))
    assert (found.score > np.log(100)).mean() > 0.9
    assert (np.array(found.heads)[found.evidence.argmax(axis=1)] == evidence).mean() > 0.9
    (strongest,) = found.explain(0, table(asked), most=1)
    assert (strongest["evidence"], strongest["span"]["operation"]) == (evidence, slow)


def test_what_was_stored_before_callers_were_judged_apart_scores_as_it_did() -> None:
    now = fitted("trace_rarity")
    assert isinstance(now, trace_rarity.TraceRarity)
    graphs = build(usual().spans, now.vocabulary)
    found = trace_rarity.evidence(now.structure, now.units, graphs, heads=trace_odds.HEADS_BEFORE)
    before = replace(now, heads=trace_odds.Odds.fit(found, graphs))
    again = trace_rarity.load(before.arrays(), before.configuration()).score(usual().spans)
    assert again.heads == trace_odds.HEADS_BEFORE
    np.testing.assert_array_equal(again.score, before.heads.judge(found, graphs).score)
    assert not np.array_equal(again.score, now.score(usual().spans).score)


def test_a_trace_without_suspects_is_as_likely_either_way() -> None:
    graphs = _lone_calls(3)
    np.testing.assert_array_equal(trace_ratios.by_trace(np.full(3, np.nan), graphs), np.zeros(3))


def _steps(trace: str, tools: str) -> list[dict[str, Any]]:
    spans = [{"trace_id": trace, "span_id": "r", "operation": "agent"}]
    for place, tool in enumerate(tools):
        at = {"trace_id": trace, "occurred_at": 10 * place}
        spans.append({**at, "span_id": f"p{place}", "parent_span_id": "r", "operation": "plan"})
        spans.append(
            {**at, "span_id": f"t{place}", "parent_span_id": f"p{place}", "operation": "tool", "service": tool}
        )
    return spans


def test_only_an_agent_that_repeats_itself_until_the_end_is_stuck() -> None:
    turns = ("ab", "abc", "bcab", "cabca", "bcabca", "acb", "cb", "bb", "caa", "abcc")
    spans = table([span for one in range(200) for span in _steps(f"u{one:03d}", turns[one % len(turns)])])
    vocabulary = vocabulary_of(spans)
    structure = Structure.fit(build(spans, vocabulary), operations_of(vocabulary))
    ways = ("abcabc", "aaabc", "abcaaa", "abcaaaaa")
    graphs = build(table([span for way in ways for span in _steps(way, way)]), vocabulary)
    ratio = dict(zip(ways, trace_ratios.by_trace(trace_ratios.stuck(structure, graphs), graphs), strict=True))
    assert ratio["abcabc"] < 0
    assert ratio["aaabc"] < 0
    assert ratio["abcaaaaa"] > ratio["abcaaa"] > np.log(20)


def test_one_call_more_than_ever_is_likelier_wrong_than_one_that_comes_now_and_then() -> None:
    def calls(trace: str, count: int) -> list[dict[str, Any]]:
        root = {"trace_id": trace, "span_id": "r", "operation": "flow"}
        return [root, *({"trace_id": trace, "span_id": str(one), "parent_span_id": "r"} for one in range(count))]

    spans = table([span for one in range(400) for span in calls(f"u{one:03d}", 1 + (one % 20 == 0))])
    vocabulary = vocabulary_of(spans)
    structure = Structure.fit(build(spans, vocabulary), operations_of(vocabulary))
    graphs = build(table([span for count in (1, 2, 3, 4) for span in calls(str(count), count)]), vocabulary)
    for told in (trace_ratios.more_calls, trace_ratios.more_in_all):
        one, two, three, four = trace_ratios.by_trace(told(structure, graphs), graphs)
        assert one < 0 < two < three < four
        assert three - two > np.log(10)


def test_no_ratio_is_believed_beyond_what_calibration_time_bears_out() -> None:
    """Whatever a kind of evidence claims, usual traces that claim it as often bring it down."""
    graphs = build(usual().spans, vocabulary_of(usual().spans))
    wild = {"stuck": np.where(graphs.depth == 0, 40.0, np.nan), "edge": np.zeros(graphs.row.size)}
    odds = trace_odds.Odds.fit(wild, graphs)
    assert odds.judge(wild, graphs).evidence[:, 0].max() < np.log(graphs.traces)


@pytest.mark.parametrize("kind", ["trace_rarity", "gnn_trace"])
def test_every_kind_of_evidence_is_silent_in_most_usual_traces(kind: str) -> None:
    found = fitted(kind).score(other().spans)
    assert found.heads == trace_odds.HEADS
    assert (found.evidence > np.log(20)).mean(axis=0).max() < 0.03


def test_loops_are_found_by_counting_alone() -> None:
    one = trace_rarity.fit(usual().spans, seed=1)
    faults = trace_faults.faulty("traces", 10, seed=6)
    level = np.quantile(one.score(other().spans).score, 0.98)
    loops = (faults.kinds == "loop") & (faults.magnitudes >= 2)
    found = one.score(faults.spans)
    assert (found.score[loops] > level).mean() > 0.9
    strongest = found.evidence[loops].argmax(axis=1)
    assert np.isin(np.array(found.heads)[strongest], ["stuck", "more_calls", "more_in_all"]).mean() > 0.7
