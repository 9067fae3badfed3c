"""Plain statistics that detectors are made of: location and spread, smoothing, change sums."""

from __future__ import annotations

import warnings
from typing import Final

import numpy as np

from models.anomaly.series import Matrix

# Interquartile range of the normal distribution, in standard deviations.
_NORMAL_IQR: Final = 1.349
# Of a feature that hardly moved in training time: a hundredth of its level, or of 1 at level 0.
_RELATIVE_FLOOR: Final = 0.01


def centre_and_spread(values: Matrix) -> tuple[Matrix, Matrix]:
    """Median and robust standard deviation of each column, (f,) each; NaN values are left out.

    The interquartile range alone would be 0 for a feature that is mostly idle and bursts at times, so the plain
    standard deviation and a hundredth of the level bound it from below.
    """
    with warnings.catch_warnings():
        # A column without any value gives NaN, which is what the caller wants.
        warnings.simplefilter("ignore", RuntimeWarning)
        low, centre, high = np.nanquantile(values.astype(np.float64), (0.25, 0.5, 0.75), axis=0)
        deviation = np.nanstd(values.astype(np.float64), axis=0)
    floor = _RELATIVE_FLOOR * np.where(centre == 0, 1.0, np.abs(centre))
    spread = np.maximum.reduce([(high - low) / _NORMAL_IQR, deviation, floor])
    return centre.astype(np.float32), np.where(np.isnan(spread), 1.0, spread).astype(np.float32)
