"""From raw scores to surprisal: how rare a score this high was in calibration time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from models.anomaly.refusals import NotEnoughData
from models.anomaly.series import Floats

SCORES_MIN: Final = 30
_KNOTS: Final = 256
# Above this quantile a fitted tail takes over from the counted one.
_TAIL_FROM: Final = 0.98
# Fewer exceedances than these cannot tell the shape of a tail: then it is exponential.
_SHAPE_MIN: Final = 30
_SHAPE_MAX: Final = 0.5
_WIDE_FROM: Final = 0.8


@dataclass(frozen=True, slots=True, eq=False)
class Tail:
    """Counted distribution up to the 98 % quantile, generalised Pareto above.

    Source: Siffer et al., "Anomaly Detection in Streams with Extreme Value Theory", KDD 2017, with the estimator by
    probability-weighted moments of Hosking and Wallis (1987).

    Attributes:
        knots: (k,) rising raw scores of evenly spaced probabilities.
        surprisal: (k,) -ln(share of calibration scores above).
        shape: 0 (exponential) to 0.5 (heavy).
        scale: > 0, in raw score.
    """

    knots: Floats
    surprisal: Floats
    shape: float
    scale: float

    @staticmethod
    def fit(scores: Floats) -> Tail:
        """Of finite raw scores in calibration time, any order; NaN is left out.

        Raises:
            NotEnoughData: fewer than SCORES_MIN of them.
        """
        known = np.sort(scores[np.isfinite(scores)])
        if known.size < SCORES_MIN:
            raise NotEnoughData(f"{known.size} scored rows to calibrate on; {SCORES_MIN} are needed")
        share = np.linspace(0.0, _TAIL_FROM, _KNOTS)
        knots, first = np.unique(np.quantile(known, share), return_index=True)
        # Of equal scores the highest probability counts: a value that half of all rows have is no surprise.
        surprisal = -np.log1p(-share[np.append(first[1:] - 1, _KNOTS - 1)])
        surprisal[-1] = -np.log1p(-_TAIL_FROM)
        excess = known[known > knots[-1]] - knots[-1]
        shape, scale = _pareto(excess)
        if excess.size < _SHAPE_MIN:
            # A handful of exceedances may all be small by chance, and the next usual row would be a sensation. The mean
            # excess of an exponential tail is the same over every level; over a lower one more rows tell it.
            wide = known[known > np.quantile(known, _WIDE_FROM)]
            scale = max(scale, float(wide.mean() - wide.min()) if wide.size else 0.0)
        floor = 1e-3 * max(float(np.abs(known).max()), 1e-6)
        return Tail(knots, surprisal, shape, max(scale, floor))

    def surprise(self, scores: Floats) -> Floats:
        """-ln of the probability of a score at least this high; NaN stays. Rising, without bound."""
        counted = np.interp(scores, self.knots, self.surprisal)
        excess = np.maximum(scores - self.knots[-1], 0.0) / self.scale
        beyond = np.log1p(self.shape * excess) / self.shape if self.shape > 0 else excess
        return np.where(scores > self.knots[-1], self.surprisal[-1] + beyond, counted)


def _pareto(excess: Floats) -> tuple[float, float]:
    if excess.size == 0:
        return 0.0, 0.0
    mean = float(excess.mean())
    if excess.size < _SHAPE_MIN:
        return 0.0, mean
    ordered = np.sort(excess)
    weight = 1.0 - (np.arange(1, ordered.size + 1) - 0.35) / ordered.size
    second = float((weight * ordered).mean())
    if mean - 2 * second <= 0:
        return 0.0, mean
    shape = min(max(2.0 - mean / (mean - 2 * second), 0.0), _SHAPE_MAX)
    return shape, mean * (1.0 - shape)
