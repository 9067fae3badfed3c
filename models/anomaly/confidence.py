"""What a comparison of two models can be sure of."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from models.anomaly.evaluation import Labels
from models.anomaly.series import Floats

SEED: Final = 20_261_129
CONFIDENCE: Final = 0.95
# By so much a challenger's average precision may be below the champion's, with this confidence.
MARGIN: Final = 0.02
_RESAMPLES: Final = 2_000
# Each of them sorts nothing but counts every trace.
_RESAMPLES_OF_TRACES: Final = 500


def lowest_mean(differences: Floats) -> float:
    """Bound that the mean is above with CONFIDENCE: of resampled differences, the same ones for the same number."""
    generator = np.random.default_rng(SEED)
    drawn = generator.integers(0, differences.size, (_RESAMPLES, differences.size))
    return float(np.quantile(differences[drawn].mean(axis=1), 1 - CONFIDENCE))


def lowest_precision(scores: Floats, labels: Labels, beside: Floats | None = None) -> float:
    """Bound that average precision is above with CONFIDENCE, or its difference to that of other scores of the same.

    Args:
        scores: (n,), NaN = lowest.
        labels: (n,) what is to be found; as many are drawn of each kind as there are.
        beside: (n,) of what the difference is taken to.
    """
    generator = np.random.default_rng(SEED)
    kinds = [np.flatnonzero(labels == kind) for kind in (False, True)]
    ranked = [_Ranked(one, labels) for one in (scores, *(() if beside is None else (beside,)))]
    found = np.empty(_RESAMPLES_OF_TRACES)
    for number in range(found.size):
        drawn = np.concatenate([generator.choice(rows, rows.size) for rows in kinds])
        weights = np.bincount(drawn, minlength=labels.size)
        precisions = [one.precision(weights) for one in ranked]
        found[number] = precisions[0] - sum(precisions[1:])
    return float(np.quantile(found, 1 - CONFIDENCE))


class _Ranked:
    """Rows from the highest score to the lowest, each counted as often as it was drawn."""

    def __init__(self, scores: Floats, labels: Labels) -> None:
        known = np.nan_to_num(scores, nan=-np.inf)
        self._order = np.argsort(-known, kind="stable")
        ordered = known[self._order]
        # Rows of one score are found together.
        self._last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
        self._labels = labels[self._order]

    def precision(self, weights: npt.NDArray[np.int64]) -> float:
        drawn = weights[self._order]
        counted = np.cumsum(drawn)[self._last]
        hits = np.cumsum(drawn * self._labels)[self._last]
        return float(np.diff(hits, prepend=0) @ (hits / np.maximum(counted, 1)) / hits[-1])


def worse(ours: float, theirs: float, lowest: float) -> str:
    """Why a challenger's average precision is not surely about as good; empty when it is.

    Args:
        lowest: bound that the difference, ours less theirs, is above.
    """
    if lowest >= -MARGIN:
        return ""
    return (
        f"average precision {ours:.3f} beside the champion's {theirs:.3f} on the same faults: it may be "
        f"{-lowest:.3f} below, and {MARGIN} is allowed"
    )


def at_least(count: int, expected: float) -> float:
    """Chance of so many events or more where a Poisson process has `expected` on average."""
    if count == 0 or expected <= 0:
        return 1.0 if count == 0 else 0.0
    fewer = (math.exp(number * math.log(expected) - expected - math.lgamma(number + 1)) for number in range(count))
    return max(0.0, 1.0 - sum(fewer))
