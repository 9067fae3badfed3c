"""Minutes beside the two hours before them: what is found, what is not known yet, and that a look changes nothing."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.contract import event
from models.aggregate.rollup import MINUTE_US, roll
from models.anomaly.features import FEATURES, STEP_S, entity_series
from models.anomaly.recent import BLIND_ROWS, PAST_ROWS, ROWS, THRESHOLD, Recent, recent_series
from models.anomaly.refusals import NotEnoughData
from models.anomaly.series import Floats, Series
from models.anomaly.threshold import decide
from tests.models.aggregate.events import Row, batch_of

START_US = 1_767_225_600_000_000
_COUNTED = event.COUNTED_REQUEST | event.COUNTED_TOKENS | event.COUNTED_LATENCY
_AT = {name: place for place, name in enumerate(FEATURES)}


def usual(rows: int = 400) -> Floats:
    """Quiet minutes of a handful of calls."""
    source = np.random.default_rng(4)
    values = np.full((rows, len(FEATURES)), np.nan)
    values[:, _AT["requests_log"]] = np.log1p(source.poisson(5, rows))
    values[:, _AT["error_share"]] = 0.0
    values[:, _AT["latency_ms_p50_log"]] = source.normal(6, 0.3, rows)
    values[:, _AT["cost_per_token_log"]] = source.normal(8, 0.05, rows)
    return values


def of(values: Floats) -> Recent:
    return Recent.of(Series(values.astype(np.float32), FEATURES, STEP_S, START_US))


def test_usual_minutes_of_a_handful_of_calls_alarm_nothing() -> None:
    assert decide(of(usual(2_000)).scores.score, THRESHOLD) == []


@pytest.mark.parametrize(
    ("feature", "moved"),
    [("requests_log", 2.0), ("error_share", 0.4), ("latency_ms_p50_log", 1.5), ("cost_per_token_log", 0.5)],
)
def test_one_feature_alone_is_found_within_the_rows_judged_together_and_named(feature: str, moved: float) -> None:
    values = usual()
    values[300:320, _AT[feature]] += moved
    found = of(values)
    [alarm] = decide(found.scores.score, THRESHOLD)
    assert 300 <= alarm.start <= 300 + ROWS
    assert found.drivers(alarm.peak)[0]["feature"] == feature
    assert found.drivers(alarm.peak)[0]["value"] > found.drivers(alarm.peak)[0]["usual"]


def test_silence_of_one_entity_is_found_and_of_all_of_them_is_not_judged() -> None:
    values = usual()
    values[300:320] = np.nan
    assert decide(of(values).scores.score, THRESHOLD) == []
    values[300:320, 0] = 0.0
    values[:300, 0] += 1.5
    assert [300 <= alarm.start <= 310 for alarm in decide(of(values).scores.score, THRESHOLD)] == [True]


def test_what_became_usual_ends_the_alarm() -> None:
    values = usual(600)
    values[300:, _AT["cost_per_token_log"]] += 0.5
    [alarm] = decide(of(values).scores.score, THRESHOLD)
    assert 330 < alarm.end < 300 + PAST_ROWS


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 200))
def test_a_later_look_scores_the_same_rows_alike(cut: int) -> None:
    values = usual()
    values[300:310, _AT["error_share"]] = 0.5
    whole, part = of(values).scores.score[cut:], of(values[cut:]).scores.score
    known = np.isfinite(part)
    assert known.sum() == 400 - cut - BLIND_ROWS
    np.testing.assert_allclose(part[known], whole[known], rtol=1e-6, atol=1e-9)


def test_an_hour_of_calls_is_needed_and_only_who_called_is_judged() -> None:
    def minutes(count: int) -> pa.Table:
        called: list[Row] = [
            {
                "occurred_at": START_US + minute * MINUTE_US,
                "service": "chat",
                "provider": "p",
                "model": "m",
                "counted": _COUNTED,
                "latency_ms": 100.0,
            }
            for minute in range(count)
        ]
        other: Row = {"occurred_at": START_US, "service": "audit", "counted": 0}
        return roll(pa.Table.from_batches([batch_of([*called, other])]), MINUTE_US)

    until_us = START_US + 200 * MINUTE_US
    with pytest.raises(NotEnoughData, match="60 minutes hold calls; more than 60"):
        recent_series(minutes(60), from_us=START_US, to_us=until_us)
    found = recent_series(minutes(61), from_us=START_US, to_us=until_us)
    assert set(found) == {"service=chat", "provider=p,model=m"}
    assert len(entity_series(minutes(61), from_us=START_US, to_us=until_us, dimensions=("service",))) == 2
