"""Traces: graphs of spans in any order and any state, and promises that both detectors of traces keep."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.anomaly import gnn_trace, trace_detector, trace_rarity
from models.anomaly.refusals import DetectorUnknown, ModelUnreadable, NotEnoughData, SpansInvalid
from models.anomaly.trace_detector import TRACE_DETECTORS
from models.anomaly.trace_graph import (
    REASONS,
    SPANS_PER_TRACE_MAX,
    Graphs,
    build,
    depths,
    vocabulary_of,
)
from models.anomaly.trace_network import Batch, Shape, SpanNetwork
from models.anomaly.trace_scores import FittedTraces, Heads
from tests.bench import trace_faults

torch.set_num_threads(1)
KINDS = tuple(TRACE_DETECTORS)


def table(spans: list[dict[str, Any]]) -> pa.Table:
    """Spans with defaults: one trace, one operation, a millisecond each."""
    usual = {"trace_id": "t", "parent_span_id": None, "operation": "call", "occurred_at": 0, "latency_ms": 1.0}
    usual["service"] = None
    return pa.Table.from_pylist([{**usual, **span} for span in spans])


@cache
def usual() -> trace_faults.Traces:
    return trace_faults.usual("traces", 1_500, seed=11)


@cache
def fitted(kind: str) -> FittedTraces:
    if kind == gnn_trace.KIND:
        trainer = gnn_trace.TraceTrainer(usual().spans, seed=1)
        # A third of the steps is enough for what is promised here.
        trainer.steps = 200
        while trainer.done < trainer.steps:
            trainer.step()
        return trainer.finish()
    return trace_detector.fit(kind, usual().spans, seed=1)


@cache
def other() -> trace_faults.Traces:
    return trace_faults.usual("traces", 600, seed=12)


def test_own_time_leaves_out_what_children_took_and_counts_their_overlap_once() -> None:
    spans = table(
        [
            {"span_id": "a", "latency_ms": 100.0},
            {"span_id": "b", "parent_span_id": "a", "occurred_at": 10_000, "latency_ms": 40.0},
            {"span_id": "c", "parent_span_id": "a", "occurred_at": 30_000, "latency_ms": 40.0},
            # It goes on after its caller: only what lies within counts.
            {"span_id": "d", "parent_span_id": "a", "occurred_at": 90_000, "latency_ms": 50.0},
        ]
    )
    graphs = build(spans, vocabulary_of(spans))
    assert np.expm1(graphs.values[:, 0]) == pytest.approx([30.0, 40.0, 40.0, 50.0], rel=1e-4)
    assert graphs.parent.tolist() == [-1, 0, 0, 0]
    assert graphs.previous.tolist() == [-1, -1, 1, 2]
    assert graphs.position.tolist() == [0, 0, 1, 2]


@st.composite
def forests(draw: st.DrawFn) -> list[int]:
    """Parents of each span, any of them, also later ones and itself: rings may be."""
    count = draw(st.integers(1, 40))
    return draw(st.lists(st.integers(-1, count - 1), min_size=count, max_size=count))


@given(forests())
def test_depth_and_rings_are_those_found_by_walking(parents: list[int]) -> None:
    depth, cyclic = depths(np.array(parents))
    for number in range(len(parents)):
        steps, at = 0, number
        while parents[at] >= 0 and steps <= len(parents):
            at, steps = parents[at], steps + 1
        assert cyclic[number] == (steps > len(parents))
        if not cyclic[number]:
            assert depth[number] == steps


@given(st.permutations(range(30)))
@settings(max_examples=20)
def test_the_order_of_rows_and_spans_told_twice_change_nothing(order: list[int]) -> None:
    spans = usual().spans.slice(0, 30)
    expected = build(spans, vocabulary_of(usual().spans))
    mixed = pa.concat_tables([spans.take(order), spans.slice(3, 4)])
    found = build(mixed, vocabulary_of(usual().spans))
    by_name = [found.trace_ids.index(name) for name in expected.trace_ids]
    again = found.take(np.array(by_name))
    for column in ("label", "parent", "previous", "depth", "failed", "values", "first"):
        np.testing.assert_array_equal(getattr(again, column), getattr(expected, column))


@given(st.integers(0, 500), st.integers(1, 40))
def test_a_trace_is_judged_alike_alone_and_among_others(start: int, count: int) -> None:
    one = fitted("trace_rarity")
    whole = one.score(other().spans)
    names = other().trace_ids[start : start + count]
    part = one.score(other().spans.filter(pa.compute.is_in(other().spans["trace_id"], pa.array(names))))
    assert part.trace_ids == tuple(names)
    np.testing.assert_array_equal(part.score, whole.score[start : start + count])


@pytest.mark.parametrize("kind", KINDS)
def test_a_usual_trace_is_no_surprise_and_a_broken_one_is(kind: str) -> None:
    one = fitted(kind)
    calm = one.score(other().spans)
    assert np.isfinite(calm.score).all()
    # A surprisal: about one in a hundred is above ln 100.
    assert (calm.score > np.log(100)).mean() < 0.04
    faults = trace_faults.faulty("traces", 4, seed=3)
    found = one.score(faults.spans)
    for fault in ("retry_storm", "missing_guardrail", "new_edge", "dead_tool", "fan_out"):
        assert np.median(found.score[faults.kinds == fault]) > np.log(100), fault


def test_only_the_network_sees_writing_that_the_output_does_not_explain() -> None:
    faults = trace_faults.faulty("traces", 12, seed=4)
    late = (faults.kinds == "slow_decoding") & (faults.magnitudes == 3.0)
    found = {}
    for kind in KINDS:
        level = np.quantile(fitted(kind).score(other().spans).score, 0.98)
        found[kind] = (fitted(kind).score(faults.spans).score[late] > level).mean()
    assert found["gnn_trace"] > found["trace_rarity"]
    assert found["gnn_trace"] > 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_evidence_names_the_span_and_its_caller(kind: str) -> None:
    faults = trace_faults.faulty("traces", 2, seed=5)
    spans = faults.spans
    found = fitted(kind).score(spans)
    number = int(np.flatnonzero(faults.kinds == "new_edge")[0])
    told = found.explain(number, spans, most=12)
    (edge,) = [line for line in told if line["evidence"] == "edge"]
    assert edge["span"]["service"] == "unlisted-host"
    assert edge["caller"]["operation"] == "execute_tool"
    # A logarithm of odds: seven to one at least.
    assert edge["surprisal"] > 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_detector_scores_the_same_to_the_last_bit(kind: str) -> None:
    one = fitted(kind)
    arrays = {name: array.copy() for name, array in one.arrays().items()}
    assert all(array.dtype != object for array in arrays.values())
    again = trace_detector.load(kind, arrays, json.loads(json.dumps(one.configuration())))
    before, after = one.score(other().spans), again.score(other().spans)
    np.testing.assert_array_equal(before.score, after.score)
    np.testing.assert_array_equal(before.suspect, after.suspect)


def _of_before(kind: str) -> FittedTraces:
    """As detectors were before there were odds: the largest of surprisals."""
    one = fitted(kind)
    assert isinstance(one, trace_rarity.TraceRarity | gnn_trace.TraceGraphs)
    vocabulary, _, late = trace_rarity.split(usual().spans)
    if isinstance(one, trace_rarity.TraceRarity):
        found = trace_rarity.rarity(one.structure, one.units, late)
        names = ("edge", "many", "repeated", "in_a_row", "missing", "template", "failure", "value")
        return replace(one, heads=Heads.fit({name: found[name] for name in names}, late))
    reach = np.ones((2, len(vocabulary) + 1, 5), np.float32)
    off = gnn_trace.expected(one.network, one.shape, one.units, late)
    found = gnn_trace.largest(one.structure, one.units, late, off, reach=reach, alone=0.75)
    names = ("edge", "in_a_row", "missing", "failure", "operation", "slow_self", "slow_rest", "fast", "tokens")
    return replace(one, heads=Heads.fit({name: found[name] for name in names}, late), reach=reach, alone=0.75)


@pytest.mark.parametrize("kind", KINDS)
def test_a_detector_of_before_scores_by_the_evidence_that_it_has(kind: str) -> None:
    """Without runs and steps, operations of labels and times of failures; by the label alone, every span in full."""
    new = {f"structure.{name}" for name in ("runs", "operations", "steps", "again", "last")} | {"units.failed"}
    absent = ("in_a_row", "failure")
    one = _of_before(kind)
    assert np.isfinite(one.score(other().spans).score).all()
    arrays = {name: held for name, held in one.arrays().items() if name not in new and not name.endswith(absent)}
    told = one.configuration()
    assert "way" not in told
    told["heads"] = [name for name in told["heads"] if name not in absent]
    told.pop("alone", None)
    before = trace_detector.load(kind, arrays, told)
    found = before.score(other().spans)
    assert found.heads == tuple(told["heads"])
    assert np.isfinite(found.score).all()
    assert before.configuration().get("alone", 1.0) == 1.0
    again = trace_detector.load(kind, before.arrays(), before.configuration())
    np.testing.assert_array_equal(again.score(other().spans).score, found.score)


@pytest.mark.parametrize("kind", KINDS)
def test_a_detector_that_was_altered_is_refused(kind: str) -> None:
    arrays, told = fitted(kind).arrays(), fitted(kind).configuration()
    with pytest.raises(ModelUnreadable):
        trace_detector.load(kind, {}, told)
    with pytest.raises(ModelUnreadable):
        trace_detector.load(kind, arrays, {})
    with pytest.raises(ModelUnreadable):
        trace_detector.load(kind, arrays, {**told, "vocabulary": told["vocabulary"][:-1]})
    with pytest.raises(DetectorUnknown, match="prophet"):
        trace_detector.load("prophet", arrays, told)


@pytest.mark.parametrize("kind", KINDS)
def test_traces_that_are_no_graph_are_set_aside_with_their_reason(kind: str) -> None:
    rings = [{"trace_id": "ring", "span_id": name, "parent_span_id": other} for name, other in ("ab", "bc", "ca")]
    own = [{"trace_id": "self", "span_id": "x", "parent_span_id": "x"}]
    strange = [{"trace_id": "strange", "span_id": "y", "operation": "never heard of"}]
    single = [{"trace_id": "single", "span_id": "z", "operation": "invoke_agent", "service": "agent"}]
    spans = table([*rings, *own, *strange, *single])
    found = fitted(kind).score(spans)
    reasons = dict(zip(found.trace_ids, (REASONS[code] for code in found.reason.tolist()), strict=True))
    assert reasons == {
        "ring": "cyclic_parents",
        "self": "cyclic_parents",
        "strange": "unknown_operations",
        "single": "",
    }
    assert np.isnan(found.score[:3]).all()
    # A lone agent that called nothing is a trace, and no usual one.
    assert found.score[3] > np.log(100)


def test_a_trace_of_a_million_spans_is_set_aside_and_the_others_are_scored() -> None:
    count = 1_000_000
    monster = pa.table(
        {
            "trace_id": pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), ["monster"]).cast(pa.string()),
            "span_id": pa.array(np.arange(count)).cast(pa.string()),
            "parent_span_id": pa.array(np.arange(count) - 1).cast(pa.string()),
            "operation": pa.array(["call"]).take(pa.array(np.zeros(count, np.int32))),
            "occurred_at": np.arange(count),
            "latency_ms": np.ones(count),
        }
    )
    usual_spans = other().spans.select(["trace_id", "span_id", "parent_span_id", "operation", "latency_ms"])
    usual_spans = usual_spans.append_column("occurred_at", other().spans["occurred_at"].cast(pa.int64()))
    spans = pa.concat_tables([monster, usual_spans.slice(0, 12).select(monster.column_names)])
    found = fitted("trace_rarity").score(spans)
    assert count > SPANS_PER_TRACE_MAX
    assert REASONS[found.reason[0]] == "too_many_spans"
    assert (found.reason[1:] != REASONS.index("too_many_spans")).all()


def test_what_is_no_table_of_spans_is_refused() -> None:
    spans = usual().spans
    with pytest.raises(SpansInvalid, match="operation"):
        build(spans.drop_columns(["operation"]), ())
    with pytest.raises(NotEnoughData, match="no spans"):
        build(spans.slice(0, 0), ())
    with pytest.raises(SpansInvalid, match="row 1"):
        build(table([{"span_id": "a"}, {"span_id": None}]), ())
    with pytest.raises(SpansInvalid, match="latency_ms"):
        build(table([{"span_id": "a", "latency_ms": "soon"}]), ())
    with pytest.raises(NotEnoughData, match="200 are needed"):
        trace_detector.fit("trace_rarity", trace_faults.usual("traces", 20, seed=1).spans, seed=1)


@given(st.lists(st.sampled_from([None, -1.0, 0.0, float("nan"), float("inf"), 1e300, 5.0]), min_size=2, max_size=12))
def test_absurd_numbers_are_missing_numbers(values: list[float | None]) -> None:
    spans = table([{"span_id": str(number)} for number in range(len(values))])
    place = spans.column_names.index("latency_ms")
    graphs = build(spans.set_column(place, "latency_ms", pa.array(values, pa.float64())), ("call",))
    assert not np.isinf(graphs.values).any()
    assert np.isfinite(graphs.values[:, 0]).sum() == sum(value in (0.0, 5.0) for value in values)


def _one_trace() -> Graphs:
    spans = other().spans
    graphs = build(spans, vocabulary_of(usual().spans))
    longest = int(np.argmax(np.diff(graphs.first)))
    return graphs.take(np.array([longest]))


def test_no_column_is_told_by_itself() -> None:
    """What a span is expected to be does not change with what it is."""
    graphs = _one_trace()
    network = SpanNetwork(Shape(len(vocabulary_of(usual().spans)) + 1)).eval()
    units = np.nan_to_num(graphs.values)
    with torch.inference_mode():
        mean, _, failing, operation = network(Batch.of(graphs, units, edges=True))
        times = units.copy()
        times[:, :3] += 5.0
        again = network(Batch.of(graphs, times, edges=True))
        torch.testing.assert_close(again[0], mean)
        tokens = units.copy()
        tokens[:, 3:] += 2.0
        again = network(Batch.of(graphs, tokens, edges=True))
        torch.testing.assert_close(again[0][:, 3:], mean[:, 3:])
        torch.testing.assert_close(again[2], failing)
        assert not torch.allclose(again[0][:, :3], mean[:, :3])
        for span in range(min(graphs.row.size, 12)):
            before = graphs.label[span]
            graphs.label[span] = (before + 1) % len(vocabulary_of(usual().spans))
            changed = network(Batch.of(graphs, units, edges=True))[3]
            graphs.label[span] = before
            torch.testing.assert_close(changed[span], operation[span])


def test_training_that_was_stopped_goes_on_as_if_it_had_not() -> None:
    spans = usual().spans
    whole, first = (gnn_trace.TraceTrainer(spans, seed=2) for _ in range(2))
    losses = [whole.step() for _ in range(8)]
    for _ in range(3):
        first.step()
    resumed = gnn_trace.TraceTrainer(spans, seed=2)
    resumed.restore(first.state())
    assert [resumed.step() for _ in range(5)] == losses[3:]


def test_the_twin_has_no_edges() -> None:
    batch = Batch.of(_one_trace(), np.nan_to_num(_one_trace().values), edges=False)
    assert batch.near.shape == (2, 0)
