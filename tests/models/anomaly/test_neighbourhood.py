"""A fleet: what all do together is no alarm, one entity's fault is its own, and nothing is read ahead."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.anomaly import neighbourhood
from models.anomaly.fleet_series import FleetSeries, off_level, pooled
from models.anomaly.refusals import NotEnoughData, SeriesInvalid
from models.anomaly.series import Floats, Series

STEP_S = 900
DAY = 86_400 // STEP_S
TENANTS = ("a", "a", "b", "b", "c", "c")


def fleet(values: Floats) -> FleetSeries:
    """(n, 6, 3): two models each of three tenants."""
    series = tuple(
        Series(values[:, number].astype(np.float32), ("load", "errors", "tokens"), STEP_S, 0) for number in range(6)
    )
    groups = (("tenant", TENANTS), ("model", ("x", "y") * 3))
    return FleetSeries(tuple(f"{tenant}{number}" for number, tenant in enumerate(TENANTS)), series, groups)


@cache
def usual(days: int = 20) -> Floats:
    source = np.random.default_rng(3)
    time = np.arange(days * DAY)[:, None, None] / DAY
    common = np.convolve(source.standard_normal(days * DAY + 9), np.ones(10) / 4, "valid")[:, None, None]
    wave = np.sin(2 * np.pi * time) * np.array([2.0, 0.0, 1.0])
    return wave + common * np.array([1.0, 0.2, 0.5]) + 0.3 * source.standard_normal((days * DAY, 6, 3))


@cache
def fitted() -> neighbourhood.FleetDetector:
    return neighbourhood.fit(fleet(usual()[: 14 * DAY]))


def test_a_fault_of_one_entity_is_told_of_that_entity_and_its_feature() -> None:
    values = usual().copy()
    start = 17 * DAY
    values[start : start + 8, 3, 2] += 4.0
    found = fitted().score(fleet(values))
    inside = found.score[start : start + 8]
    assert inside[1:, 3].min() > np.log(1_000)
    assert np.median(np.delete(inside, 3, axis=1)) < np.log(20)
    assert found.share[start + 3, 3].argmax() == 2
    assert found.share[start + 3].sum(axis=1) == pytest.approx(1.0, abs=1e-5)


def test_a_wave_that_lifts_all_is_less_of_a_surprise_than_one_that_lifts_one() -> None:
    together, alone = usual().copy(), usual().copy()
    start = 17 * DAY
    together[start : start + 6] += 1.5 * np.array([1.0, 0.2, 0.5])
    alone[start : start + 6, 0] += 1.5 * np.array([1.0, 0.2, 0.5])
    rows = slice(start, start + 6)
    lifted = fitted().score(fleet(together)).score[rows, 0].max()
    assert lifted < fitted().score(fleet(alone)).score[rows, 0].max()


@pytest.mark.parametrize("cut", [5, 300, 1_500])
def test_no_later_row_is_read(cut: int) -> None:
    whole = fitted().score(fleet(usual())).score
    early = fitted().score(fleet(usual()[:cut])).score
    np.testing.assert_allclose(early, whole[:cut], rtol=1e-6, atol=1e-6)


def test_a_stored_fleet_scores_the_same_to_the_last_bit() -> None:
    one = fitted()
    arrays = {name: array.copy() for name, array in one.arrays().items()}
    assert all(array.dtype != object for array in arrays.values())
    again = neighbourhood.load(arrays, json.loads(json.dumps(one.configuration())))
    np.testing.assert_array_equal(one.score(fleet(usual())).score, again.score(fleet(usual())).score)


def test_a_silent_entity_has_no_score_and_the_others_keep_theirs() -> None:
    values = usual().copy()
    values[16 * DAY : 16 * DAY + 5, 2] = np.nan
    found = fitted().score(fleet(values)).score[16 * DAY : 16 * DAY + 5]
    assert np.isnan(found[:, 2]).all()
    assert np.isfinite(np.delete(found, 2, axis=1)).all()


def test_other_entities_features_or_steps_and_too_short_a_time_are_refused() -> None:
    given = fleet(usual())
    with pytest.raises(SeriesInvalid, match="other entities"):
        fitted().score(FleetSeries(tuple("uvwxyz"), given.series, given.groups))
    with pytest.raises(SeriesInvalid, match="each named once"):
        FleetSeries(("a",) * 6, given.series)
    with pytest.raises(SeriesInvalid, match="members"):
        FleetSeries(given.entities, given.series, (("tenant", ("a",)),))
    with pytest.raises(NotEnoughData, match="3 are needed"):
        neighbourhood.fit(fleet(usual()[: 2 * DAY]))


@given(st.floats(-50, 50), st.floats(2, 20))
@settings(max_examples=25)
def test_a_level_that_stays_is_forgotten_and_one_row_moves_it_by_a_bounded_step(
    height: float, half_life: float
) -> None:
    values = np.zeros((2_000, 1, 1))
    values[1:] = height
    left = off_level(values, half_life=half_life)[:, 0, 0]
    assert abs(left[-1]) < abs(height) * 0.5 + 1e-9
    assert abs(left[1] - left[2]) <= 1.0


@given(st.integers(0, 50))
def test_what_one_member_does_is_not_told_of_its_group(seed: int) -> None:
    values = np.zeros((5, 6, 1))
    member = seed % 6
    values[:, member] = 9.0
    for one in pooled(values, fleet(usual()).groups):
        assert (one == 0).all()
