"""What is said of an alarm moves the level of those like it, of no other, and never over one that was called real."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.anomaly.lessons import Lessons, Profiles, near
from models.anomaly.threshold import FACTOR_MAX, Threshold, decide

MINUTE = Threshold(value=5.0, step_s=60, budget_per_day=1.0)
FEATURES = 8

Drivers = tuple[dict[str, Any], ...]


def led_by(*parts: tuple[str, float], way: str = "up") -> Drivers:
    """Drivers by feature and share, the largest first."""
    return tuple({"feature": name, "share": share, "direction": way} for name, share in parts)


LOAD = led_by(("requests", 0.7), ("latency", 0.1))
LOAD_DOWN = led_by(("requests", 0.7), ("latency", 0.1), way="down")
TOKENS = led_by(("tokens", 0.5), ("cost", 0.3))


@dataclass(frozen=True, slots=True)
class Word:
    is_true: bool
    score: float
    drivers: Drivers | None


def false(count: int, score: float = 9.0, drivers: Drivers | None = LOAD) -> list[Word]:
    return [Word(False, score, drivers)] * count


def true(count: int, score: float = 30.0, drivers: Drivers | None = TOKENS) -> list[Word]:
    return [Word(True, score, drivers)] * count


def level(said: list[Word], drivers: Drivers = LOAD) -> float:
    return Lessons.of(said, FEATURES).threshold(MINUTE, drivers).level


def test_without_a_false_one_nothing_moves() -> None:
    assert level([]) == 5.0
    assert level(true(50, drivers=LOAD)) == 5.0


def test_while_nothing_real_is_known_a_false_one_is_a_step_and_a_quarter_the_most() -> None:
    assert level(false(1)) == pytest.approx(5.25)
    assert level(false(1, score=5.05)) == pytest.approx(5.05 / 0.97)
    assert level(false(200)) == pytest.approx(6.25)


def test_what_is_driven_by_other_features_or_goes_the_other_way_keeps_its_level() -> None:
    said = [*false(200), *true(100)]
    assert level(said) > 7.0
    assert level(said, TOKENS) == 5.0
    assert level(said, LOAD_DOWN) == 5.0
    assert level(said, ()) == 5.0
    # Nearly the same parts are alike; half of a score that comes from elsewhere is not.
    assert level(said, led_by(("requests", 0.6), ("latency", 0.2))) == level(said)
    assert level(said, led_by(("requests", 0.4), ("tokens", 0.4))) == 5.0


def test_the_level_gets_near_the_highest_false_alarm_and_never_over_it() -> None:
    assert 8.5 < level([*false(2_000), *true(1_000)]) < 9.0 / 0.97
    levels = [level([*false(count), *true(100)]) for count in (1, 5, 25, 125, 625)]
    assert levels == sorted(levels)
    trusted = [level([*false(200), *true(count)]) for count in (0, 1, 5, 25, 125)]
    assert trusted == sorted(trusted)


def test_a_true_one_that_is_alike_holds_the_level_under_it_whichever_way_it_goes() -> None:
    for drivers in (LOAD, LOAD_DOWN):
        assert level([*false(500, score=40.0), *false(500), *true(500), *true(1, 7.0, drivers)]) == 5.0
        assert 6.0 < level([*false(500, score=6.5), *true(500), *true(1, 7.0, drivers)]) <= 0.97 * 7.0
    # Of a true one a looser likeness is enough: it is driven by the same feature, and by another as much.
    assert level([*false(500), *true(500), *true(1, 7.0, led_by(("requests", 0.45), ("errors", 0.35)))]) == 5.0


def test_verdicts_without_drivers_count_for_every_alarm() -> None:
    assert level(false(200, drivers=None), TOKENS) == level(false(200, drivers=None), ()) == pytest.approx(6.25)
    assert level([*false(500, drivers=LOAD), *true(9), *true(1, 8.0, None)]) == 5.0


def test_alarms_that_name_no_drivers_are_alike() -> None:
    assert level(false(200, drivers=()), ()) == pytest.approx(6.25)
    assert level(false(200, drivers=()), LOAD) == 5.0


def test_an_alarm_far_above_all_false_ones_is_always_told() -> None:
    said = [*false(2_000, score=500.0), *true(1_000, score=900.0)]
    assert level(said) == 5.0 * FACTOR_MAX
    assert level([*false(2_000, score=12.0), *true(1_000)]) < 12.5


shares = st.lists(st.floats(0.05, 1.0), max_size=5).map(
    lambda parts: tuple(
        {"feature": f"m{at}", "share": part / max(sum(parts), 1.0), "direction": "up"} for at, part in enumerate(parts)
    )
)
words = st.builds(Word, st.booleans(), st.floats(0.1, 1e4), st.none() | shares)


@given(st.lists(words, max_size=30), shares)
def test_verdicts_only_raise_and_stay_bounded(said: list[Word], drivers: Drivers) -> None:
    found = level(said, drivers)
    assert 5.0 <= found <= 5.0 * FACTOR_MAX
    highest = max((one.score for one in said if not one.is_true), default=0.0)
    assert found <= max(5.0, highest / 0.97) * (1 + 1e-9)


@given(st.lists(shares, min_size=1, max_size=6), shares, st.integers(5, 300))
def test_likeness_is_the_correlation_of_whole_profiles(several: list[Drivers], one: Drivers, features: int) -> None:
    """Against the parts of all features, written out."""

    def whole(drivers: Drivers) -> np.ndarray[Any, np.dtype[np.float64]]:
        parts = np.full(features, np.nan)
        for driver in drivers:
            parts[int(driver["feature"][1:])] = driver["share"]
        rest = max(0.0, 1.0 - float(np.nansum(parts)))
        parts[np.isnan(parts)] = rest / max(features - len(drivers), 1)
        return parts

    found = Profiles.of(several, features).likeness(one)
    for other, told in zip(several, found.tolist(), strict=True):
        mine, its = whole(one) - 1 / features, whole(other) - 1 / features
        size = float(np.linalg.norm(mine) * np.linalg.norm(its))
        if min(np.linalg.norm(mine), np.linalg.norm(its)) > 1e-5:
            assert told == pytest.approx(float(mine @ its) / size, abs=1e-6)


def test_rows_that_are_not_near_cannot_alarm_whatever_was_learned() -> None:
    scores = np.array([1.0, 3.4, 3.6, 5.0, np.nan, 9.0])
    assert near(scores, MINUTE) == [2, 3, 5]


def test_an_alarm_begins_where_it_is_over_the_level_of_what_drives_it() -> None:
    scores = np.array([1.0] * 10 + [8.0] * 4 + [7.0] * 4 + [1.0] * 20)
    factors = np.ones(scores.size)
    factors[10:14] = 2.0
    [alarm] = decide(scores, MINUTE, factors)
    # Told by the row that stands out most over what it had to be, which is not that of the highest score.
    assert (alarm.start, alarm.peak, alarm.score) == (15, 15, 7.0)
    factors[10:18] = 2.0
    assert decide(scores, MINUTE, factors) == []
