"""A window that moves along: no fit, no reading ahead, no unit, and an incident is told once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.anomaly import moving
from models.anomaly.series import Floats


def usual(rows: int = 1_000, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).standard_normal(rows) + 20.0


def test_a_spike_a_shift_and_a_jump_stand_out_where_they_begin() -> None:
    spike = usual()
    spike[600] += 12
    assert int(np.nanargmax(moving.score(spike))) == 600
    shift = usual()
    shift[700:] += 2.0
    assert np.nanmax(moving.change_sum(shift)[700:730]) > np.nanmax(moving.change_sum(shift)[:700])
    assert np.nanmax(moving.level_shift(shift)[700:710]) > np.nanmax(np.abs(moving.level_shift(shift)[100:700]))
    assert int(np.nanargmax(np.abs(moving.jump(spike)))) in (600, 601)


def test_an_incident_that_goes_on_is_told_once() -> None:
    values = usual()
    values[500:520] += 30
    assert 1 <= (moving.score(values)[490:530] > 20).sum() <= 3


@given(st.integers(0, 100), st.floats(0.001, 1_000), st.floats(-1_000, 1_000))
def test_units_do_not_matter(seed: int, factor: float, offset: float) -> None:
    values = usual(300, seed)
    expected = moving.deviation(values)
    # Up to a thousand of its deviations from zero; a million count as no deviation at all.
    found = moving.deviation((values + offset) * factor)
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.02)


@given(st.integers(0, 100), st.integers(31, 400))
def test_no_later_row_is_read(seed: int, cut: int) -> None:
    values = usual(400, seed)
    for one in (moving.score, moving.level_shift, moving.change_sum, moving.jump):
        np.testing.assert_allclose(one(values[:cut]), one(values)[:cut], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("values", [np.zeros(0), np.full(5, 3.0), np.full(200, 7.0), np.full(200, np.nan)])
def test_short_constant_and_missing_series_are_no_surprise(values: Floats) -> None:
    assert np.nan_to_num(moving.score(values)).max(initial=0.0) == 0.0
    assert np.isnan(moving.deviation(values)[: moving.ROWS_MIN]).all()


def test_missing_rows_have_no_score_and_a_constant_that_moves_has_one() -> None:
    values = usual()
    values[400:420] = np.nan
    assert np.isnan(moving.score(values)[400:420]).all()
    assert np.isfinite(moving.score(values)[420])
    flat = np.full(200, 5.0)
    flat[150] = 6.0
    assert int(np.nanargmax(moving.score(flat))) == 150
