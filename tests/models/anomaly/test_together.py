"""Entities of a tenant beside each other: found with drivers, alone in it, restored to the bit, refused with reason."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest

from models.anomaly import together
from models.anomaly.features import entity_series
from models.anomaly.judgement import judge
from models.anomaly.lessons import Lesson
from models.anomaly.refusals import ModelUnreadable, NotEnoughData, SeriesInvalid
from models.anomaly.series import Series
from models.anomaly.threshold import decide
from models.anomaly.together import Together
from tests.models.anomaly.neighbours import DAY_ROWS, ENTITIES, ROW_US, START_US, minutes, name_of, series_of_rows

FITTED = 4 * DAY_ROWS
SLOW = (5 * DAY_ROWS + 200, 5 * DAY_ROWS + 212)
CULPRIT = name_of("search", "m")


@cache
def model() -> Together:
    return together.fit(series_of_rows(0, FITTED, minutes(6 * DAY_ROWS, slow=SLOW)), budget_per_day=1.0)


def day() -> dict[str, Series]:
    """The last day, in which one entity is slow for an hour."""
    table = minutes(6 * DAY_ROWS, slow=SLOW)
    return series_of_rows(5 * DAY_ROWS, 6 * DAY_ROWS, table, model().detector.features)


def test_five_minutes_are_the_sum_of_their_minutes() -> None:
    table = minutes(6 * DAY_ROWS, slow=SLOW)
    span = {"from_us": START_US, "to_us": START_US + DAY_ROWS * ROW_US}
    fine = {str(name): one for name, one in entity_series(table, **span).items()}
    coarse = {str(name): one for name, one in entity_series(table, step_s=300, **span).items()}
    assert fine.keys() == coarse.keys()
    for name, one in coarse.items():
        calls = np.nansum(np.expm1(fine[name].values[:, 0]).reshape(-1, 5), axis=1)
        assert np.expm1(one.values[:, 0]) == pytest.approx(calls, rel=1e-4)
        assert (one.step_s, one.rows) == (300, DAY_ROWS)
    with pytest.raises(SeriesInvalid, match="whole rows of 300 s"):
        entity_series(table, from_us=START_US + 60_000_000, to_us=START_US + ROW_US, step_s=300)


def test_the_slow_one_is_found_and_its_neighbours_are_not() -> None:
    found = model().score(day())
    assert set(found) == {name_of(*one) for one in ENTITIES}
    start, end = (at - 5 * DAY_ROWS for at in SLOW)
    assert (found[CULPRIT].score[start:end] > model().threshold.level).sum() >= 8
    alarms = {name: decide(one.score[: end + 6], model().threshold) for name, one in found.items()}
    assert [name for name, told in alarms.items() if told] == [CULPRIT]
    [alarm] = alarms[CULPRIT]
    assert start <= alarm.start <= start + 2
    quiet = np.concatenate([one.score[: start - 1] for one in found.values()])
    assert np.nanmean(quiet > model().threshold.level) < 0.02
    series, at = day()[CULPRIT], start + 3
    [driver, *_] = model().drivers(
        series.values[at], found[CULPRIT].share[at], entity=CULPRIT, at_us=series.start_us + at * ROW_US
    )
    assert driver["feature"].startswith("latency_ms")
    assert driver["value"] > driver["usual"] + 0.5


def test_a_stored_fleet_scores_the_same_bits_and_a_spoilt_one_is_refused() -> None:
    told = json.loads(json.dumps(model().configuration()))
    again = together.load(model().arrays(), told)
    assert again.threshold == model().threshold
    for name, one in model().score(day()).items():
        assert again.score(day())[name].score.tobytes() == one.score.tobytes()
    for spoilt in ({**told, "format": 9}, {**told, "features": told["features"][1:]}, {}):
        with pytest.raises(ModelUnreadable):
            together.load(model().arrays(), spoilt)
    with pytest.raises(ModelUnreadable):
        together.load({}, told)


def test_half_a_day_has_no_score_and_less_is_refused() -> None:
    found = model().score(day())[CULPRIT].score
    assert np.isnan(found[: model().blind_rows]).all()
    assert np.isfinite(found[model().blind_rows :]).all()
    with pytest.raises(NotEnoughData, match="144 before it"):
        model().score({name: one.part(0, 144) for name, one in day().items()})


def test_entities_that_are_gone_or_new_leave_the_others_their_scores() -> None:
    some = {name: one for name, one in day().items() if "service=search" in name}
    found = model().score(some | {"service=new": some[CULPRIT]})
    assert set(found) == set(some)
    start = SLOW[0] - 5 * DAY_ROWS
    assert found[CULPRIT].score[start + 4] > model().threshold.level
    with pytest.raises(NotEnoughData, match="none of these entities"):
        model().score({"service=new": some[CULPRIT]})


def test_a_fleet_is_judged_on_faults_and_needs_three_days() -> None:
    table = minutes(6 * DAY_ROWS, slow=SLOW)
    held = series_of_rows(3 * DAY_ROWS, 5 * DAY_ROWS, table, model().detector.features)
    judged = judge(model(), held, dict.fromkeys(held, DAY_ROWS))
    assert judged.average_precision > 3 * judged.random_precision
    assert judged.entities == len(ENTITIES)
    with pytest.raises(NotEnoughData, match="120 scored rows"):
        judge(model(), held, dict.fromkeys(held, 2 * DAY_ROWS - 50))
    with pytest.raises(NotEnoughData, match="3 are needed"):
        together.fit(series_of_rows(0, 2 * DAY_ROWS, table), budget_per_day=1.0)


def test_windows_of_one_question_are_side_by_side() -> None:
    names = [name_of(*one) for one in ENTITIES]
    end = SLOW[0] - 5 * DAY_ROWS + 5
    windows = np.stack([day()[name].values[end - 200 : end] for name in names])
    starts = [START_US + (5 * DAY_ROWS + end - 200) * ROW_US] * len(names)
    unsaid: list[tuple[Lesson, ...]] = [()] * len(names)

    def asked(**changed: object) -> list[dict[str, object]]:
        told = {"windows": windows, "entities": names, "starts_us": starts, "verdicts": unsaid} | changed
        return together.answers(model(), told.pop("windows"), **told)  # type: ignore[arg-type]

    told = asked()
    assert [one["is_anomaly"] for one in told] == [name == CULPRIT for name in names]
    silent = windows.copy()
    silent[0, -1] = np.nan
    assert asked(windows=silent)[0]["state"] == "not_enough_data"
    for changed in (
        {"entities": [names[0]] * 4},
        {"starts_us": [*starts[:3], 0]},
        {"windows": windows[:, :, 1:]},
        {"features": ["other"]},
    ):
        with pytest.raises(SeriesInvalid):
            asked(**changed)
    with pytest.raises(NotEnoughData, match="not trained on"):
        asked(entities=["service=new", *names[1:]])
