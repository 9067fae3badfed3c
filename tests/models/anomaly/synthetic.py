"""Series with known structure: features that move together, a day's season, noise, and planted incidents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.anomaly.series import Matrix, Series

STEP_S = 300


@dataclass(frozen=True, slots=True)
class Planted:
    """A series and the rows [start, stop) in which `feature` no longer follows the others."""

    series: Series
    start: int
    stop: int
    feature: int


def usual(rows: int, features: int = 6, *, seed: int = 0, first: int = 0) -> Matrix:
    """(rows, features): one daily wave and one common load, weighted by feature, and a little noise."""
    source = np.random.default_rng(seed)
    weight = np.random.default_rng(99).uniform(0.5, 2.0, (2, features))
    time = (first + np.arange(rows)) * STEP_S / 86_400
    load = np.convolve(source.standard_normal(rows + 20), np.ones(21) / 5, mode="valid")
    common = np.stack((np.sin(2 * np.pi * time), load), axis=1)
    return (10 + common @ weight + 0.1 * source.standard_normal((rows, features))).astype(np.float32)


def series_of(values: Matrix, *, first: int = 0) -> Series:
    """Named m0, m1 … at steps of STEP_S, from row `first` after the epoch on."""
    names = tuple(f"m{number}" for number in range(values.shape[1]))
    return Series(values, names, STEP_S, first * STEP_S * 1_000_000)


def training(rows: int = 1_500) -> Series:
    """Usual rows from the epoch on."""
    return series_of(usual(rows))


def planted(rows: int = 600, *, feature: int = 2, length: int = 30) -> Planted:
    """Usual rows after `training`, with one feature pushed up, further than it ever moves."""
    values = usual(rows, seed=5, first=1_500)
    start = rows // 2
    values[start : start + length, feature] += 10.0
    return Planted(series_of(values, first=1_500), start, start + length, feature)
