"""One detector for many entities: each in its own units, windows scored as the series would be, exact round trips."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
import torch

from models.anomaly import detector, fleet
from models.anomaly.detector import DETECTORS
from models.anomaly.fleet import POOLED, Fleet, Units
from models.anomaly.refusals import ModelUnreadable, NotEnoughData, SeriesInvalid
from models.anomaly.series import Series
from models.anomaly.side_by_side import columns_of, relations_of, side_by_side, split
from tests.models.anomaly.synthetic import series_of, usual

torch.set_num_threads(1)


def _series(rows: int = 1_500, *, seed: int = 0) -> dict[str, Series]:
    """A busy entity, and one a hundred times smaller with another level."""
    quiet = usual(rows, seed=seed + 50) * np.float32(0.01) + np.float32(3)
    return {"busy": series_of(usual(rows, seed=seed)), "quiet": series_of(quiet)}


@cache
def fitted(kind: str) -> Fleet:
    series = _series()
    units = Units.fit(series, seasons=True)
    return fleet.assemble(units, detector.fit(kind, list(fleet.residuals_of(units, series).values()), seed=1), series)


@pytest.mark.parametrize("kind", DETECTORS)
def test_a_window_is_scored_as_the_row_of_its_series(kind: str) -> None:
    model, series = fitted(kind), _series(200, seed=7)
    rows = [80, 120, 199]
    windows = np.stack([series[name].values[at - 63 : at + 1] for name in series for at in rows])
    starts = [series[name].start_us + (at - 63) * 300_000_000 for name in series for at in rows]
    names = [name for name in series for _ in rows]
    found = model.score_last(windows, names, starts)
    whole = {name: model.score(one, name) for name, one in series.items()}
    expected = [whole[name].score[at] for name in series for at in rows]
    assert found.score == pytest.approx(expected, rel=1e-4, abs=1e-4)
    shares = np.stack([whole[name].share[at] for name in series for at in rows])
    assert found.share == pytest.approx(shares, abs=1e-3)


@pytest.mark.parametrize("seasons", [True, False])
@pytest.mark.parametrize("kind", ["pca", "patch_bank", "seasonal"])
def test_windows_with_gaps_are_scored_as_the_rows_of_their_series(kind: str, seasons: bool) -> None:
    told = _series()
    units = Units.fit(told, seasons=seasons)
    model = fleet.assemble(units, detector.fit(kind, list(fleet.residuals_of(units, told).values()), seed=1), told)
    values = _series(300, seed=11)["quiet"].values.copy()
    values[150:153, :4] = np.nan
    values[200:202, 1] = np.nan
    series = series_of(values)
    rows = [100, 149, 151, 154, 157, 201, 203, 299]
    windows = np.stack([values[at - 39 : at + 1] for at in rows])
    starts = [(at - 39) * 300_000_000 for at in rows]
    found, whole = model.score_last(windows, ["quiet"] * len(rows), starts), model.score(series, "quiet")
    assert found.score == pytest.approx(whole.score[rows], rel=1e-5, abs=1e-5, nan_ok=True)
    assert found.share == pytest.approx(whole.share[rows], abs=1e-4, nan_ok=True)
    assert np.isnan(found.score).tolist() == [False, False, True, False, False, False, False, False]


@pytest.mark.parametrize("kind", ["pca", "patch_bank", "autoencoder", "gnn_metric"])
def test_a_long_series_is_scored_in_parts_as_it_would_be_whole(kind: str) -> None:
    model, series = fitted(kind), _series(5_000, seed=13)["busy"]
    values = series.values.copy()
    values[2_040:2_050] = np.nan
    series = series.with_values(values)
    whole = model.head.score(model.units.residual_series(series, "busy"), trailing=True)
    found = model.score(series, "busy")
    assert found.score == pytest.approx(whole.score, rel=1e-4, abs=1e-4, nan_ok=True)
    assert found.share == pytest.approx(whole.share, abs=1e-3, nan_ok=True)
    assert np.isnan(found.score).sum() == np.isnan(whole.score).sum()


@pytest.mark.parametrize("kind", DETECTORS)
def test_a_head_reads_no_row_beyond_its_reach(kind: str) -> None:
    model, windows = fitted(kind), _series(200, seed=15)["busy"].values[None, -60:]
    reach = model.head.reach_rows
    found = model.score_last(windows, ["busy"], [0])
    short = model.score_last(windows[:, -reach:], ["busy"], [(60 - reach) * 300_000_000])
    assert short.score == pytest.approx(found.score, rel=1e-6)
    other = windows.copy()
    other[:, : 60 - reach] = 1e6
    assert model.score_last(other, ["busy"], [0]).score == pytest.approx(found.score, rel=1e-6)


def test_many_entities_at_once_have_the_scores_they_have_alone() -> None:
    model, series = fitted("pca"), _series(300, seed=17)
    names = ["busy", "quiet", POOLED, "quiet", "busy"]
    windows = np.stack([series[name or "busy"].values[at : at + 40] for at, name in enumerate(names)])
    starts = [at * 300_000_000 for at in range(5)]
    together = model.score_last(windows, names, starts)
    for at, name in enumerate(names):
        alone = model.score_last(windows[at : at + 1], [name], starts[at : at + 1])
        assert alone.score == pytest.approx(together.score[at : at + 1], rel=1e-6)
    with pytest.raises(NotEnoughData, match="not trained on"):
        model.score_last(windows, [*names[:4], "new"], starts)


@pytest.mark.parametrize("kind", DETECTORS)
def test_a_stored_fleet_scores_the_same_bits(kind: str) -> None:
    model, series = fitted(kind), _series(120, seed=3)
    told = json.loads(json.dumps(model.configuration()))
    again = fleet.load(model.arrays(), told)
    for name, one in series.items():
        assert again.score(one, name).score.tobytes() == model.score(one, name).score.tobytes()
        assert again.threshold(name) == model.threshold(name)
    with pytest.raises(ModelUnreadable):
        fleet.load(model.arrays(), {**told, "names": ["other"]})


def test_each_entity_is_judged_in_its_own_units() -> None:
    model, series = fitted("pca"), _series(200, seed=9)
    assert np.nanmedian(model.score(series["quiet"], "quiet").score) < 3
    # The quiet one in the units of the busy one is never usual.
    assert np.nanmedian(model.score(series["quiet"], "busy").score) > 5


def test_what_a_model_does_not_know_is_refused() -> None:
    model, series = fitted("pca"), _series(200)
    with pytest.raises(NotEnoughData, match="not trained on"):
        model.score(series["busy"], "new")
    with pytest.raises(SeriesInvalid):
        model.score(Series(series["busy"].values, tuple("abcdef"), 300, 0), "busy")
    with pytest.raises(NotEnoughData, match="120 are needed"):
        Units.fit({"short": series["busy"].part(0, 100)}, seasons=True)


def test_an_entity_with_too_few_rows_gets_no_units_and_the_others_do() -> None:
    series = _series()
    gone = series["busy"].with_values(np.full_like(series["busy"].values, np.nan))
    units = Units.fit({**series, "silent": gone}, seasons=False)
    assert units.names == (POOLED, "busy", "quiet")


def test_windows_that_are_too_short_or_empty_have_no_score() -> None:
    model = fitted("autoencoder")
    values = _series(200)["busy"].values
    short = model.score_last(values[None, :10], ["busy"], [0])
    assert np.isnan(short.score).all()
    empty = np.full((1, 40, 6), np.nan, np.float32)
    assert np.isnan(model.score_last(empty, ["busy"], [0]).score).all()


def test_entities_side_by_side_keep_their_values() -> None:
    series = _series(200)
    columns = columns_of(series, ("m1", "m4"))
    assert columns == ("busy|m1", "busy|m4", "quiet|m1", "quiet|m4")
    one = side_by_side(series, [*columns, "gone|m1"])
    assert (one.values[:, 3] == series["quiet"].values[:, 4]).all()
    assert np.isnan(one.values[:, 4]).all()
    assert split("service=a|b,model=c|m1") == ("service=a|b,model=c", "m1")


def test_entities_that_were_called_together_are_related() -> None:
    chat, search, other, alone = (
        "service=chat,provider=openai,model=gpt-5,operation=chat",
        "service=search,provider=azure,model=gpt-5,operation=chat",
        "service=search,provider=google,model=gemini,operation=chat",
        "service=mail,provider=mistral,model=large,operation=chat",
    )
    columns = [f"{chat}|cost_log", *(f"{name}|error_share" for name in (chat, search, other, alone))]
    told = relations_of(columns)
    assert told is not None and told.entity[0] == told.entity[1] and len(set(told.entity.tolist())) == 4
    # One model, one service; the operation brings nobody together, and nobody is related to itself.
    assert told.together.tolist() == [
        [False, False, True, False, False],
        [False, False, True, False, False],
        [True, True, False, True, False],
        [False, False, True, False, False],
        [False, False, False, False, False],
    ]
    # What all have tells nobody from the others.
    same = relations_of([one.replace("azure", "openai").replace("google", "openai") for one in columns[:4]])
    assert same is not None and not same.together[0, 3]
    assert relations_of(("requests_log", "cost_log")) is None
    assert relations_of(()) is None and relations_of(columns[:2]) is None
