"""Two models of traces beside each other: what is not surely as good is refused, by chance or not."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.anomaly import trace_detector
from models.anomaly.confidence import at_least, lowest_mean, lowest_precision
from models.anomaly.evaluation import Labels, auc_pr
from models.anomaly.series import Floats
from models.anomaly.trace_judgement import TraceJudgement, judge, refusal
from models.anomaly.trace_model import with_threshold
from tests.bench import trace_faults


def judgement(usual: Floats, broken: Floats, *, false_share: float = 0.002) -> TraceJudgement:
    labels: Labels = np.arange(usual.size + broken.size) >= usual.size
    precision = auc_pr(np.concatenate((usual, broken)), labels)
    return TraceJudgement(precision, 0.5, false_share, float(labels.mean()), usual.size, usual, broken)


def drawn(seed: int, *, apart: float) -> TraceJudgement:
    source = np.random.default_rng(seed)
    return judgement(source.standard_normal(600), source.standard_normal(300) + apart)


@cache
def fitted(traces: int) -> TraceJudgement:
    spans = trace_faults.usual("traces", traces, seed=21).spans
    model = with_threshold(trace_detector.fit("trace_rarity", spans, seed=1))
    return judge(model, trace_faults.usual("traces", 800, seed=22).spans)


def test_a_model_takes_over_from_itself_and_a_better_one_from_a_worse() -> None:
    assert refusal(fitted(1_500), fitted(1_500)) == ""
    assert refusal(drawn(1, apart=2.0), drawn(1, apart=1.0)) == ""


def test_a_worse_one_is_refused_beside_its_champion() -> None:
    spoilt = replace(
        fitted(1_500),
        usual=np.random.default_rng(1).permutation(fitted(1_500).usual),
        broken=np.where(np.arange(fitted(1_500).broken.size) % 3 == 0, np.nan, fitted(1_500).broken),
    )
    assert "on the same faults" in refusal(spoilt, fitted(1_500))
    assert "on the same faults" in refusal(drawn(1, apart=1.0), drawn(1, apart=1.3))


@pytest.mark.parametrize("seed", range(4))
def test_what_cannot_be_told_from_worse_is_refused(seed: int) -> None:
    # Two models that find different faults, each as many: one draw would let the luckier one through.
    one, other = drawn(seed, apart=1.0), drawn(seed + 100, apart=1.0)
    assert refusal(one, other)
    assert refusal(other, one)


def test_the_first_champion_has_to_beat_chance_surely() -> None:
    assert refusal(fitted(1_500), None) == ""
    assert "chance" in refusal(drawn(2, apart=0.0), None)


def test_what_alarms_far_more_often_than_promised_is_refused_unless_the_champion_does() -> None:
    good = fitted(1_500)
    noisy = replace(good, false_share=0.05)
    assert "promised" in refusal(noisy, good)
    assert "promised" in refusal(noisy, None)
    assert refusal(noisy, noisy) == ""
    # Twelve of 800 where eight are expected at most is no proof.
    assert refusal(replace(good, false_share=12 / 800, traces=800), good) == ""


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, np.nan]), min_size=4, max_size=40), st.integers(1, 3))
def test_the_bound_is_below_the_figure_and_nothing_between_equals(values: list[float], found: int) -> None:
    scores = np.array([0.5, *values])
    labels = np.arange(scores.size) >= scores.size - found
    assert lowest_precision(scores, labels, scores) == 0.0
    assert lowest_precision(scores, labels) <= auc_pr(scores, labels) + 0.5
    perfect = labels.astype(float)
    assert lowest_precision(perfect, labels) == 1.0
    assert lowest_precision(scores, labels, perfect) <= 0.0


def test_bounds_by_hand() -> None:
    assert lowest_mean(np.full(9, 0.25)) == pytest.approx(0.25)
    assert lowest_mean(np.array([1.0, -1.0] * 50)) == pytest.approx(-0.16, abs=0.03)
    assert at_least(0, 3.0) == 1.0
    assert at_least(1, 0.0) == 0.0
    assert at_least(2, 1.0) == pytest.approx(1 - 2 / np.e)
