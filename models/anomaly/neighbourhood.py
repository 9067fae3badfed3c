"""Entities of a fleet, each beside its own rhythm and beside the others: what all of them do together is no alarm.

Rhythm first, then what all move in together, then a slowly moving level; what is left is averaged over a few spans of
time and over groups, and turned into surprisal by each entity's own calibration time. The largest counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from models.anomaly.fleet_series import FleetSeries, Usual, off_level, pooled
from models.anomaly.refusals import SeriesInvalid
from models.anomaly.scores import Arrays, Progress
from models.anomaly.series import Floats, Matrix
from models.anomaly.threshold import Threshold, calibrate

KIND: Final = "neighbourhood"
HOUR_S: Final = 3_600
# Hours until half of a lasting change is taken for usual: of raw values, and of what common factors leave.
_HALF_LIFE_H: Final = (2.0, 4.0)
# Of the budget, what may be used up in the rows that were fitted on, and what the level is raised by after that.
FITTED_SHARE: Final = 0.1
MARGIN: Final = 1.4
# Mean excess over the 98 % quantile, in its distance from the median: a normal distribution has 0.18.
_SHAPE_MIN: Final = 0.18
# Rows at the start in which levels are still being found.
_WARM_H: Final = 12.0
# Rows that evidence is averaged over, trailing.
SPANS: Final = (1, 3, 6)


@dataclass(frozen=True, slots=True, eq=False)
class FleetScores:
    """One score a row and entity.

    Attributes:
        score: (n, e) surprisal; NaN where an entity is missing altogether.
        share: (n, e, f) each feature's part, adds up to 1.
    """

    score: Floats
    share: Matrix


@dataclass(frozen=True, slots=True, eq=False)
class FleetDetector:
    """A fitted fleet.

    Attributes:
        tails: parameters of the tails, see `_Tails`; of every kind of evidence by entity and feature.
        fused: of the largest surprisal, one an entity.
    """

    entities: tuple[str, ...]
    features: tuple[str, ...]
    groups: tuple[tuple[str, tuple[str, ...]], ...]
    step_s: int
    usual: Usual
    tails: _Tails
    fused: _Tails
    kind: str = KIND

    def score(self, fleet: FleetSeries) -> FleetScores:
        """Trailing scores: no row later than the one scored is read.

        Raises:
            SeriesInvalid: other entities, features, groups or another step.
        """
        if (fleet.entities, fleet.groups) != (self.entities, self.groups):
            raise SeriesInvalid("fitted on other entities or groups", hint="Send the entities of the detector.")
        if (fleet.series[0].features, fleet.step_s) != (self.features, self.step_s):
            raise SeriesInvalid(f"fitted on {len(self.features)} features at steps of {self.step_s} s, given others")
        surprisal = _surprisal(self.usual, fleet, self.tails)
        highest = surprisal.max(axis=2)
        score = self.fused.surprise(highest[..., None])[..., 0]
        missing = np.isnan(fleet.cube()).all(axis=2)
        weight = np.maximum(surprisal - 0.5 * highest[..., None], 0.0) + 1e-12
        share = (weight / weight.sum(axis=2, keepdims=True)).astype(np.float32)
        share[missing] = np.nan
        return FleetScores(np.where(missing, np.nan, score), share)

    def arrays(self) -> Arrays:
        """All it learned, for `load`."""
        return self.usual.arrays() | self.tails.arrays("tails") | self.fused.arrays("fused")

    def configuration(self) -> dict[str, Any]:
        """What `load` needs beside the arrays, as JSON."""
        groups = [[name, list(members)] for name, members in self.groups]
        told = {"entities": list(self.entities), "features": list(self.features), "groups": groups}
        return {**told, "step_s": self.step_s}


@dataclass(frozen=True, slots=True, eq=False)
class _Tails:
    """Tails beyond a quantile of many columns at once: exponential above, counted below by one knot.

    Attributes:
        middle, high, scale: (…, e, f) median, 98 % quantile, and mean excess above it.
    """

    middle: Floats
    high: Floats
    scale: Floats

    @staticmethod
    def fit(values: Floats) -> _Tails:
        """Of (n, …) values, over rows."""
        middle, high = np.quantile(values, (0.5, 0.98), axis=0)
        unit = np.maximum(high - middle, 1e-3)
        over = values > high
        excess = np.where(over, values - high, 0.0).sum(axis=0) / np.maximum(over.sum(axis=0), 1) / unit
        # Neighbouring rows are alike, so that one entity has few independent ones up there: all tell the shape.
        shape = np.maximum(excess, excess.mean(axis=0, keepdims=True))
        return _Tails(middle, high, np.maximum(shape, _SHAPE_MIN) * unit)

    def surprise(self, values: Floats) -> Floats:
        """-ln of the share of calibration time that was as high."""
        rise = np.clip((values - self.middle) / np.maximum(self.high - self.middle, 1e-9), 0.0, 1.0)
        counted = np.log(2.0) + rise * (np.log(50.0) - np.log(2.0))
        counted = np.where(values < self.middle, 0.0, counted)
        return np.asarray(counted + np.maximum(values - self.high, 0.0) / self.scale)

    def arrays(self, name: str) -> Arrays:
        return {f"{name}.middle": self.middle, f"{name}.high": self.high, f"{name}.scale": self.scale}

    @staticmethod
    def restore(arrays: Arrays, name: str) -> _Tails:
        return _Tails(arrays[f"{name}.middle"], arrays[f"{name}.high"], arrays[f"{name}.scale"])


def _evidence(usual: Usual, fleet: FleetSeries) -> Iterator[Floats]:
    """(n, e, f) each, high = unusual: raw and apart from common factors, alone and by group, short and long."""
    hour = HOUR_S / fleet.step_s
    for number, off in enumerate(usual.apart(fleet)):
        left = off_level(off, half_life=_HALF_LIFE_H[number] * hour)
        for side in (left, -left):
            for values in (side, *pooled(side, fleet.groups)):
                total = np.concatenate((np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0)))
                for span in SPANS:
                    start = np.maximum(np.arange(1, values.shape[0] + 1) - span, 0)
                    yield (total[1:] - total[start]) / np.sqrt(span)


def _surprisal(usual: Usual, fleet: FleetSeries, tails: _Tails) -> Floats:
    """(n, e, f) the largest over all kinds of evidence."""
    found = np.zeros((fleet.rows, len(fleet.entities), len(fleet.series[0].features)))
    for number, values in enumerate(_evidence(usual, fleet)):
        own = _Tails(tails.middle[number], tails.high[number], tails.scale[number])
        np.maximum(found, own.surprise(values), out=found)
    return found


def fit(fleet: FleetSeries, *, seed: int = 0, progress: Progress | None = None) -> FleetDetector:
    """Fit on all rows but the last 30 %, which calibrate; nothing is drawn at random.

    Raises:
        NotEnoughData: fewer than three days to fit on.
    """
    usual = Usual.fit(fleet, fleet.rows)
    warm = int(_WARM_H * HOUR_S / fleet.step_s)
    parts = [_Tails.fit(values[warm:]) for values in _evidence(usual, fleet)]
    tails = _Tails(*(np.stack([getattr(one, name) for one in parts]) for name in ("middle", "high", "scale")))
    highest = _surprisal(usual, fleet, tails)[warm:].max(axis=2)
    first = fleet.series[0]
    return FleetDetector(
        fleet.entities,
        first.features,
        fleet.groups,
        first.step_s,
        usual,
        tails=tails,
        fused=_Tails.fit(highest[..., None]),
    )


def threshold(scores: Floats, *, step_s: int, budget_per_day: float) -> Threshold:
    """For the entities of one owner, from their scores (n, e) of the rows the detector was fitted on.

    Those rows flatter: a tenth of the budget is asked of them, and the level is raised by MARGIN.

    Raises:
        NotEnoughData: too few scored rows.
    """
    several = list(scores.T)
    asked = max(FITTED_SHARE * budget_per_day / max(len(several), 1), 0.01)
    found = calibrate(several, step_s=step_s, budget_per_day=asked)
    return Threshold(MARGIN * found.value, step_s, budget_per_day)


def load(arrays: Arrays, configuration: dict[str, Any]) -> FleetDetector:
    """Inverse of `arrays` and `configuration`."""
    groups = tuple((name, tuple(members)) for name, members in configuration["groups"])
    usual = Usual(*(arrays[f"usual.{name}"] for name in ("profile", "spread", "basis")))
    return FleetDetector(
        tuple(configuration["entities"]),
        tuple(configuration["features"]),
        groups,
        configuration["step_s"],
        usual,
        tails=_Tails.restore(arrays, "tails"),
        fused=_Tails.restore(arrays, "fused"),
    )
