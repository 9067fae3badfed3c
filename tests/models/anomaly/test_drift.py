"""The drift monitor fires on what lasts, and on no weekend, no season of the year and nothing that it cannot know."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from models.anomaly import detector, fleet
from models.anomaly.drift import Drift, Reference
from models.anomaly.fleet import Fleet, Units
from models.anomaly.refusals import NotEnoughData
from models.anomaly.series import Matrix, Series

STEP_S = 300
DAY = 86_400 // STEP_S


def world(days: int, *, first_day: int = 0, swing: float = 0.0) -> Matrix:
    """(rows, 4): a wave of the day, two days of each seven lower by five spreads, and a level that rises each day."""
    source = np.random.default_rng(first_day + 1)
    at = first_day + np.arange(days * DAY) / DAY
    values = np.repeat(np.sin(2 * np.pi * at)[:, None], 4, axis=1)
    values[:, 0] -= 0.5 * (at.astype(int) % 7 >= 5)
    values[:, 1] += swing * at
    return (values + 0.1 * source.standard_normal(values.shape)).astype(np.float32)


def series_of(values: Matrix, first_day: int) -> Series:
    return Series(values, ("calls", "cost", "latency", "tokens"), STEP_S, first_day * 86_400 * 1_000_000)


@cache
def fitted(days: int, swing: float = 0.0) -> Fleet:
    told = {"e": series_of(world(days, swing=swing), 0)}
    units = Units.fit(told, seasons=True)
    return fleet.assemble(units, detector.fit("pca", list(fleet.residuals_of(units, told).values()), seed=1), told)


def looked(known: Fleet, values: Matrix, first_day: int) -> Drift:
    """Two days beside training time, as the job compares them."""
    one = known.units.residual_series(series_of(values, first_day), "e")
    before, after = one.part(0, DAY), one.part(DAY, 2 * DAY)
    return known.reference.compare([after]).lasting(known.reference.compare([before]))


@pytest.mark.parametrize("days", [9, 11, 28])
def test_no_day_of_the_week_is_a_drift(days: int) -> None:
    for day in range(days, days + 8):
        assert looked(fitted(days), world(2, first_day=day), day).drifted == {}


@pytest.mark.parametrize("days", [9, 11, 28])
def test_what_lasts_is_a_drift_on_any_day_of_the_week(days: int) -> None:
    moved = np.array([0, 0, 0.2, 0], np.float32)
    for day in range(days, days + 7):
        assert list(looked(fitted(days), world(2, first_day=day) + moved, day).drifted) == ["latency"]
    gone = world(2, first_day=days)
    gone[:, 3] = np.nan
    assert list(looked(fitted(days), gone, days).drifted) == ["tokens"]


def test_a_level_may_go_on_as_slowly_as_it_did_and_no_faster() -> None:
    known, swing = fitted(28, 0.01), 0.01
    still = known.reference
    blind = Reference(still.edges, still.share, still.limit, still.level, np.zeros(4), still.middle_us)
    later = known.units.residual_series(series_of(world(1, first_day=38, swing=swing), 38), "e")
    assert "cost" in blind.compare([later]).drifted
    for day in range(28, 39):
        assert looked(known, world(2, first_day=day, swing=swing), day).drifted == {}
    faster = world(2, first_day=30, swing=swing) + np.array([0, 0.4, 0, 0], np.float32)
    assert list(looked(known, faster, 30).drifted) == ["cost"]


def test_a_day_of_the_week_that_was_never_seen_says_nothing_of_levels() -> None:
    known = fitted(5)
    assert looked(known, world(2, first_day=5), 5).drifted == {}
    restless = world(2, first_day=5)
    restless[:, 2] += np.random.default_rng(0).normal(0, 0.5, 2 * DAY).astype(np.float32)
    assert list(looked(known, restless, 5).drifted) == ["latency"]
    # A day that was seen tells of its level.
    moved = world(2, first_day=7) + np.array([0, 0, 0.3, 0], np.float32)
    assert list(looked(known, moved, 7).drifted) == ["latency"]


def test_too_few_rows_are_not_compared() -> None:
    short = fitted(11).units.residual_series(series_of(world(1, first_day=11)[:200], 11), "e")
    with pytest.raises(NotEnoughData, match="240 are needed"):
        fitted(11).reference.compare([short])


def test_a_stored_reference_is_the_same_and_one_of_before_is_read() -> None:
    known = fitted(28, 0.01)
    rows = [known.units.residual_series(series_of(world(1, first_day=30), 30), "e")]
    stored = known.reference.arrays()
    assert Reference.of(stored).compare(rows).index.tobytes() == known.reference.compare(rows).index.tobytes()
    old = Reference.of({f"drift.{name}": stored[f"drift.{name}"] for name in ("edges", "share", "limit")})
    assert (old.level == 0).all() and (old.move == 0).all()
    assert old.compare(rows).limit.tolist() == stored["drift.limit"].tolist()
