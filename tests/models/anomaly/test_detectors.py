"""Promises that every detector keeps, whatever its model: found incidents, no reading ahead, exact round trips."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from models.anomaly import autoencoder, detector, forecast, gnn_metric
from models.anomaly.calibrated import Detector
from models.anomaly.detector import DETECTORS
from models.anomaly.refusals import DetectorUnknown, ModelUnreadable, NotEnoughData, SeriesInvalid
from models.anomaly.scores import LOGARITHM, Fitted
from models.anomaly.series import Series
from models.anomaly.side_by_side import Relations
from models.anomaly.training import Trainer
from tests.models.anomaly.synthetic import planted, series_of, training, usual

torch.set_num_threads(1)
KINDS = tuple(DETECTORS)


@cache
def fitted(kind: str) -> Fitted:
    return detector.fit(kind, [training()], seed=1)


@pytest.mark.parametrize("kind", KINDS)
def test_an_incident_stands_out_and_its_feature_has_the_largest_share(kind: str) -> None:
    incident = planted()
    scores = fitted(kind).score(incident.series, trailing=True)
    inside = slice(incident.start + 3, incident.stop)
    outside = np.concatenate((scores.score[30 : incident.start], scores.score[incident.stop + 40 :]))
    # A forecast gets used to the new level: it tells of the incident where it begins.
    assert scores.score[inside].max() > np.nanquantile(outside, 0.99)
    share = scores.share[inside].mean(axis=0)
    if kind in ("seasonal", "pca", "patch_bank"):
        assert share.argmax() == incident.feature
    else:
        # Networks see one feature through the others, so that an incident spreads over those as well.
        assert share[incident.feature] > 1 / 6


@pytest.mark.parametrize("kind", KINDS)
def test_the_shares_of_every_scored_row_add_up_to_one(kind: str) -> None:
    scores = fitted(kind).score(planted().series, trailing=True)
    known = np.isfinite(scores.score)
    assert known.sum() > 500
    assert (scores.score[known] >= 0).all()
    assert scores.share[known].sum(axis=1) == pytest.approx(1.0, abs=1e-4)
    assert (scores.share[known] >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [40, 311, 500])
def test_a_trailing_score_reads_no_later_row(kind: str, cut: int) -> None:
    series = planted().series
    whole = fitted(kind).score(series, trailing=True)
    early = fitted(kind).score(series.part(0, cut), trailing=True)
    assert early.score == pytest.approx(whole.score[:cut], rel=1e-3, abs=1e-4, nan_ok=True)
    assert early.share == pytest.approx(whole.share[:cut], rel=1e-2, abs=1e-3, nan_ok=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_detector_scores_the_same_to_the_last_bit(kind: str) -> None:
    one = fitted(kind)
    arrays = {name: array.copy() for name, array in one.arrays().items()}
    assert all(array.dtype != object for array in arrays.values())
    again = detector.load(kind, arrays, json.loads(json.dumps(one.configuration())))
    for trailing in (True, False):
        before, after = (each.score(planted().series, trailing=trailing) for each in (one, again))
        np.testing.assert_array_equal(before.score, after.score)
        np.testing.assert_array_equal(before.share, after.share)


def test_a_model_of_before_combines_as_its_tails_were_measured() -> None:
    """Its configuration says nothing of the form: the mean of logarithms it was."""
    one = fitted("pca")
    told = {name: value for name, value in one.configuration().items() if name != "form"}
    before = detector.load("pca", one.arrays(), told)
    assert isinstance(before, Detector)
    assert before.form == LOGARITHM
    series = planted().series
    deviation = before.model.deviation(before.scaling.apply(series), trailing=True) / before.calibrations[True].scale
    raw = np.log1p(deviation.astype(np.float64)).mean(axis=1)
    expected = before.calibrations[True].tail.surprise(np.convolve(raw, np.full(5, 0.2))[4 : raw.size])
    assert before.score(series, trailing=True).score[4:] == pytest.approx(expected, rel=1e-6, abs=1e-6)
    again = detector.load("pca", before.arrays(), json.loads(json.dumps(before.configuration())))
    np.testing.assert_array_equal(again.score(series, trailing=True).score, before.score(series, trailing=True).score)
    with pytest.raises(ModelUnreadable, match="combined by 'sum'"):
        detector.load("pca", one.arrays(), {**told, "form": "sum"})


def test_a_forecast_tells_a_new_level_where_it_begins_and_then_takes_it_for_usual() -> None:
    source = np.random.default_rng(5)
    level = np.zeros((1_800, 2), np.float32)
    for row in range(1, 1_800):
        level[row] = 0.97 * level[row - 1] + source.normal(size=2)
    one = forecast.fit([series_of(level[:1_500])], seed=1)
    broken = level[1_500:].copy()
    broken[200:, 1] += 15.0
    deviation = one.model.deviation(one.scaling.apply(series_of(broken)), trailing=True)
    assert np.isnan(deviation[:15]).all()
    assert deviation[200].argmax() == 1
    assert deviation[200, 1] > 3 * np.nanmax(deviation[:200, 1])
    assert np.median(deviation[201:, 1]) < 2 * np.nanmedian(deviation[:200, 1])


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_half_of_the_features_are_not_scored(kind: str) -> None:
    values = planted().series.values.copy()
    values[200:210, :4] = np.nan
    values[400:405, 1] = np.nan
    scores = fitted(kind).score(series_of(values, first=1_500), trailing=True)
    assert np.isnan(scores.score[200:210]).all()
    assert np.isfinite(scores.score[400:405]).all()
    assert np.isfinite(scores.score[250:260]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_no_row_at_all_gives_no_score_at_all(kind: str) -> None:
    empty = training().part(0, 0)
    scores = fitted(kind).score(empty, trailing=True)
    assert scores.score.shape == (0,)
    assert scores.share.shape == (0, 6)


@pytest.mark.parametrize("kind", ["seasonal", "pca", "patch_bank", "forecast", "pair"])
def test_the_same_seed_gives_the_same_detector(kind: str) -> None:
    one, other = (detector.fit(kind, [training()], seed=4).arrays() for _ in range(2))
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])


@pytest.mark.parametrize("kind", ["seasonal", "pca", "patch_bank", "forecast"])
def test_a_scaled_and_shifted_feature_changes_nothing(kind: str) -> None:
    """Units do not matter: milliseconds or seconds, bytes or mebibytes."""
    factor = np.array([1, 1000, 1, 0.5, 1, 1], np.float32)
    train, test = training(), planted().series
    scaled = detector.fit(kind, [train.with_values(train.values * factor)], seed=1)
    expected = fitted(kind).score(test, trailing=True).score
    found = scaled.score(test.with_values(test.values * factor), trailing=True).score
    assert found == pytest.approx(expected, rel=0.02, abs=0.02, nan_ok=True)


@pytest.mark.parametrize("kind", KINDS)
def test_other_features_or_another_step_are_refused(kind: str) -> None:
    series = planted().series
    renamed = Series(series.values, tuple("abcdef"), series.step_s, 0)
    with pytest.raises(SeriesInvalid, match="features"):
        fitted(kind).score(renamed, trailing=True)
    with pytest.raises(SeriesInvalid, match="steps of 300 s"):
        fitted(kind).score(Series(series.values, series.features, 60, 0), trailing=True)


@pytest.mark.parametrize("kind", KINDS)
def test_too_little_to_fit_on_is_refused(kind: str) -> None:
    with pytest.raises(NotEnoughData, match="no series"):
        detector.fit(kind, [], seed=1)
    with pytest.raises(NotEnoughData, match="100 of 100 rows"):
        detector.fit(kind, [training(100)], seed=1)
    with pytest.raises(NotEnoughData, match="0 of 1500 rows"):
        detector.fit(kind, [series_of(np.full((1_500, 3), np.nan, np.float32))], seed=1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_detector_that_was_altered_is_refused(kind: str) -> None:
    arrays, told = fitted(kind).arrays(), fitted(kind).configuration()
    with pytest.raises(ModelUnreadable):
        detector.load(kind, {}, told)
    with pytest.raises(ModelUnreadable):
        detector.load(kind, arrays, {})
    cut = {name: array[:-1] if name.endswith("centre") else array for name, array in arrays.items()}
    with pytest.raises(ModelUnreadable):
        detector.load(kind, cut, told)


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    with pytest.raises(DetectorUnknown, match="prophet") as refused:
        detector.fit("prophet", [training()], seed=1)
    assert "patch_bank" in refused.value.hint


def test_several_series_are_fitted_together_and_progress_reaches_the_end() -> None:
    told: list[float] = []
    several = [training(700), series_of(usual(700, seed=8), first=0)]
    one = detector.fit("patch_bank", several, seed=1, progress=told.append)
    assert np.isfinite(one.score(planted().series, trailing=True).score[30:]).all()


@pytest.mark.parametrize("kind", ["seasonal", "pca", "patch_bank", "forecast", "pair"])
def test_a_single_feature_can_be_scored(kind: str) -> None:
    one = detector.fit(kind, [series_of(usual(1_500, 1))], seed=1)
    values = usual(300, 1, seed=3, first=1_500)
    values[200:220] += 6.0
    scores = one.score(series_of(values, first=1_500), trailing=True).score
    assert np.nanmax(scores[200:220]) > np.nanmax(scores[:190])


RECIPES: dict[str, Any] = {
    "autoencoder": autoencoder.Autoencoding(autoencoder.Shape(6, steps=20)),
    "gnn_metric": gnn_metric.Forecasting(gnn_metric.Shape(6, 3, steps=20)),
}


@pytest.mark.parametrize("kind", RECIPES)
def test_training_that_was_stopped_goes_on_as_if_it_had_not(kind: str) -> None:
    whole, first = (Trainer(RECIPES[kind], [training()], seed=2) for _ in range(2))
    losses = [whole.step() for _ in range(20)]
    for _ in range(8):
        first.step()
    second = Trainer(RECIPES[kind], [training()], seed=7)
    resumed = Trainer(RECIPES[kind], [training()], seed=2)
    resumed.restore(first.state())
    assert resumed.done == 8
    assert [resumed.step() for _ in range(12)] == losses[8:]
    assert second.step() != losses[0]
    before, after = (one.finish().score(planted().series, trailing=True).score for one in (whole, resumed))
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("kind", RECIPES)
def test_training_lowers_the_loss_and_leaves_the_callers_random_numbers_alone(kind: str) -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    # A quick wave, which it takes more than the last value to forecast.
    wave = usual(900) + 5 * np.sin(np.arange(900, dtype=np.float32))[:, None]
    trainer = Trainer(replace(RECIPES[kind], shape=replace(RECIPES[kind].shape, steps=200)), [series_of(wave)], seed=2)
    losses = [trainer.step() for _ in range(200)]
    assert torch.equal(torch.rand(3), expected)
    assert np.mean(losses[-40:]) < 0.9 * np.mean(losses[:40])


def test_the_graph_joins_features_that_move_together_and_the_twin_has_none() -> None:
    values = usual(800, 4)
    values[:, 2] = -3 * values[:, 0] + 1
    assert gnn_metric.nearest([values], 1)[0, 0] == 2
    assert gnn_metric.nearest([values], 1)[2, 0] == 0
    twin = gnn_metric.Forecasting(gnn_metric.Shape(4, 3, edges=False)).network([values])
    assert isinstance(twin, gnn_metric.GraphNetwork)
    assert twin.neighbours.shape == (4, 0)


def test_those_called_together_come_first_and_nobody_s_own_features() -> None:
    values = usual(800, 4)
    values[:, 2] = -3 * values[:, 0] + 1
    together = np.zeros((4, 4), np.bool_)
    together[0, 3] = together[3, 0] = True
    near = gnn_metric.nearest([values], 2, Relations(np.array([0, 0, 1, 1]), together))
    # The one of those it was called with, then the one it moves with; never the other one of its own entity.
    assert near[0].tolist() == [3, 2]
    assert sorted(near[1].tolist()) == [2, 3]
    assert near[2].tolist()[0] == 0


def test_entities_side_by_side_tell_what_each_should_be_and_not_what_all_do() -> None:
    source = np.random.default_rng(8)
    load = np.convolve(source.normal(0, 0.5, 2_649), 0.95 ** np.arange(50), "valid").astype(np.float32)
    names = [f"service=s{one},model=m|requests_log" for one in range(4)]
    values = load[:, None] + source.normal(0, 0.2, (2_600, 4)).astype(np.float32)
    values[2_300:2_340, 2] += 2.0  # One leaves the others …
    values[2_450:2_490] += 2.0  # … and all rise together.
    whole = Series(values, tuple(names), 60, 0)
    early = [whole.part(0, 2_000)]
    told = gnn_metric.fit(early, seed=1).score(whole, trailing=True)
    alone = gnn_metric.fit(early, seed=1, edges=False).score(whole, trailing=True)
    assert told.score[2_310:2_340].mean() > 3 * told.score[2_460:2_490].mean()
    # As long as it lasts, and by its own feature.
    assert told.score[2_330:2_340].min() > 4 and told.share[2_310:2_340, 2].mean() > 0.5
    assert alone.score[2_310:2_340].mean() < told.score[2_310:2_340].mean()
