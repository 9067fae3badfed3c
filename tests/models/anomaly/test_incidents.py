"""Incidents from scores: merged, told on, closed, and told in units people know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from models.anomaly import detector, fleet
from models.anomaly.fleet import Fleet, Units
from models.anomaly.incidents import CLOSED, OPEN, Incident, Subject, follow, natural, newest
from models.anomaly.scores import Scores
from models.anomaly.series import Series
from models.anomaly.sieve import sieve
from models.anomaly.threshold import Threshold
from tests.models.anomaly.synthetic import STEP_S, series_of, usual

SUBJECT = Subject("acme", "e", 3)
THRESHOLD = Threshold(5.0, STEP_S, 0.5)


@pytest.fixture(scope="module")
def model() -> Fleet:
    series = {"e": series_of(usual(600))}
    units = Units.fit(series, seasons=False)
    return fleet.assemble(units, detector.fit("pca", list(fleet.residuals_of(units, series).values()), seed=1), series)


def found(model: Fleet, levels: list[float], known: list[Incident]) -> list[Incident]:
    series: Series = series_of(usual(len(levels)))
    scores = Scores(np.array(levels), np.full((len(levels), 6), 1 / 6, np.float32))
    return follow(SUBJECT, model, series, scores=scores, threshold=THRESHOLD, known=known)


def test_an_alarm_opens_goes_on_and_closes_under_one_id(model: Fleet) -> None:
    quiet = [1.0] * 20
    [first] = found(model, [*quiet, 6.0, 7.0], [])
    assert (first.state, first.revision, first.model_version) == (OPEN, 0, 3)
    assert found(model, [*quiet, 6.0, 7.0], [first]) == []
    [worse] = found(model, [*quiet, 6.0, 7.0, 20.0], [first])
    assert (worse.anomaly_id, worse.revision, worse.score) == (first.anomaly_id, 1, 20.0)
    assert worse.severity == "critical"
    [ended] = found(model, [*quiet, 6.0, 7.0, 20.0, *[1.0] * 5], [worse])
    assert (ended.state, ended.revision) == (CLOSED, 2)
    assert newest([first, ended, worse]) == {first.anomaly_id: ended}


def test_two_alarms_close_together_are_one_and_far_apart_two(model: Fleet) -> None:
    near = found(model, [*[1.0] * 20, 9.0, 9.0, 1.0, 1.0, 9.0, 9.0, *[1.0] * 9], [])
    far = found(model, [*[1.0] * 20, 9.0, 9.0, *[1.0] * 12, 9.0, 9.0, *[1.0] * 9], [])
    assert (len(near), len(far)) == (1, 2)


def test_an_open_one_without_any_alarm_left_is_closed(model: Fleet) -> None:
    [first] = found(model, [*[1.0] * 20, 9.0, 9.0], [])
    raised = replace(first, threshold=50.0)
    [closed] = found(model, [1.0] * 40, [raised])
    assert (closed.state, closed.revision) == (CLOSED, 1)


def test_drivers_are_told_in_units_of_measures() -> None:
    driver = {"feature": "latency_ms_p50_log", "share": 0.5, "value": np.log1p(900.0), "usual": np.log1p(300.0)}
    told = natural(driver)
    assert (told["measure"], told["direction"]) == ("latency_ms_p50", "up")
    assert (told["value"], told["usual"]) == (pytest.approx(900.0), pytest.approx(300.0))
    share = natural({"feature": "service=a|error_share", "share": 1.0, "value": 0.5, "usual": 0.1})
    assert (share["measure"], share["value"]) == ("error_ratio", 0.25)
    missing = natural({"feature": "cost_log", "share": 1.0, "value": None, "usual": np.log1p(2e6)})
    assert (missing["value"], missing["usual"], missing["direction"]) == (None, pytest.approx(2.0), None)


def test_an_outage_is_left_out_of_training_and_usual_rows_are_not() -> None:
    noise = np.random.default_rng(3).normal(5, 1, (600, 6)).astype(np.float32)
    values = noise.copy()
    values[500:520, 1:5] += 30.0
    series = {"e": series_of(values)}
    left = sieve(Units.fit(series, seasons=False), series)["e"].values
    assert np.flatnonzero(np.isnan(left).all(axis=1)).tolist() == list(range(500, 520))
    clean = {"e": series_of(noise)}
    assert not np.isnan(sieve(Units.fit(clean, seasons=False), clean)["e"].values).any()


@dataclass(frozen=True, slots=True)
class Word:
    is_true: bool
    score: float
    drivers: tuple[dict[str, Any], ...]


def led(model: Fleet, feature: int, score: float, said: Sequence[Word] = ()) -> list[Incident]:
    """An incident at the end of quiet rows, to which one feature adds half of the score, above what is usual."""
    series = series_of(usual(24))
    values = series.values.copy()
    values[20:, feature] = 100.0
    share = np.full((24, 6), 0.1, np.float32)
    share[:, feature] = 0.5
    scores = Scores(np.array([1.0] * 20 + [score] * 4), share)
    return follow(
        SUBJECT, model, series.with_values(values), scores=scores, threshold=THRESHOLD, known=[], verdicts=said
    )


def test_a_verdict_counts_for_alarms_with_the_same_drivers(model: Fleet) -> None:
    [first] = led(model, 2, 6.0)
    assert (first.baseline["features"], first.baseline["threshold_factor"]) == (6, 1.0)
    said = [Word(False, first.score, first.drivers)] * 50
    assert led(model, 2, 6.0, said) == []
    [other] = led(model, 4, 6.0, said)
    assert (other.threshold, other.baseline["threshold_factor"]) == (5.0, 1.0)
    # A higher one is told, with what it had to pass.
    [higher] = led(model, 2, 12.0, said)
    assert higher.threshold == pytest.approx(6.0 / 0.97)
    assert higher.threshold == pytest.approx(5.0 * higher.baseline["threshold_factor"])
    # One of them was real after all: its level is what it was.
    assert led(model, 2, 6.0, [*said, Word(True, 6.0, first.drivers)]) != []
