"""Thresholds keep their budget, alarms have hysteresis, and neither feedback nor control runs away."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.anomaly.refusals import NotEnoughData, SeriesInvalid
from models.anomaly.series import Floats
from models.anomaly.threshold import FACTOR_MAX, FACTOR_MIN, Threshold, calibrate, decide, follow

MINUTE = Threshold(value=1.0, step_s=60, budget_per_day=1.0)


def scores(*runs: tuple[int, float]) -> Floats:
    """Runs of (rows, score)."""
    return np.concatenate([np.full(rows, score) for rows, score in runs])


def test_one_incident_is_one_alarm_that_starts_when_two_of_three_rows_are_over() -> None:
    (alarm,) = decide(scores((50, 0.1), (5, 1.5), (5, 0.8), (5, 2.0), (50, 0.1)), MINUTE)
    assert (alarm.start, alarm.end, alarm.score) == (51, 65, 2.0)
    assert 60 <= alarm.peak < 65


def test_a_lone_row_alarms_only_when_it_is_far_over() -> None:
    assert decide(scores((50, 0.1), (1, 2.9), (50, 0.1)), MINUTE) == []
    (alarm,) = decide(scores((50, 0.1), (1, 3.1), (50, 0.1)), MINUTE)
    assert (alarm.start, alarm.end, alarm.peak) == (50, 51, 50)


def test_alarms_within_the_gap_are_one_and_beyond_it_two() -> None:
    assert len(decide(scores((20, 2.0), (14, 0.0), (20, 2.0)), MINUTE)) == 1
    assert len(decide(scores((20, 2.0), (16, 0.0), (20, 2.0)), MINUTE)) == 2


def test_rows_without_a_score_raise_no_alarm() -> None:
    assert decide(np.full(100, np.nan), MINUTE) == []
    assert decide(np.zeros(0), MINUTE) == []


@given(st.integers(0, 1_000), st.integers(20, 400))
def test_no_decision_reads_ahead(seed: int, cut: int) -> None:
    """Alarms of the first rows are those of all rows, up to an alarm that is still going on."""
    series = np.random.default_rng(seed).exponential(0.4, 400)
    early = decide(series[:cut], MINUTE)
    whole = [alarm for alarm in decide(series, MINUTE) if alarm.start < cut]
    assert [alarm.start for alarm in early] == [alarm.start for alarm in whole]


@given(st.integers(0, 100), st.sampled_from([0.2, 1.0, 5.0]))
def test_the_budget_holds_over_calibration_time_of_all_entities(seed: int, budget: float) -> None:
    source = np.random.default_rng(seed)
    several = [source.exponential(1.0, 2_000) for _ in range(3)]
    threshold = calibrate(several, step_s=60, budget_per_day=budget)
    raised = sum(len(decide(one, threshold)) for one in several)
    assert raised <= budget * 6_000 * 60 / 86_400


def test_a_larger_budget_never_gives_a_higher_threshold() -> None:
    series = np.random.default_rng(1).exponential(1.0, 5_000)
    levels = [calibrate(series, step_s=60, budget_per_day=budget).value for budget in (0.1, 1.0, 10.0)]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] > levels[2]


def test_what_cannot_be_calibrated_is_refused() -> None:
    with pytest.raises(NotEnoughData, match="99 scored rows"):
        calibrate(np.ones(99), step_s=60, budget_per_day=1.0)
    with pytest.raises(NotEnoughData):
        calibrate([], step_s=60, budget_per_day=1.0)
    with pytest.raises(SeriesInvalid, match="budget_per_day"):
        calibrate(np.ones(500), step_s=60, budget_per_day=0.0)


@given(st.lists(st.integers(0, 500), max_size=200))
def test_the_online_control_stays_bounded_whatever_happens(alarms: list[int]) -> None:
    threshold = MINUTE
    for count in alarms:
        threshold = threshold.after_day(count)
        assert FACTOR_MIN <= threshold.factor <= FACTOR_MAX


def test_the_online_control_brings_alarms_to_the_budget() -> None:
    """Scores drift up by half after calibration: control gets back to about the budget, a fixed threshold does not."""
    source = np.random.default_rng(3)
    threshold = fixed = calibrate(source.exponential(1.0, 20_000), step_s=60, budget_per_day=1.0)
    late, never = [], []
    for day in range(60):
        today = source.exponential(1.5, 1_440)
        raised = len(decide(today, threshold))
        threshold = threshold.after_day(raised)
        if day >= 30:
            late.append(raised)
            never.append(len(decide(today, fixed)))
    assert np.mean(never) > 3.0
    assert np.mean(late) < 1.7


def test_a_threshold_that_follows_keeps_the_budget_when_scores_drift() -> None:
    source = np.random.default_rng(3)
    past, drifted = source.exponential(1.0, 9 * 1_440), source.exponential(2.0, 30 * 1_440)
    fixed = decide(drifted, calibrate(past, step_s=60, budget_per_day=1.0))
    followed = follow(past, drifted, step_s=60, budget_per_day=1.0)
    late = [alarm for alarm in followed if alarm.start >= 12 * 1_440]
    assert len(late) / 18 < 2.0
    assert len(fixed) / 30 > 2 * len(late) / 18


@given(st.integers(0, 30), st.integers(1, 3))
@settings(max_examples=15)
def test_following_reads_no_later_day(seed: int, days: int) -> None:
    source = np.random.default_rng(seed)
    past, scores = source.exponential(1.0, 500), source.exponential(1.0, 4 * 288)
    whole = follow(past, scores, step_s=300, budget_per_day=2.0)
    early = follow(past, scores[: days * 288], step_s=300, budget_per_day=2.0)
    assert early == [alarm for alarm in whole if alarm.start < days * 288]
