"""Patches, windows of consecutive rows, and which of them judges which row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.anomaly.series import Matrix, Series


def patches_of(values: Matrix, length: int) -> Matrix:
    """(f, length, n - length + 1) view of all windows of consecutive rows of (n, f) values; NaN became 0, the centre.

    Windows lie along the last axis, so that each of their rows is one contiguous run of memory.
    """
    columns = _without_gaps(np.ascontiguousarray(values.T))
    count = max(columns.shape[1] - length + 1, 0)
    if not count:
        return np.zeros((columns.shape[0], length, 0), np.float32)
    return np.lib.stride_tricks.sliding_window_view(columns, count, axis=1)


def last_patches(windows: Matrix, length: int) -> Matrix:
    """(f, length, k * w) patches that end with each of the last k rows of w windows, those of the first such row first.

    Args:
        windows: (w, k - 1 + length, f), NaN = missing.
    """
    count, rows, features = windows.shape
    columns = _without_gaps(np.ascontiguousarray(windows.reshape(count, -1).T)).reshape(rows, features, count)
    found = np.lib.stride_tricks.sliding_window_view(columns, length, axis=0)
    return found.transpose(1, 3, 0, 2).reshape(features, length, -1)


def align(by_patch: Matrix, series: Series, length: int, *, trailing: bool) -> Matrix:
    """(n, f) from (f, patches): each row is judged by the patch that ends with it, or that it is the middle of.

    Rows too early for a trailing patch stay NaN. Centred, rows near both ends are judged by the nearest whole patch.
    Values that are missing stay NaN.
    """
    count = series.rows
    judged = np.full((count, series.values.shape[1]), np.nan, np.float32)
    if by_patch.shape[1]:
        last = np.arange(count) - (length - 1)
        if trailing:
            judged[length - 1 :] = by_patch.T
        else:
            judged[:] = by_patch.T[np.clip(last + length // 2, 0, by_patch.shape[1] - 1)]
    judged[np.isnan(series.values)] = np.nan
    return judged


def draw(series_list: list[Matrix], length: int, generator: np.random.Generator, count: int) -> Matrix:
    """(count, f, length) patches at random places of (f, length, patches) views, each place equally likely."""
    sizes = np.array([one.shape[2] for one in series_list])
    ends = np.cumsum(sizes)
    places: npt.NDArray[np.int64] = generator.integers(0, ends[-1], count)
    which = np.searchsorted(ends, places, side="right")
    chosen = np.empty((count, series_list[0].shape[0], length), np.float32)
    for number, patches in enumerate(series_list):
        here = which == number
        chosen[here] = patches.transpose(2, 0, 1)[places[here] - (ends[number] - sizes[number])]
    return chosen


def _without_gaps(values: Matrix) -> Matrix:
    """The same values, 0 where they are NaN."""
    return np.nan_to_num(values) if np.isnan(values).any() else values
