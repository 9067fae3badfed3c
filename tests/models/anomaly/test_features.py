"""Series of entities: the same for any split of the partials, gaps told apart from silence, limits kept."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.aggregate.rollup import MINUTE_US, merge, roll
from models.anomaly.features import FEATURES, Entity, entity_series
from models.anomaly.refusals import NotEnoughData, SeriesInvalid
from tests.serving.small_lake import NOW_US, batch, event

START_US = NOW_US - NOW_US % MINUTE_US


def _call(number: int, minute: int, **more: object) -> dict[str, object]:
    told = {"latency_ms": 100.0 * (number + 1), "input_tokens": 100, "output_tokens": 10, "counted": 127}
    return event(number, occurred_at=START_US + minute * MINUTE_US + number, **{"model": "m1", **told, **more})


def _index(name: str) -> int:
    return FEATURES.index(name)


def test_features_are_those_computed_by_hand() -> None:
    rows = [_call(number, 0, status="ok") for number in range(20)]
    [(entity, series)] = entity_series(
        roll(batch(rows), MINUTE_US), from_us=START_US, to_us=START_US + MINUTE_US, dimensions=("model",)
    ).items()
    assert str(entity) == "model=m1"
    values = series.values[0]
    assert values[_index("requests_log")] == pytest.approx(math.log1p(20))
    assert values[_index("input_tokens_log")] == pytest.approx(math.log1p(100))
    assert np.expm1(values[_index("latency_ms_p50_log")]) == pytest.approx(1_000, rel=0.011)
    assert np.expm1(values[_index("latency_ms_p95_log")]) == pytest.approx(1_900, rel=0.011)
    assert np.isnan(values[_index("ttft_ms_p50_log")])
    assert np.isnan(values[_index("cost_log")])


def test_a_minute_of_nobody_is_missing_and_a_minute_of_others_is_silence() -> None:
    rows = [_call(0, 0), _call(1, 2), _call(2, 1, model="m2"), _call(3, 4)]
    found = entity_series(
        roll(batch(rows), MINUTE_US), from_us=START_US, to_us=START_US + 5 * MINUTE_US, dimensions=("model",)
    )
    values = found[Entity((("model", "m1"),))].values
    assert values[1, 0] == 0.0
    assert np.isnan(values[1, 1:]).all()
    assert np.isnan(values[3]).all()
    assert values[4, 0] == pytest.approx(math.log1p(1))


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["m1", "m2", None])), min_size=1, max_size=40))
def test_any_split_of_the_rows_gives_the_same_series(places: list[tuple[int, str | None]]) -> None:
    rows = [_call(number, minute, model=model, ttft_ms=float(number)) for number, (minute, model) in enumerate(places)]
    whole = roll(batch(rows), MINUTE_US)
    parts = merge([roll(batch([row]), MINUTE_US) for row in reversed(rows)])
    ranges = {"from_us": START_US, "to_us": START_US + 10 * MINUTE_US}
    once, split = (entity_series(table, dimensions=("model",), **ranges) for table in (whole, parts))
    assert once.keys() == split.keys()
    for entity, series in once.items():
        np.testing.assert_allclose(series.values, split[entity].values, rtol=1e-6)


def test_what_cannot_be_a_series_is_refused() -> None:
    partials = roll(batch([_call(0, 0)]), MINUTE_US)
    good = {"from_us": START_US, "to_us": START_US + MINUTE_US}
    with pytest.raises(SeriesInvalid, match="whole minutes"):
        entity_series(partials, from_us=START_US + 1, to_us=START_US + MINUTE_US)
    with pytest.raises(SeriesInvalid, match="whole minutes"):
        entity_series(partials, from_us=START_US, to_us=START_US)
    with pytest.raises(SeriesInvalid, match="dimensions"):
        entity_series(partials, dimensions=("user_id",), **good)
    with pytest.raises(NotEnoughData):
        entity_series(partials, from_us=START_US + MINUTE_US, to_us=START_US + 2 * MINUTE_US)
    many = roll(batch([_call(number, 0, model=f"m{number}") for number in range(10_001)]), MINUTE_US)
    with pytest.raises(SeriesInvalid, match="10001 entities"):
        entity_series(many, dimensions=("model",), **good)
