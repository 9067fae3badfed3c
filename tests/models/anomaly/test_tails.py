"""Surprisal rises with the score, has no bound, and means what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.anomaly.refusals import NotEnoughData
from models.anomaly.tails import SCORES_MIN, Tail


@given(st.integers(0, 1_000), st.sampled_from(["standard_exponential", "standard_normal", "standard_cauchy"]))
def test_it_rises_with_the_score_and_never_saturates(seed: int, shape: str) -> None:
    known = getattr(np.random.default_rng(seed), shape)(500)
    tail = Tail.fit(known)
    asked = np.sort(np.concatenate((known, [known.max() + 1, known.max() + 10, known.max() + 1_000])))
    told = tail.surprise(asked)
    assert (np.diff(told) >= 0).all()
    assert told[-1] > told[-2] > told[-3] > 3.9


def test_it_is_the_logarithm_of_the_share_above() -> None:
    tail = Tail.fit(np.random.default_rng(0).exponential(1.0, 20_000))
    # P(X > x) = exp(-x) for this distribution, so the surprisal of x is x, counted and beyond what was seen.
    assert tail.surprise(np.array([0.5, 2.0, 3.5, 6.0, 12.0])) == pytest.approx([0.5, 2.0, 3.5, 6.0, 12.0], rel=0.15)


def test_scores_that_are_all_equal_are_no_surprise_and_any_higher_one_is() -> None:
    tail = Tail.fit(np.full(100, 0.3))
    assert tail.surprise(np.array([0.1]))[0] <= tail.surprise(np.array([0.4]))[0]
    assert tail.surprise(np.array([0.4]))[0] > 5.0


def test_unknown_stays_unknown_and_too_few_are_refused() -> None:
    tail = Tail.fit(np.append(np.arange(100.0), np.nan))
    assert np.isnan(tail.surprise(np.array([np.nan]))[0])
    with pytest.raises(NotEnoughData):
        Tail.fit(np.append(np.ones(SCORES_MIN - 1), np.nan))
