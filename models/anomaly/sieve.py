"""Rows of training time that are surely no usual ones, left out: an outage in it would teach that outages are usual."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from models.anomaly.fleet import Units
from models.anomaly.series import Floats, Series

# Robust spreads of the row statistic from which a row is left out: far beyond what a busy hour reaches.
FAR: Final = 6.0
# More than this share of rows is no incident but the way the entity is.
SHARE_MAX: Final = 0.1


def sieve(units: Units, series: Mapping[str, Series]) -> dict[str, Series]:
    """The series with their most unusual rows missing, at most SHARE_MAX of each; the first units need not be exact."""
    return {
        name: _sieved(units.residual_series(one, name), one) if name in units.names else one
        for name, one in series.items()
    }


def _sieved(residual: Series, series: Series) -> Series:
    unusual = _statistic(residual)
    known = np.isfinite(unusual)
    if not known.any():
        return series
    centre = float(np.median(unusual[known]))
    # Its interquartile range alone: a plain deviation would grow with the very rows that are looked for.
    low, high = np.quantile(unusual[known], (0.25, 0.75))
    spread = max(float(high - low) / 1.349, 1e-3)
    far = known & ((unusual - centre) / spread > FAR)
    most = int(SHARE_MAX * known.sum())
    if far.sum() > most:
        far &= unusual >= np.sort(unusual[known])[-max(most, 1)]
    values = series.values.copy()
    values[far] = np.nan
    return series.with_values(values)


def _statistic(residual: Series) -> Floats:
    """(n,) mean over known features of log(1 + deviation in own robust units); NaN of an empty row."""
    values = residual.values.astype(np.float64)
    known = ~np.isnan(values)
    low, centre, high = (np.nan_to_num(one) for one in _quartiles(residual))
    spread = np.maximum((high - low) / 1.349, 0.1)
    parts = np.where(known, np.log1p(np.abs(np.nan_to_num(values) - centre) / spread), 0.0)
    count = known.sum(axis=1)
    return np.where(count > 0, parts.sum(axis=1) / np.maximum(count, 1), np.nan)


def _quartiles(residual: Series) -> tuple[Floats, Floats, Floats]:
    known = (~np.isnan(residual.values)).any(axis=0)
    found = np.zeros((3, residual.values.shape[1]))
    found[:, known] = np.nanquantile(residual.values[:, known].astype(np.float64), (0.25, 0.5, 0.75), axis=0)
    return found[0], found[1], found[2]
