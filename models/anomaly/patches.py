"""Patches, windows of consecutive rows, and which of them judges which row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.anomaly.series import Matrix, Series


def patches_of(values: Matrix, length: int) -> Matrix:
    """(n - length + 1, f, length) view of all windows of consecutive rows; NaN became 0, the centre."""
    filled = np.ascontiguousarray(np.nan_to_num(values))
    if filled.shape[0] < length:
        return np.zeros((0, filled.shape[1], length), np.float32)
    return np.lib.stride_tricks.sliding_window_view(filled, length, axis=0)


def align(by_patch: Matrix, series: Series, length: int, *, trailing: bool) -> Matrix:
    """(n, f) from (patches, f): each row is judged by the patch that ends with it, or that it is the middle of.

    Rows too early for a trailing patch stay NaN. Centred, rows near both ends are judged by the nearest whole patch.
    Values that are missing stay NaN.
    """
    count = series.rows
    judged = np.full((count, series.values.shape[1]), np.nan, np.float32)
    if by_patch.shape[0]:
        last = np.arange(count) - (length - 1)
        if trailing:
            judged[length - 1 :] = by_patch
        else:
            judged[:] = by_patch[np.clip(last + length // 2, 0, by_patch.shape[0] - 1)]
    judged[np.isnan(series.values)] = np.nan
    return judged


def draw(series_list: list[Matrix], length: int, generator: np.random.Generator, count: int) -> Matrix:
    """(count, f, length) patches at random places of (patches, f, length) views, each place equally likely."""
    sizes = np.array([one.shape[0] for one in series_list])
    ends = np.cumsum(sizes)
    places: npt.NDArray[np.int64] = generator.integers(0, ends[-1], count)
    which = np.searchsorted(ends, places, side="right")
    chosen = np.empty((count, series_list[0].shape[1], length), np.float32)
    for number, patches in enumerate(series_list):
        here = which == number
        chosen[here] = patches[places[here] - (ends[number] - sizes[number])]
    return chosen
