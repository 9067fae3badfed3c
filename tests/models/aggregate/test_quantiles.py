"""Quantiles stay within one per cent of the exact nearest rank, and SQL puts values in the same buckets."""

from __future__ import annotations

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.aggregate import quantiles
from tests.models.aggregate.events import law, nearest_rank

_VALUES = st.lists(st.floats(0, 3.2e10, allow_subnormal=False), min_size=1, max_size=200)


def _histogram(values: list[float]) -> tuple[quantiles.Buckets, quantiles.Counts]:
    buckets = quantiles.bucket_of(np.array(values))
    return buckets, np.ones(buckets.size, dtype=np.int64)


@law
@given(_VALUES, st.sampled_from([0.01, 0.5, 0.95, 0.99, 1.0]))
def test_every_quantile_is_within_one_per_cent_of_nearest_rank(values: list[float], q: float) -> None:
    exact = nearest_rank(values, q)
    assert quantiles.quantile(*_histogram(values), q) == pytest.approx(exact, rel=0.01 + 1e-9, abs=quantiles.TINY)


@law
@given(_VALUES, st.randoms(use_true_random=False))
def test_a_concatenation_is_a_merge(values: list[float], random: object) -> None:
    buckets, counts = _histogram(values)
    merged, sizes = quantiles.merge(buckets, counts)
    again, twice = quantiles.merge(np.concatenate((merged, buckets[::-1])), np.concatenate((sizes, counts)))
    assert (np.diff(merged) > 0).all()
    assert again.tolist() == merged.tolist()
    assert twice.tolist() == (2 * sizes).tolist()


def test_zero_negative_and_tiny_values_share_the_bucket_of_zero() -> None:
    buckets = quantiles.bucket_of(np.array([0.0, -5.0, 1e-9, 1e-7]))
    assert buckets.tolist() == [quantiles.ZERO_BUCKET] * 4
    assert quantiles.value_of(buckets).tolist() == [0.0] * 4
    assert quantiles.bucket_of(np.array([quantiles.TINY]))[0] > quantiles.ZERO_BUCKET


def test_an_empty_histogram_has_no_quantile() -> None:
    empty = np.array([], dtype=np.int32), np.array([], dtype=np.int64)
    assert quantiles.quantile(*empty, 0.5) is None
    assert quantiles.merge(*empty)[0].size == 0


def test_sql_finds_the_same_buckets() -> None:
    values = np.concatenate((np.logspace(-8, 10, 5_000), [0.0, -1.0]))
    expression = quantiles.bucket_sql("value")
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE told (value DOUBLE)")
        connection.executemany("INSERT INTO told VALUES (?)", [[value] for value in values[::10].tolist()])
        found = [row[0] for row in connection.execute(f"SELECT {expression} FROM told ORDER BY rowid").fetchall()]
    assert np.abs(np.array(found) - quantiles.bucket_of(values[::10])).max() <= 1
