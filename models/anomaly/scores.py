"""What detectors answer, what they promise, and the way from deviations by feature to one score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from models.anomaly.series import Floats, Matrix, Series

# Rows of evidence that one score is a mean of: long enough for a lone sample to fade. When only earlier rows may be
# read, a longer mean would tell of an incident late and go on telling of it after its end.
CENTRED_ROWS: Final = 15
TRAILING_ROWS: Final = 5
# Up to so many rows are added one by one, which is quicker than running sums, and exact.
_FEW_ROWS: Final = 8
# A row is scored when at least this share of its features is known.
KNOWN_SHARE_MIN: Final = 0.5
# How deviations of features become one: as they are, or by their logarithm, as in models of before.
MEAN, LOGARITHM = "mean", "logarithm"

Arrays = dict[str, npt.NDArray[Any]]
# Told how much of a fit is done, from 0 to 1.
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """One score a row.

    Attributes:
        score: (n,) float64, surprisal -ln(tail probability) against calibration time: 0 usual, 4.6 one row in 100,
            6.9 one in 1,000. NaN where there is not enough data.
        share: (n, f) float32, each feature's part of the score; adds up to 1, NaN where the score is.
    """

    score: Floats
    share: Matrix


class Fitted(Protocol):
    """A detector ready to score series with the features and the step it was fitted on."""

    @property
    def kind(self) -> str:
        """Its name in DETECTORS."""

    @property
    def reach_rows(self) -> int:
        """Rows, up to the one scored, that a trailing score reads."""

    def score(self, series: Series, *, trailing: bool) -> Scores:
        """Score every row.

        Args:
            trailing: True reads no row later than the one scored, as when served; False may look ahead by a dozen.

        Raises:
            SeriesInvalid: other features or another step.
        """

    def score_last(self, windows: Matrix, starts_us: Sequence[int]) -> Scores:
        """Score the last row of each of many windows, as `score(trailing=True)` of each alone would, all at once.

        Args:
            windows: (w, n, f) rows in the order of time, NaN = missing.
            starts_us: instant of the first row of each.
        """

    def arrays(self) -> Arrays:
        """All it learned, for `load`; no objects inside."""

    def configuration(self) -> dict[str, Any]:
        """What `load` needs beside the arrays, as JSON."""


def combine(deviation: Matrix, *, trailing: bool, form: str = MEAN) -> tuple[Floats, Matrix]:
    """Mean over features of their deviation, averaged over time, and each feature's part of it.

    Args:
        deviation: (n, f), 0 = as expected, 1 = as far off as a tenth of calibration time is; NaN = not known.
        trailing: average over the last TRAILING_ROWS, not over the CENTRED_ROWS around.
        form: MEAN, or LOGARITHM for the mean of log(1 + deviation).
    """
    rows = TRAILING_ROWS if trailing else CENTRED_ROWS
    parts, enough = _parts(deviation, form)
    held = np.maximum(moving_sum(enough.astype(np.float64)[:, None], rows, trailing=trailing), 1.0)
    return _divided(moving_sum(parts, rows, trailing=trailing) / held, ~enough)


def combine_last(deviation: Matrix, *, form: str = MEAN) -> tuple[Floats, Matrix]:
    """What `combine(trailing=True)` says of the last row, for (w, k, f) deviations of the last rows of w windows.

    k is at most TRAILING_ROWS.
    """
    if not np.isnan(deviation).any():
        rows, features = deviation.shape[1:]
        if form == MEAN:
            summed = deviation.sum(axis=1, dtype=np.float64)
        else:
            # The sum of logarithms is that of the product, and a logarithm costs as much as twenty products.
            product = np.ones((deviation.shape[0], features))
            for row in range(rows):
                product *= deviation[:, row] + 1.0
            summed = np.log(product)
        return _divided(summed / (rows * features), np.zeros(len(summed), np.bool_))
    parts, enough = _parts(deviation, form)
    summed = parts.sum(axis=1) / np.maximum(enough.sum(axis=1), 1)[:, None]
    return _divided(summed, ~enough[:, -1])


def _parts(deviation: Matrix, form: str) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Of (…, f) deviations: each feature's part of the mean of its row, and which rows have enough features.

    Parts of the others are 0.
    """
    known = ~np.isnan(deviation)
    whole = bool(known.all())
    parts = np.array(deviation if whole else np.where(known, deviation, 0.0), np.float64)
    if form == LOGARITHM:
        np.log1p(parts, out=parts)
    if whole:
        parts /= deviation.shape[-1]
        return parts, np.ones(deviation.shape[:-1], np.bool_)
    count = known.sum(axis=-1)
    parts /= np.maximum(count, 1)[..., None]
    enough = count >= KNOWN_SHARE_MIN * deviation.shape[-1]
    parts[~enough] = 0.0
    return parts, enough


def _divided(parts: Floats, lacking: npt.NDArray[np.bool_]) -> tuple[Floats, Matrix]:
    """(n,) sums of (n, f) parts, and the share of each; NaN where a row is lacking."""
    score = np.einsum("nf->n", parts)
    share = np.asarray(parts / np.maximum(score, 1e-12)[:, None], np.float32)
    if not (score > 0).all():
        share[score <= 0] = 1.0 / parts.shape[1]
    if lacking.any():
        score[lacking] = np.nan
        share[lacking] = np.nan
    return score, share


def joined(parts: Sequence[Scores]) -> Scores:
    """Scores of one stretch after the other."""
    if len(parts) == 1:
        return parts[0]
    return Scores(np.concatenate([one.score for one in parts]), np.concatenate([one.share for one in parts]))


def moving_sum(values: Floats, rows: int, *, trailing: bool) -> Floats:
    """(n, f) sums over `rows` rows that end at each row, or lie around it; fewer at the ends."""
    count = values.shape[0]
    if trailing and rows < _FEW_ROWS:
        found = np.array(values, np.float64)
        for back in range(1, min(rows, count)):
            found[back:] += values[:-back]
        return found
    total = np.zeros((count + 1, values.shape[1]))
    np.cumsum(values, axis=0, out=total[1:])
    ahead = 0 if trailing else rows // 2
    stop = np.minimum(np.arange(1, count + 1) + ahead, count)
    start = np.maximum(np.arange(1, count + 1) + ahead - rows, 0)
    # A difference of running sums can fall below zero by a rounding error.
    return np.asarray(np.maximum(total[stop] - total[start], 0.0))
