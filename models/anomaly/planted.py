"""Faults planted into held-back time, always the same for a seed: what a model is judged by where nobody has labels."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np

from models.anomaly.evaluation import Labels
from models.anomaly.series import Matrix, Series

# Spreads by which a fault moves a feature.
MAGNITUDES: Final = (2.0, 3.0, 5.0)
_LENGTHS: Final = (8, 30)
# Rows from one fault to the next, on average: enough for a score to come back to rest.
_APART: Final = 180
_LEVEL, _JOINT, _SPREAD = range(3)


@dataclass(frozen=True, slots=True, eq=False)
class Planted:
    """A series with faults.

    Attributes:
        labels: (n,) rows inside a fault.
        events: (first row, one after the last) of each.
    """

    series: Series
    labels: Labels
    events: tuple[tuple[int, int], ...]


def plant(series: Series, spread: Matrix, *, name: str, first: int, seed: int) -> Planted:
    """Faults of three kinds: one feature moves, three move together, one becomes restless.

    Args:
        spread: (f,) robust spread of each feature in training time.
        name: of the entity; other entities get faults at other times.
        first: no fault begins before this row.
    """
    generator = np.random.default_rng((seed, zlib.crc32(name.encode())))
    values = series.values.copy()
    labels = np.zeros(series.rows, bool)
    events = []
    at = first + int(generator.integers(_APART // 4, _APART))
    while at + _LENGTHS[1] < series.rows:
        stop = at + int(generator.integers(*_LENGTHS))
        _fault(values[at:stop], spread, generator)
        labels[at:stop] = True
        events.append((at, stop))
        at = stop + int(generator.integers(_APART // 2, 3 * _APART // 2))
    return Planted(series.with_values(values), labels, tuple(events))


def _fault(rows: Matrix, spread: Matrix, generator: np.random.Generator) -> None:
    """Change a view of rows in place; missing values stay missing."""
    kind, size = int(generator.integers(3)), float(generator.choice(MAGNITUDES))
    moved = generator.permutation(rows.shape[1])[: 3 if kind == _JOINT else 1]
    sign = generator.choice((-1.0, 1.0), moved.size)
    if kind == _SPREAD:
        rows[:, moved] += size * spread[moved] * generator.standard_normal((rows.shape[0], moved.size))
    else:
        rows[:, moved] += size * spread[moved] * sign
