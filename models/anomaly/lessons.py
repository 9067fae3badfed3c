"""What verdicts teach: an alarm has to be higher the more alarms like it were called false, and none like it real.

Two alarms are alike when the same features drive them, in like parts. A false one counts only where its leading driver
goes the same way as well: calls that stay away are no burst of calls. A true one counts whichever way it goes, and from
a looser likeness on, as a missed incident costs more than a false alarm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from models.anomaly.series import Flags, Floats
from models.anomaly.threshold import CLEAR_SHARE, FACTOR_MAX, STEP, Threshold

# Correlation of the parts that features have in two scores, from which a false alarm and a true one is like another.
_ALIKE_FALSE: Final = 0.8
_ALIKE_TRUE: Final = 0.6
# Of the lowest score of a true alarm: scores of the next ones differ a little.
_UNDER: Final = 0.97
# As far as false alarms alone may raise a level.
_BLIND_MAX: Final = 1.25
# So many false alarms that are alike, and so many true ones of any kind, each move it half of the way.
_FALSE_FOR_HALF: Final = 20
_TRUE_FOR_HALF: Final = 8

# Profiles with less in them tell nothing apart.
_FLAT: Final = 1e-6

Driver = Mapping[str, Any]
Places = npt.NDArray[np.int64]


class Lesson(Protocol):
    """A verdict on an alarm."""

    @property
    def is_true(self) -> bool:
        """Whether it was a real anomaly."""

    @property
    def score(self) -> float:
        """Of the alarm."""

    @property
    def drivers(self) -> Sequence[Driver] | None:
        """Of the alarm, see `window_answers.drivers`; None where they were not kept: it is like every alarm."""


def direction_of(driver: Driver) -> str | None:
    """Of a driver, up or down from what is usual; None where there is no value."""
    if "direction" in driver or driver.get("value") is None:
        return driver.get("direction")
    return "up" if driver["value"] > driver["usual"] else "down"


@dataclass(frozen=True, slots=True, eq=False)
class Profiles:
    """Which part of their scores features have in alarms, less an even part, ready to be compared with others.

    What the drivers of an alarm leave of its score is shared evenly by the features that they do not name.

    Attributes:
        places: of the features that any of them names.
        off: (a, n) parts of those; rest: (a,) of each other feature.
        size: (a,) root of the squares of all.
        features: how many a score is made of.
    """

    places: dict[str, int]
    off: Floats
    rest: Floats
    size: Floats
    features: int

    @staticmethod
    def of(alarms: Sequence[Sequence[Driver]], features: int) -> Profiles:
        """Of the drivers of alarms."""
        names = dict.fromkeys(str(one["feature"]) for drivers in alarms for one in drivers)
        places = {name: at for at, name in enumerate(names)}
        count = max(features, len(places), 1)
        left = [1.0 - sum(float(one["share"]) for one in drivers) for drivers in alarms]
        rest = np.array([max(part, 0.0) / max(count - len(told), 1) for part, told in zip(left, alarms, strict=True)])
        off = np.repeat(rest[:, None], len(places), axis=1)
        for at, drivers in enumerate(alarms):
            for one in drivers:
                off[at, places[str(one["feature"])]] = float(one["share"])
        off, rest = off - 1 / count, rest - 1 / count
        size = np.sqrt((off**2).sum(axis=1) + (count - len(places)) * rest**2)
        return Profiles(places, off, rest, size, count)

    def likeness(self, drivers: Sequence[Driver]) -> Floats:
        """(a,) correlation of an alarm's parts with those of each, −1 to 1; where neither has any to tell apart, 1."""
        told = Profiles.of([drivers], self.features)
        mine = np.full(len(self.places), float(told.rest[0]))
        unnamed, product = self.features - len(self.places), 0.0
        for name, at in told.places.items():
            if name in self.places:
                mine[self.places[name]] = told.off[0, at]
            else:
                unnamed, product = unnamed - 1, product + float(told.off[0, at])
        product += max(unnamed, 0) * float(told.rest[0])
        flat, same = self.size < _FLAT, bool(told.size[0] < _FLAT)
        size = np.where(flat | same, 1.0, self.size * told.size[0])
        return np.where(flat | same, flat & same, (self.off @ mine + self.rest * product) / size)


@dataclass(frozen=True, slots=True, eq=False)
class Lessons:
    """Verdicts on alarms of one detector and entity, ready to be compared with what drives a row.

    Attributes:
        kept: places of those whose drivers are known; leads: the first of each, None without any.
    """

    is_true: Flags
    scores: Floats
    kept: Places
    leads: tuple[Driver | None, ...]
    profiles: Profiles

    @staticmethod
    def of(told: Sequence[Lesson], features: int) -> Lessons:
        """Of verdicts in any order.

        Args:
            features: how many a score is made of.
        """
        known = [(at, one.drivers) for at, one in enumerate(told) if one.drivers is not None]
        return Lessons(
            np.array([one.is_true for one in told], np.bool_),
            np.array([one.score for one in told], np.float64),
            np.array([at for at, _ in known], np.int64),
            tuple(drivers[0] if drivers else None for _, drivers in known),
            Profiles.of([drivers for _, drivers in known], features),
        )

    def threshold(self, threshold: Threshold, drivers: Sequence[Driver]) -> Threshold:
        """The threshold of a row with these drivers."""
        value = threshold.level
        return replace(threshold, factor=threshold.factor * self._level(value, drivers) / value)

    def alike(self, drivers: Sequence[Driver]) -> tuple[int, int]:
        """How many false and how many true ones are like an alarm with these drivers."""
        false, true = self._alike(drivers)
        return int(false.sum()), int(true.sum())

    def _level(self, value: float, drivers: Sequence[Driver]) -> float:
        """How high such an alarm has to be.

        Just over the highest false one like it, as far as it is trusted that none like it will be real: the more the
        more false ones are known below the lowest true one, and the more true ones of any kind. Never over that
        lowest true one, nor below `value`. While no true one like it is known, 5 % for each false one, a quarter at
        most, needs no trust.
        """
        if self.is_true.all():
            return value
        false, true = self._alike(drivers)
        most = _UNDER * float(self.scores[true].min()) if true.any() else np.inf
        counted = self.scores[false & (self.scores < most)]
        if not counted.size:
            return value
        highest = min(float(counted.max()) / _UNDER, most)
        known = int(self.is_true.sum())
        trust = counted.size / (counted.size + _FALSE_FOR_HALF) * known / (known + _TRUE_FOR_HALF)
        level = float(value * (max(highest, value) / value) ** trust)
        if not true.any():
            level = max(level, min(value * min(STEP**counted.size, _BLIND_MAX), highest))
        return min(max(level, value), value * FACTOR_MAX)

    def _alike(self, drivers: Sequence[Driver]) -> tuple[Flags, Flags]:
        ways = {str(one["feature"]): direction_of(one) for one in drivers}
        alike, same_way = np.ones(self.scores.size), np.ones(self.scores.size, np.bool_)
        alike[self.kept] = self.profiles.likeness(drivers)
        same_way[self.kept] = [
            one is None or ways.get(str(one["feature"]), "") == direction_of(one) for one in self.leads
        ]
        return ~self.is_true & same_way & (alike >= _ALIKE_FALSE), self.is_true & (alike >= _ALIKE_TRUE)


def near(scores: Floats, threshold: Threshold) -> list[int]:
    """Rows whose level can matter: no alarm begins or goes on with a lower score, whatever was learned."""
    return [int(row) for row in np.flatnonzero(np.nan_to_num(scores, nan=0.0) > CLEAR_SHARE * threshold.level)]
