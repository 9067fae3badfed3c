"""VUS-PR beside a slow transcription of its definition and cases worked out by hand; alarms against events."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.anomaly.evaluation import PERIOD_DEFAULT, auc_pr, events_of, meet, period_of, vus_pr
from models.anomaly.series import Floats


def slow_vus_pr(scores: Floats, labels: Floats, window: int) -> float:
    """The definition row by row: a buffer of each width around each event, 250 thresholds, range recall."""
    size, events = len(labels), [(start, stop - 1) for start, stop in events_of(labels > 0)]
    thresholds = -np.sort(-scores)[np.linspace(0, size - 1, 250).astype(int)]
    areas = []
    for width in range(window + 1):
        weight = labels.astype(float)
        for start, last in events:
            for row in range(size):
                away = row - last if row > last else start - row
                if 0 < away <= width // 2:
                    weight[row] += np.sqrt(1 - away / width)
        weight = np.minimum(weight, 1.0)
        ranges: list[list[int]] = []
        for start, last in events:
            if ranges and ranges[-1][1] >= start - width // 2:
                ranges[-1][1] = last + width // 2
            else:
                ranges.append([max(start - width // 2, 0), last + width // 2])
        area, before = 0.0, 0.0
        for threshold in thresholds:
            alarmed = scores >= threshold
            hits = weight[alarmed].sum()
            positives = (labels.sum() + np.where((labels > 0) | alarmed, weight, 0.0).sum()) / 2
            met = np.mean([alarmed[start : last + 1].any() for start, last in ranges])
            recall = min(hits / positives, 1.0) * met
            area += (recall - before) * hits / alarmed.sum()
            before = recall
        areas.append(area)
    return float(np.mean(areas))


@given(
    seed=st.integers(0, 10_000),
    size=st.integers(20, 120),
    window=st.integers(0, 20),
    ties=st.booleans(),
)
def test_it_equals_the_slow_definition(seed: int, size: int, window: int, ties: bool) -> None:
    source = np.random.default_rng(seed)
    labels = source.random(size) < 0.1
    labels[source.integers(size)] = True
    scores = source.random(size) + labels * source.random()
    scores = np.round(scores, 1) if ties else scores
    assert vus_pr(scores, labels, window=window) == pytest.approx(slow_vus_pr(scores, labels.astype(float), window))


def test_by_hand_without_a_buffer_it_is_average_precision() -> None:
    # Ranked: event, usual, event, usual. Each event is a range; recall counts hits times ranges met.
    labels = np.array([True, False, True, False])
    scores = np.array([4.0, 3.0, 2.0, 1.0])
    # At the first hit: 1/2 of rows and 1/2 of ranges = 1/4 at precision 1. At the second: all, at precision 2/3.
    assert vus_pr(scores, labels, window=0) == pytest.approx(0.25 * 1 + 0.75 * 2 / 3)


def test_a_score_that_is_late_by_less_than_the_buffer_gains_from_it() -> None:
    labels = np.zeros(400, bool)
    labels[100:120] = True
    scores = np.zeros(400)
    scores[110:130] = 1.0
    exact = labels.astype(float)
    assert vus_pr(exact, labels, window=0) == pytest.approx(1.0)
    assert vus_pr(scores, labels, window=40) > vus_pr(scores, labels, window=0) + 0.05
    assert vus_pr(scores, labels, window=40) < vus_pr(exact, labels, window=40)


def test_rows_that_were_not_scored_count_as_the_lowest() -> None:
    labels = np.array([False, True, False, False] * 10)
    scores = np.where(labels, 2.0, 1.0)
    scores[0] = np.nan
    assert vus_pr(scores, labels, window=0) == pytest.approx(1.0)


def test_average_precision_counts_ties_together() -> None:
    labels = np.array([True, False, True, False])
    assert auc_pr(np.ones(4), labels) == pytest.approx(0.5)
    assert auc_pr(np.array([4.0, 3.0, 2.0, 1.0]), labels) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_the_period_is_the_highest_peak_of_the_autocorrelation() -> None:
    time = np.arange(5_000)
    # TSB-AD counts lags from the third on and adds that offset to what it found.
    assert period_of(np.sin(2 * np.pi * time / 50)) == 50
    assert period_of(np.ones(1_000)) == PERIOD_DEFAULT
    assert period_of(time.astype(float)) == PERIOD_DEFAULT


def test_alarms_meet_events_by_overlap_and_the_gap_after_forgives_but_finds_nothing() -> None:
    events = [(10, 20), (50, 60)]
    met = meet([(12, 14), (15, 16), (22, 23), (40, 41)], events, gap=5)
    assert (met.events, met.found, met.alarms, met.false, met.delays) == (2, 1, 4, 1, (2,))
    early = meet([(5, 11)], events, gap=0)
    assert (early.found, early.false, early.delays) == (1, 0, (0,))
    assert meet([], events, gap=0).found == 0


@given(st.lists(st.booleans(), max_size=40))
def test_events_are_the_runs_of_labels(labels: list[bool]) -> None:
    rebuilt = np.zeros(len(labels), bool)
    for start, stop in events_of(np.array(labels, bool)):
        rebuilt[start:stop] = True
    assert rebuilt.tolist() == labels
