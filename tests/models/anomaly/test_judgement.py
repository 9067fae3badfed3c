"""A challenger that is worse is refused and one as good is not: by models that were really fitted, on little time."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from models.anomaly import autoencoder, detector, fleet
from models.anomaly.fleet import Fleet, Units
from models.anomaly.judgement import CELLS_MIN, FAULTS_MIN, ROUNDS_MAX, Judgement, judge, refusal, spread_of
from models.anomaly.refusals import NotEnoughData
from models.anomaly.series import Series
from models.anomaly.training import Trainer
from tests.models.anomaly.synthetic import series_of, usual

torch.set_num_threads(1)

BUDGET = 0.5
# Hardly more than a day, in which one round has four faults.
HELD_ROWS = 464


def _series(rows: int, *, seed: int, first: int = 0) -> dict[str, Series]:
    quiet = usual(rows, seed=seed + 50, first=first) * np.float32(0.01) + np.float32(3)
    return {
        "busy": series_of(usual(rows, seed=seed, first=first), first=first),
        "quiet": series_of(quiet, first=first),
    }


@cache
def pca(seed: int, *, permuted: bool = False) -> Fleet:
    """Fitted on days of a world; permuted: each feature by itself, so that none says anything of another."""
    told = _series(1_500, seed=seed)
    if permuted:
        mixed = np.random.default_rng(seed)
        told = {name: one.with_values(mixed.permuted(one.values, axis=0)) for name, one in told.items()}
    units = Units.fit(told, seasons=True)
    head = detector.fit("pca", list(fleet.residuals_of(units, told).values()), seed=1)
    return fleet.assemble(units, head, told)


@cache
def network(steps: int, *, seed: int = 1) -> Fleet:
    told = _series(3_000, seed=0)
    units = Units.fit(told, seasons=True)
    recipe = autoencoder.Autoencoding(autoencoder.Shape(len(units.features), steps=steps))
    trainer = Trainer(recipe, list(fleet.residuals_of(units, told).values()), seed=seed)
    trainer.run(None)
    return fleet.assemble(units, trainer.finish(), told)


def verdict(challenger: Fleet, champion: Fleet) -> str:
    """As `promote` comes to it."""
    held = _series(HELD_ROWS, seed=21, first=3_000 - 64)
    first, spread = dict.fromkeys(held, 64), spread_of(champion)
    ours, theirs = (judge(one, held, first, compared=True, spread=spread) for one in (challenger, champion))
    return refusal(ours, theirs, budget_per_day=BUDGET)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_network_of_a_few_steps_does_not_take_over_from_a_trained_one(steps: int) -> None:
    assert "on the same faults" in verdict(network(steps, seed=9), network(500))


def test_the_trained_one_takes_over_from_it_and_from_itself() -> None:
    assert verdict(network(500), network(2, seed=9)) == ""
    assert verdict(network(500), network(500)) == ""


def test_one_of_permuted_rows_is_refused_and_one_of_other_days_of_the_same_world_is_not() -> None:
    assert "on the same faults" in verdict(pca(0, permuted=True), pca(0))
    assert verdict(pca(3), pca(0)) == ""
    assert verdict(pca(0), pca(3)) == ""


def test_wide_units_make_no_fault_easier() -> None:
    wide = pca(0, permuted=True)
    wide = replace(wide, units=replace(wide.units, spread=wide.units.spread * np.float32(4)))
    assert "on the same faults" in verdict(wide, pca(0))


def test_one_that_alarms_far_more_often_is_refused() -> None:
    good = pca(0)
    restless = replace(
        good, thresholds={name: replace(one, value=one.value / 4) for name, one in good.thresholds.items()}
    )
    assert "alarms on held-back time" in verdict(restless, good)
    # The champion is no better in that, so nothing is lost.
    assert verdict(restless, restless) == ""


def test_a_comparison_has_more_faults_than_held_back_time_has_room_for() -> None:
    held = _series(HELD_ROWS, seed=21)
    first = dict.fromkeys(held, 64)
    once, compared = judge(pca(0), held, first), judge(pca(0), held, first, compared=True)
    assert len(once.cells) == 2
    assert CELLS_MIN <= len(compared.cells) <= 2 * ROUNDS_MAX
    assert {key: compared.cells[key] for key in once.cells} == once.cells
    assert (once.alarms, once.days) == (compared.alarms, compared.days)
    assert judge(pca(0), held, first, compared=True) == compared
    # Weeks have room for all faults at once, but one series is one pair of figures a round.
    long = {"busy": series_of(usual(9_000, seed=5))}
    assert len(judge(pca(0), long, {"busy": 0}, compared=True).cells) == CELLS_MIN
    assert FAULTS_MIN < 24 * 9_000 // 200


def test_a_fitted_model_finds_planted_faults_and_no_entity_it_does_not_know() -> None:
    held = _series(1_000, seed=21)
    first = dict.fromkeys(held, 64)
    good = judge(pca(0), held, first)
    assert good.average_precision > 3 * good.random_precision
    assert refusal(good, None, budget_per_day=BUDGET) == ""
    with pytest.raises(NotEnoughData):
        judge(pca(0), {"new": held["busy"]}, {"new": 0})


def _told(precisions: list[float], *, alarms: int = 0, days: float = 10.0, name: str = "e") -> Judgement:
    cells = {(name, number): (precision, 0.05) for number, precision in enumerate(precisions)}
    return Judgement(float(np.mean(precisions)), 0.5, 1.0, alarms / days, 0.05, 1, 1_000, days, cells)


def test_what_cannot_be_told_from_worse_is_refused() -> None:
    even = [0.5 + 0.1 * (number % 2) for number in range(40)]
    champion = _told(even)
    assert refusal(_told([one - 0.01 for one in even]), champion, budget_per_day=BUDGET) == ""
    assert "0.030 below" in refusal(_told([one - 0.03 for one in even]), champion, budget_per_day=BUDGET)
    # As good on average, but by five rounds far apart nobody can say so.
    assert "on the same faults" in refusal(_told([0.9, 0.1, 0.9, 0.1, 0.5]), _told([0.5] * 5), budget_per_day=BUDGET)
    assert "none of the entities" in refusal(_told(even, name="other"), champion, budget_per_day=BUDGET)


@pytest.mark.parametrize(
    ("alarms", "days", "may"), [(8, 10.0, True), (10, 10.0, False), (1, 0.7, True), (3, 0.7, False)]
)
def test_alarms_are_refused_where_the_budget_hardly_explains_them(alarms: int, days: float, may: bool) -> None:
    calm = _told([0.5] * 30, days=days)
    assert (refusal(_told([0.5] * 30, alarms=alarms, days=days), calm, budget_per_day=BUDGET) == "") is may


def test_a_first_champion_has_to_beat_chance_surely() -> None:
    assert refusal(_told([0.2] * 30), None, budget_per_day=BUDGET) == ""
    assert "chance" in refusal(_told([0.05] * 30), None, budget_per_day=BUDGET)
    assert "chance" in refusal(_told([0.02, 0.12, 0.03, 0.04, 0.05, 0.05]), None, budget_per_day=BUDGET)
