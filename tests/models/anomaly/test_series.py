"""What a series refuses, and the parts of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.anomaly.refusals import SeriesInvalid
from models.anomaly.series import FEATURES_MAX, Series

GOOD: dict[str, Any] = {
    "values": np.zeros((3, 2), np.float32),
    "features": ("a", "b"),
    "step_s": 60,
    "start_us": 0,
}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"values": np.zeros(3)}, "shape"),
        ({"values": np.zeros((3, 1))}, "shape"),
        ({"values": [["x", "y"]]}, "not numbers"),
        ({"values": [[1.0, 2.0], [3.0]]}, "not numbers"),
        ({"values": np.array([[0.0, np.inf]])}, "b of row 0 is infinite"),
        ({"values": np.array([[1e300, 0.0]])}, "a of row 0"),
        ({"features": ("a", "a")}, "twice"),
        ({"values": np.zeros((3, 0)), "features": ()}, "0 features"),
        (
            {
                "values": np.zeros((1, FEATURES_MAX + 1)),
                "features": tuple(str(number) for number in range(FEATURES_MAX + 1)),
            },
            "513 features",
        ),
        ({"step_s": 0}, "step_s"),
    ],
)
def test_a_series_that_does_not_fit_is_refused_with_the_reason(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(SeriesInvalid, match=message) as refused:
        Series(**GOOD | changed)
    assert refused.value.code == "series_invalid"


def test_missing_values_and_no_rows_are_allowed() -> None:
    assert np.isnan(Series(np.array([[np.nan, 1.0]]), ("a", "b"), 60, 0).values[0, 0])
    assert Series(np.zeros((0, 2)), ("a", "b"), 60, 0).rows == 0


def test_a_part_keeps_the_instant_of_its_first_row() -> None:
    series = Series(np.arange(10.0).reshape(5, 2), ("a", "b"), 60, 1_000_000)
    part = series.part(2, 4)
    assert part.values.tolist() == [[4.0, 5.0], [6.0, 7.0]]
    assert part.start_us == 1_000_000 + 2 * 60_000_000
