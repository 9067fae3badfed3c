"""A multivariate series at even steps, checked once, so that no detector has to look for what cannot be scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from models.anomaly.refusals import NotEnoughData, SeriesInvalid

Matrix = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

FEATURES_MAX: Final = 512
ROWS_MAX: Final = 2_000_000
STEP_S_MAX: Final = 86_400


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Rows at even steps of time.

    Attributes:
        values: (n, f) float32; NaN = missing, never infinite.
        features: f distinct names, in the order of the columns.
        step_s: seconds from row to row.
        start_us: instant of the first row, microseconds since the Unix epoch; tells the place in day and week.
    """

    values: Matrix
    features: tuple[str, ...]
    step_s: int
    start_us: int

    def __post_init__(self) -> None:
        """Raises SeriesInvalid."""
        try:
            with np.errstate(over="ignore"):
                values = np.ascontiguousarray(self.values, np.float32)
        except (TypeError, ValueError) as error:
            raise SeriesInvalid("values are not numbers", hint="Send a matrix of numbers, null = missing.") from error
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "features", tuple(self.features))
        _check(self)

    @property
    def rows(self) -> int:
        """n."""
        return int(self.values.shape[0])

    def part(self, start: int, stop: int) -> Series:
        """Rows start to stop, stop not included, with the instant of their first row."""
        start = min(max(start, 0), self.rows)
        moved_us = self.start_us + start * self.step_s * 1_000_000
        return replace(self, values=self.values[start:stop], start_us=moved_us)

    def only(self, features: Sequence[str]) -> Series:
        """The same rows with these features in this order; one that is not there is missing."""
        if tuple(features) == self.features:
            return self
        values = np.full((self.rows, len(features)), np.nan, np.float32)
        for at, name in enumerate(features):
            if name in self.features:
                values[:, at] = self.values[:, self.features.index(name)]
        return replace(self, values=values, features=tuple(features))

    def with_values(self, values: Matrix) -> Series:
        """The same rows and features with other values."""
        return replace(self, values=values)


def _check(series: Series) -> None:
    shape, count = series.values.shape, len(series.features)
    if len(shape) != 2 or shape[1] != count:
        raise SeriesInvalid(
            f"values have shape {shape} for {count} features", hint="Send one row a step and one column a feature."
        )
    if not 1 <= count <= FEATURES_MAX:
        raise SeriesInvalid(f"{count} features; 1 to {FEATURES_MAX} are allowed", hint="Choose fewer features.")
    if shape[0] > ROWS_MAX:
        raise SeriesInvalid(f"{shape[0]} rows; at most {ROWS_MAX} are allowed", hint="Split the range.")
    if len(set(series.features)) != count:
        raise SeriesInvalid("a feature is named twice", hint="Give each column a name of its own.")
    if not 1 <= series.step_s <= STEP_S_MAX:
        raise SeriesInvalid(f"step_s is {series.step_s}; 1 to {STEP_S_MAX} s are allowed")
    if np.isinf(series.values).any():
        row, column = np.argwhere(np.isinf(series.values))[0].tolist()
        raise SeriesInvalid(
            f"{series.features[column]} of row {row} is infinite or beyond single precision",
            hint="Send null where a value is missing.",
        )


def told_features(several: Sequence[Series]) -> tuple[str, ...]:
    """Features that are known in a twentieth of all rows at least: of what nobody tells, nothing can be learned."""
    check_alike(several)
    known = sum((~np.isnan(one.values)).sum(axis=0) for one in several)
    rows = sum(one.rows for one in several)
    return tuple(
        name for name, count in zip(several[0].features, np.atleast_1d(known), strict=True) if count >= 0.05 * rows
    )


def check_alike(series_list: Sequence[Series]) -> None:
    """Raises NotEnoughData without any series, SeriesInvalid if features or steps of some differ."""
    if not series_list:
        raise NotEnoughData("no series to fit on", hint="Widen the range or the filter.")
    first = series_list[0]
    for number, one in enumerate(series_list):
        if one.features != first.features or one.step_s != first.step_s:
            raise SeriesInvalid(f"series {number} has other features or another step than series 0")
