"""The Numenta Anomaly Benchmark on the series at hand: its windows, profiles and optimised threshold.

Written after the description in Lavin and Ahmad, "Evaluating Real-time Anomaly Detection Algorithms", ICMLA 2015, and
checked by what has to come out: 100 for a detector that fires once at the start of each window, 0 for one that never
does. Figures are comparable among detectors that were run on the same series, not with the published board of all 58.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy.spatial import KDTree
from scipy.special import erfc
from sklearn.ensemble import IsolationForest

from models.anomaly import moving
from models.anomaly.detector import fit
from models.anomaly.refusals import NotEnoughData
from models.anomaly.series import Floats, Series

# Weights of a hit, a false alarm and a miss. The two that are named low divide what they lower by two.
PROFILES: Final = {"standard": (1.0, 0.11, 1.0), "low_false_alarms": (1.0, 0.22, 1.0), "low_misses": (1.0, 0.11, 2.0)}
_PROBATION_SHARE: Final = 0.15
_PROBATION_ROWS: Final = 750
_GAUSS_ROWS: Final = 6_400
_FAR: Final = 3.0
# Below any score.
_UNSCORED: Final = -1e300


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """One series.

    Attributes:
        windows: (first, last) rows of each label window.
    """

    name: str
    values: Floats
    step_s: int
    start_us: int
    windows: list[tuple[int, int]]

    @property
    def probation(self) -> int:
        """Rows at the start that are not judged; detectors learn from them."""
        return min(math.floor(_PROBATION_SHARE * self.values.size), _PROBATION_ROWS)


def read(folder: Path) -> list[Recording]:
    """All series in order of their names; none if they are absent."""
    place = folder / "univariate_anomaly"
    if not (place / "nab_series.parquet").exists():
        return []
    table, spans = pq.read_table(place / "nab_series.parquet"), pq.read_table(place / "nab_windows.parquet")
    found = []
    for name in sorted(pc.unique(table["series"]).to_pylist()):
        rows = table.filter(pc.equal(table["series"], name))
        instants = rows["ts"].to_numpy().astype("datetime64[us]").astype(np.int64)
        own = spans.filter(pc.equal(spans["series"], name))
        first = np.searchsorted(instants, own["start_ts"].to_numpy().astype("datetime64[us]").astype(np.int64))
        last = np.searchsorted(instants, own["end_ts"].to_numpy().astype("datetime64[us]").astype(np.int64), "right")
        windows = sorted(zip(first.tolist(), (last - 1).tolist(), strict=True))
        step_s = max(int(np.median(np.diff(instants))) // 1_000_000, 1)
        found.append(Recording(name, rows["value"].to_numpy(), step_s, int(instants[0]), windows))
    return found


def sigmoid(distance: Floats) -> Floats:
    """What an alarm counts by its place: 1 far left of the right edge of a window (0), -1 far right of it."""
    return np.where(distance > _FAR, -1.0, 2.0 / (1.0 + np.exp(5.0 * np.minimum(distance, _FAR))) - 1.0)


def worth(recording: Recording) -> tuple[Floats, np.ndarray]:
    """Of each row, what an alarm there counts before weights, and the number of the window it is in, or -1."""
    rows = np.arange(recording.values.size)
    counts, inside = np.full(rows.size, -1.0), np.full(rows.size, -1)
    for number, (first, last) in enumerate(recording.windows):
        width = last - first + 1
        after = rows > last
        counts[after] = sigmoid((rows[after] - last) / max(width - 1, 1))
        held = slice(first, last + 1)
        counts[held] = sigmoid(-(last - rows[held] + 1) / width) / float(sigmoid(np.array(-1.0)))
        inside[held] = number
    return counts, inside


def scoreboard(recordings: list[Recording], scores: list[Floats]) -> dict[str, float]:
    """NAB score of each profile, 0 = never fires, 100 = perfect, at the best common threshold, as NAB chooses it."""
    parts, offset = [], 0
    for recording, score in zip(recordings, scores, strict=True):
        counts, inside = worth(recording)
        judged = slice(recording.probation, None)
        own = np.where(inside >= 0, inside + offset, -1)
        known = np.where(np.isnan(score), _UNSCORED, score)
        parts.append((known[judged], counts[judged], own[judged]))
        offset += len(recording.windows)
    score, counts, inside = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(-score, kind="stable")
    score, counts, inside = score[order], counts[order], inside[order]
    # A threshold is between two different scores; rows that were not scored never fire.
    ends = np.flatnonzero((np.diff(score, append=2 * _UNSCORED) != 0) & (score > _UNSCORED))
    judged_windows = np.unique(inside[inside >= 0]).size
    return {name: round(_best(counts, inside, ends, weights) / judged_windows, 1) for name, weights in PROFILES.items()}


def _best(counts: Floats, inside: np.ndarray, ends: np.ndarray, weights: tuple[float, float, float]) -> float:
    hit, false, miss = weights
    change = np.where(inside < 0, counts * false, 0.0)
    for window in np.unique(inside[inside >= 0]):
        places = np.flatnonzero(inside == window)
        best = np.maximum.accumulate(np.concatenate(([-miss], counts[places] * hit)))
        change[places] = np.diff(best)
    windows = np.unique(inside[inside >= 0]).size
    total = np.concatenate(([0.0], np.cumsum(change)[ends]))
    # 0 is the score of never firing, -miss for each window.
    return 100.0 * float(total.max()) / (hit + miss) if windows else 0.0


def never(recording: Recording) -> Floats:
    """The null detector."""
    return np.full(recording.values.size, np.nan)


def perfect(recording: Recording) -> Floats:
    """Fires once, at the first row of each window that is judged."""
    score = np.full(recording.values.size, np.nan)
    score[[max(first, recording.probation) for first, last in recording.windows if last >= recording.probation]] = 1.0
    return score


def at_random(recording: Recording) -> Floats:
    """Uniform scores."""
    return np.random.default_rng(len(recording.name)).random(recording.values.size)


def windowed_gaussian(recording: Recording) -> Floats:
    """How unlikely each value is under the normal distribution of the 6,400 rows before it."""
    sums = np.concatenate(([0.0], np.cumsum(recording.values)))
    squares = np.concatenate(([0.0], np.cumsum(recording.values**2)))
    stop = np.arange(recording.values.size)
    start = np.maximum(stop - _GAUSS_ROWS, 0)
    count = np.maximum(stop - start, 1)
    mean = (sums[stop] - sums[start]) / count
    spread = np.sqrt(np.maximum((squares[stop] - squares[start]) / count - mean**2, 1e-12))
    away = np.abs(recording.values - mean) / spread
    # Beyond what erfc can tell apart, distance itself keeps the order.
    return np.asarray(1.0 - erfc(away / math.sqrt(2)) + 1e-9 * away)


def fitted(kind: str) -> Callable[[Recording], Floats]:
    """A detector of the hub, fitted on the probation rows alone, its trailing score."""

    def score(recording: Recording) -> Floats:
        values = recording.values[:, None].astype(np.float32)
        series = Series(values, ("value",), recording.step_s, recording.start_us)
        try:
            one = fit(kind, [series.part(0, recording.probation)], seed=1)
        except NotEnoughData:
            return np.full(values.shape[0], np.nan)
        return one.score(series, trailing=True).score

    return score


def _windows(values: Floats) -> Floats:
    """(n, 10) each row with the nine before it, the first repeated before it."""
    padded = np.concatenate((np.full(9, values[0]), values))
    return np.lib.stride_tricks.sliding_window_view(padded, 10)


def isolation_forest(recording: Recording) -> Floats:
    """Of windows of ten rows, grown on the probation rows."""
    windows = _windows(recording.values)
    forest = IsolationForest(n_estimators=50, random_state=1).fit(windows[: recording.probation])
    return np.asarray(-forest.score_samples(windows))


def nearest_past(recording: Recording) -> Floats:
    """Distance to the nearest of the windows of the probation rows: KNN-CAD without its conformal part."""
    windows = _windows(recording.values)
    tree = KDTree(windows[: recording.probation])
    distance, _ = tree.query(windows, k=2)
    # A window of probation time finds itself first; it is not judged.
    return np.asarray(distance.mean(axis=1))


ENTRIES: Final[dict[str, Callable[[Recording], Floats]]] = {
    "null": never,
    "random": at_random,
    "perfect": perfect,
    "windowed Gaussian": windowed_gaussian,
    "moving: deviation": lambda one: moving.surprisal(moving.deviation(one.values)),
    "moving: EWMA of 5": lambda one: moving.surprisal(moving.level_shift(one.values)),
    "moving: CUSUM": lambda one: moving.change_sum(one.values),
    "moving: change": lambda one: moving.surprisal(moving.jump(one.values)),
    "isolation forest of 10 rows": isolation_forest,
    "nearest of the past, 10 rows": nearest_past,
    "moving": lambda one: moving.score(one.values),
    "seasonal": fitted("seasonal"),
    "patch_bank": fitted("patch_bank"),
}


def measure(folder: Path) -> dict[str, dict[str, float]]:
    """The board of all entries; empty without data."""
    recordings = read(folder)
    if not recordings:
        return {}
    return {name: scoreboard(recordings, [entry(one) for one in recordings]) for name, entry in ENTRIES.items()}
