"""The entities of one tenant judged beside each other, as trained, stored and served: a fleet with its threshold.

Rows are five minutes. A score needs the half day before it, in which the level of each entity is found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from models.anomaly import neighbourhood
from models.anomaly.fleet_series import FleetSeries, bins_of
from models.anomaly.lessons import Lesson, Lessons
from models.anomaly.neighbourhood import KIND, FleetDetector
from models.anomaly.refusals import ModelUnreadable, NotEnoughData, SeriesInvalid
from models.anomaly.scores import Arrays, Scores
from models.anomaly.seasonal import BIN_S, DAY_S
from models.anomaly.series import Matrix, Series
from models.anomaly.threshold import Threshold
from models.anomaly.window_answers import not_scored, scored, told_drivers

STEP_S: Final = 300
# Hours at the start of what is scored that have no score.
BLIND_H: Final = 12
# What entities are grouped by: those of one value are each other's neighbours.
GROUPS: Final = ("service", "model")
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True, eq=False)
class Together:
    """A fitted fleet and the threshold of its entities.

    Attributes:
        threshold: of every entity; its budget is of all of them together.
    """

    detector: FleetDetector
    threshold: Threshold
    kind: str = KIND

    @property
    def entities(self) -> tuple[str, ...]:
        """Those it knows."""
        return self.detector.entities

    @property
    def blind_rows(self) -> int:
        """Rows at the start without a score."""
        return BLIND_H * 3_600 // self.detector.step_s

    @property
    def season(self) -> str:
        """What its rhythm tells apart."""
        kinds = self.detector.usual.profile.shape[0] * BIN_S // DAY_S
        return "time of day, weekends apart" if kinds > 1 else "time of day"

    def score(self, series: Mapping[str, Series]) -> dict[str, Scores]:
        """Trailing scores of the entities that are both known and given; the others count as missing.

        Raises:
            SeriesInvalid: other features, another step, or series that do not begin and end together.
            NotEnoughData: none of them is known, or there are no more rows than BLIND_H takes.
        """
        known = [name for name in self.entities if name in series]
        if not known:
            raise NotEnoughData(
                "the model was trained on none of these entities",
                hint=f"It knows {len(self.entities)}, such as {self.entities[0][:100]}.",
            )
        first = series[known[0]]
        if first.rows <= self.blind_rows:
            raise NotEnoughData(
                f"{first.rows} rows; a score needs the {self.blind_rows} before it, in which levels are found",
                hint=f"Send {self.blind_rows + 1} rows of {self.detector.step_s} s or more.",
            )
        missing = first.with_values(np.full_like(first.values, np.nan))
        fleet = FleetSeries(
            self.entities, tuple(series.get(name, missing) for name in self.entities), self.detector.groups
        )
        found = self.detector.score(fleet)
        score, share = found.score.copy(), found.share.copy()
        score[: self.blind_rows], share[: self.blind_rows] = np.nan, np.nan
        places = {name: number for number, name in enumerate(self.entities)}
        return {name: Scores(score[:, places[name]], share[:, places[name]]) for name in known}

    def drivers(self, row: Matrix, share: Matrix, *, entity: str, at_us: int) -> list[dict[str, Any]]:
        """See `window_answers.drivers`; usual is the entity's own rhythm."""
        usual, place = self.detector.usual, self.entities.index(entity)
        kinds = usual.profile.shape[0] * BIN_S // DAY_S
        [at] = bins_of(at_us // 1_000_000, 1, self.detector.step_s, kinds).tolist()
        return told_drivers(
            self.detector.features, row, share, usual=usual.profile[at, place], spread=usual.spread[place]
        )

    def arrays(self) -> Arrays:
        """All it learned, for `load`."""
        return self.detector.arrays()

    def configuration(self) -> dict[str, Any]:
        """What `load` needs beside the arrays, as JSON."""
        level = {"value": self.threshold.value, "budget_per_day": self.threshold.budget_per_day}
        return {"format": _FORMAT, "kind": KIND, **self.detector.configuration(), "threshold": level}


def fit(series: Mapping[str, Series], *, budget_per_day: float, groups: Sequence[str] = GROUPS) -> Together:
    """Fit on series of the same rows.

    Args:
        budget_per_day: false alarms a day of all entities together.
        groups: dimensions whose values make entities neighbours.

    Raises:
        NotEnoughData: fewer than three days, or no entity. SeriesInvalid: too many entities, or unlike series.
    """
    fleet = fleet_of(series, groups)
    detector = neighbourhood.fit(fleet)
    scores = detector.score(fleet).score[BLIND_H * 3_600 // fleet.step_s :]
    level = neighbourhood.threshold(scores, step_s=fleet.step_s, budget_per_day=budget_per_day)
    return Together(detector, level)


def fleet_of(series: Mapping[str, Series], groups: Sequence[str] = GROUPS) -> FleetSeries:
    """Entities with their groups, which are read from their names.

    Raises:
        NotEnoughData: no series. SeriesInvalid: see `FleetSeries`.
    """
    names = tuple(sorted(series))
    told = [dict(part.partition("=")[::2] for part in name.split(",")) for name in names]
    members = tuple((group, tuple(one.get(group, "") for one in told)) for group in groups)
    return FleetSeries(names, tuple(series[name] for name in names), members)


def load(arrays: Arrays, configuration: dict[str, Any]) -> Together:
    """Inverse of `Together.arrays` and `configuration`: scores are the same to the last bit.

    Raises:
        ModelUnreadable: an array or entry is absent or does not fit.
    """
    try:
        if configuration["format"] != _FORMAT:
            raise ModelUnreadable(f"format {configuration['format']} is not known here")
        detector = neighbourhood.load(arrays, configuration)
        shape = (len(detector.entities), len(detector.features))
        if detector.usual.spread.shape != shape or detector.tails.middle.shape[1:] != shape:
            raise ModelUnreadable(f"spreads of shape {detector.usual.spread.shape} for {shape}")
        level = configuration["threshold"]
        return Together(detector, Threshold(float(level["value"]), detector.step_s, float(level["budget_per_day"])))
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise ModelUnreadable(f"this is no stored {KIND}: {error}") from error


def answers(
    model: Together,
    windows: Matrix,
    *,
    entities: Sequence[str],
    starts_us: Sequence[int],
    verdicts: Sequence[Sequence[Lesson]],
    features: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """See `window_answers.answers`; the windows of one question are side by side, one for each entity.

    Args:
        features: names of the columns; None where they are in the order of the model.

    Raises:
        SeriesInvalid: an entity twice, windows that begin at different times, or other features.
        NotEnoughData: the model knows one of the entities not, or the windows are too short.
    """
    if len(set(entities)) < len(entities) or len(set(starts_us)) > 1:
        raise SeriesInvalid(
            "windows side by side are one for each entity, with one start",
            hint="Send the entities of one tenant, each once, over the same rows.",
        )
    _check_features(model, windows, features)
    told_features, step_s = model.detector.features, model.detector.step_s
    series = {name: Series(windows[at], told_features, step_s, starts_us[at]) for at, name in enumerate(entities)}
    unknown = [name for name in entities if name not in model.entities]
    if unknown:
        raise NotEnoughData(
            f"the model was not trained on the entity {unknown[0][:200]!r}",
            hint="Train again once it has some days of data, or leave it out.",
        )
    found = model.score(series)
    told = []
    for at, name in enumerate(entities):
        score, one = float(found[name].score[-1]), series[name]
        if np.isnan(score):
            told.append(not_scored("all features of the last row are missing"))
            continue
        at_us = one.start_us + (one.rows - 1) * one.step_s * 1_000_000
        named = model.drivers(one.values[-1], found[name].share[-1], entity=name, at_us=at_us)
        learned = Lessons.of(verdicts[at], len(told_features)).threshold(model.threshold, named)
        told.append(scored(score, learned, named))
    return told


def _check_features(model: Together, windows: Matrix, features: Sequence[str] | None) -> None:
    own = model.detector.features
    if windows.shape[2] != len(own) or tuple(features or own) != own:
        raise SeriesInvalid(
            f"the model reads {len(own)} features at steps of {model.detector.step_s} s: {', '.join(own)}",
            hint="Send them in this order; GET /api/v1/detectors lists them.",
        )
