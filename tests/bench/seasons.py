"""A simulated service by seasons: usual rows of day, week and year with a load that has memory, from seeds."""

from __future__ import annotations

from typing import Final

import numpy as np

from models.anomaly import detector, fleet
from models.anomaly.fleet import Fleet, Units
from models.anomaly.series import Matrix, Series

STEP_S: Final = 300
DAY: Final = 86_400 // STEP_S
FEATURES: Final = ("requests_log", "error_share", "latency_log", "ttft_log", "tokens_log", "cost_log")
# What the mean of a feature moves with: load by time of day, by day of the week, common noise, own noise.
_DAILY: Final = np.array([0.9, 0.02, 0.25, 0.15, 0.05, 0.05])
_WEEKLY: Final = np.array([0.5, 0.01, 0.10, 0.05, 0.10, 0.10])
_COMMON: Final = np.array([0.10, 0.01, 0.08, 0.06, 0.03, 0.03])
_OWN: Final = np.array([0.08, 0.03, 0.10, 0.10, 0.06, 0.06])
# Deviation of noise about what the seasons tell.
NOISE: Final = _OWN + _COMMON
_LEVEL: Final = np.array([5.0, 0.1, 7.5, 6.0, 7.0, 8.0])


def world(days: int, *, seed: int, first_day: int = 0) -> Matrix:
    """(days * DAY, f) usual rows: seasons of day, week and year, a common load with memory, own noise."""
    source = np.random.default_rng((seed, first_day))
    at = (first_day * DAY + np.arange(days * DAY)) / DAY
    load = np.zeros(at.size)
    kicks = source.standard_normal(at.size)
    for row in range(1, at.size):
        load[row] = 0.9 * load[row - 1] + 0.44 * kicks[row]
    daily = np.sin(2 * np.pi * (at - 0.3))
    weekly = np.where(at.astype(int) % 7 < 5, 0.4, -1.0)
    yearly = 0.25 * np.sin(2 * np.pi * at / 365)
    means = _LEVEL + np.outer(daily, _DAILY) + np.outer(weekly, _WEEKLY) + np.outer(load, _COMMON)
    means[:, 0] += yearly
    return (means + _OWN * source.standard_normal(means.shape)).astype(np.float32)


def series_of(values: Matrix, first_day: int) -> Series:
    """Rows from a day on."""
    return Series(values, FEATURES, STEP_S, first_day * 86_400 * 1_000_000)


def fitted(values: Matrix, first_day: int) -> Fleet:
    """The cheapest fleet of one entity."""
    series = {"e": series_of(values, first_day)}
    units = Units.fit(series, seasons=True)
    head = detector.fit("pca", list(fleet.residuals_of(units, series).values()), seed=1)
    return fleet.assemble(units, head, series)
