"""Models of patches beside what they are by definition: patch by patch, without the steps that make them quick."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from models.anomaly import autoencoder, forecast, gnn_metric, patch_bank
from models.anomaly.calibrated import PatchModel
from models.anomaly.layers import Columns
from models.anomaly.patches import align, draw, last_patches, patches_of
from models.anomaly.pca import Subspace
from models.anomaly.series import Matrix, Series
from tests.models.anomaly.synthetic import series_of

torch.set_num_threads(1)
FEATURES = (1, 2, 5)
KINDS = ("autoencoder", "gnn_metric", "no_edges", "peers", "patch_bank", "forecast")


@cache
def model(kind: str, features: int) -> PatchModel:
    """Untrained: what a model says is a matter of its formula, whatever its weights."""
    source = np.random.default_rng(features)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(features)
        if kind == "autoencoder":
            return autoencoder.recipe(features).model(autoencoder.PatchNetwork(autoencoder.Shape(features)).eval())
        if kind in ("gnn_metric", "no_edges", "peers"):
            recipe = gnn_metric.recipe(
                [f"model=m{one}|cost_log" if kind == "peers" else f"m{one}" for one in range(features)],
                edges=kind != "no_edges",
            )
            network = recipe.network([source.standard_normal((50, features)).astype(np.float32)])
            return recipe.model(network.eval())
    if kind == "forecast":
        return forecast.OwnPast(
            source.normal(0, 0.2, (features, forecast.PAST)).astype(np.float32),
            source.normal(0, 0.2, features).astype(np.float32),
        )
    patches = source.standard_normal((200, features * patch_bank.LENGTH)).astype(np.float32)
    space = Subspace.fit(patches, 12)
    return patch_bank.PatchBank(space, (patches - space.mean) @ space.basis)


def by_definition(one: PatchModel, patch: Matrix, *, trailing: bool) -> Matrix:
    """(f,) deviations of one (f, length) patch without gaps."""
    if isinstance(one, forecast.OwnPast):
        return np.abs(patch[:, -1] - (patch[:, :-1] * one.weights).sum(axis=1) - one.constant)
    if isinstance(one, patch_bank.PatchBank):
        flat = (patch.ravel() - one.space.mean).astype(np.float64)
        place = flat @ one.space.basis
        near = np.argsort(((one.bank - place) ** 2).sum(axis=1), kind="stable")[: patch_bank.NEAREST]
        residual = (flat - one.space.basis @ one.bank[near].mean(axis=0)).reshape(patch.shape)
        return cast(Matrix, np.sqrt((residual[:, -5 if trailing else 0 :] ** 2).mean(axis=1)))
    assert isinstance(one, autoencoder.PatchAutoencoder | gnn_metric.GraphForecast)
    told = torch.from_numpy(patch[None].copy())
    with torch.inference_mode():
        if isinstance(one, gnn_metric.GraphForecast):
            return cast(Matrix, (one.network(told) - told[:, :, -1]).abs().numpy()[0])
        rows = slice(21, 24) if trailing else slice(9, 14)
        return cast(Matrix, (one.network(told) - told)[:, :, rows].abs().mean(dim=2).numpy()[0])


def series(rows: int, features: int, *, missing: float = 0.0) -> Series:
    source = np.random.default_rng(rows)
    values = source.normal(0, 2, (rows, features)).astype(np.float32)
    values[source.random(values.shape) < missing] = np.nan
    return series_of(values)


@pytest.mark.parametrize("kind", KINDS)
@given(
    rows=st.integers(0, 60),
    features=st.sampled_from(FEATURES),
    missing=st.sampled_from([0, 0.2]),
    trailing=st.booleans(),
)
def test_every_row_is_judged_as_its_patch_by_definition(
    kind: str, rows: int, features: int, missing: float, trailing: bool
) -> None:
    one, told = model(kind, features), series(rows, features, missing=missing)
    found = one.deviation(told, trailing=trailing)
    assert found.shape == (rows, features)
    whole, length = np.nan_to_num(told.values), one.length
    ending = trailing or kind in ("gnn_metric", "no_edges", "peers", "forecast")
    for row in range(rows):
        last = row if ending else min(max(row + length // 2, length - 1), rows - 1)
        if last < length - 1 or rows < length:
            assert np.isnan(found[row]).all()
            continue
        expected = by_definition(one, whole[last - length + 1 : last + 1].T, trailing=trailing)
        expected = np.where(np.isnan(told.values[row]), np.nan, expected)
        assert found[row] == pytest.approx(expected, rel=1e-4, abs=1e-5, nan_ok=True)


@pytest.mark.parametrize("kind", KINDS)
def test_more_rows_than_are_judged_at_a_time_are_judged_as_in_parts(kind: str) -> None:
    one, told = model(kind, 5), series(1_100, 5, missing=0.1)
    found = one.deviation(told, trailing=True)
    for start in (0, 131, 513, 1_000):
        part = one.deviation(told.part(start, start + 100), trailing=True)[one.length - 1 :]
        assert part == pytest.approx(found[start + one.length - 1 : start + 100], rel=1e-4, abs=1e-5, nan_ok=True)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_rows_are_judged_the_same_to_the_last_bit_also_by_threads_side_by_side(kind: str) -> None:
    one, told = model(kind, 5), series(700, 5)
    expected = one.deviation(told, trailing=True)
    with ThreadPoolExecutor(2) as threads:
        for found in threads.map(lambda _: one.deviation(told, trailing=True), range(6)):
            np.testing.assert_array_equal(found, expected)


@given(st.integers(1, 40), st.integers(1, 3), st.integers(1, 30))
def test_patches_are_the_windows_of_consecutive_rows(rows: int, features: int, length: int) -> None:
    values = series(rows, features, missing=0.2).values
    found = patches_of(values, length)
    assert found.shape == (features, length, max(rows - length + 1, 0))
    for at in range(found.shape[2]):
        np.testing.assert_array_equal(found[:, :, at], np.nan_to_num(values[at : at + length]).T)


@given(st.integers(1, 7), st.integers(1, 3), st.integers(1, 5), st.integers(1, 24))
def test_the_last_patches_of_windows_are_the_patches_of_each(
    count: int, features: int, judged: int, length: int
) -> None:
    rows = judged + length - 1
    windows = series(count * rows, features, missing=0.2).values.reshape(count, rows, features)
    found = last_patches(windows, length).reshape(features, length, judged, count)
    for at, window in enumerate(windows):
        np.testing.assert_array_equal(found[:, :, :, at], patches_of(window, length))


def test_a_row_is_judged_by_the_patch_that_ends_with_it_or_that_it_is_the_middle_of() -> None:
    told = series(6, 1)
    by_patch = np.array([[10, 11, 12]], np.float32)
    assert align(by_patch, told, 4, trailing=True)[3:, 0].tolist() == [10, 11, 12]
    assert np.isnan(align(by_patch, told, 4, trailing=True)[:3]).all()
    assert align(by_patch, told, 4, trailing=False)[:, 0].tolist() == [10, 10, 11, 12, 12, 12]


def test_patches_are_drawn_from_every_place_of_every_series() -> None:
    several = [np.arange(at, at + 6, dtype=np.float32)[:, None] for at in (0, 100)]
    drawn = draw([patches_of(one, 4) for one in several], 4, np.random.default_rng(1), 200)
    assert drawn.shape == (200, 1, 4)
    assert sorted(set(drawn[:, 0, 0].tolist())) == [0, 1, 2, 100, 101, 102]
    np.testing.assert_array_equal(drawn[:, 0], drawn[:, 0, :1] + np.arange(4))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(1, 40))
def test_columns_say_what_the_linear_layer_says(inputs: int, outputs: int, features: int, count: int) -> None:
    layer, names = nn.Linear(inputs + 2, outputs), torch.randn(features, 2)
    told = torch.randn(count, features, inputs)
    expected = layer(torch.cat((told, names.expand(count, -1, -1)), dim=2)).detach().permute(1, 2, 0)
    found = Columns.named(layer, names)(told.permute(1, 2, 0).contiguous())
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)
    plain = Columns.of(layer)(torch.cat((told[0], names), dim=1).t().contiguous())
    assert torch.allclose(plain, expected[:, :, 0].t(), rtol=1e-4, atol=1e-5)
