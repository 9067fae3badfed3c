"""Many entities over the same windows, and what is usual of each: its rhythm, and what it shares with the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from models.anomaly.refusals import NotEnoughData, SeriesInvalid
from models.anomaly.scores import Arrays
from models.anomaly.seasonal import BIN_S, DAY_S, DAYS_FOR_DAY, DAYS_FOR_WEEK
from models.anomaly.series import Floats, Series, check_alike

ENTITIES_MAX: Final = 2_000
# Common factors of all features of all entities.
COMPONENTS_MAX: Final = 16
CLIP: Final = 8.0
# What one value can do to the common factors.
_FACTOR_CLIP: Final = 3.0
_ROUNDS: Final = 3
_CHUNK: Final = 1_024
# In spreads a row, before the rate: what a level follows at most.
_STEP_MAX: Final = 1.0
_NORMAL_IQR: Final = 1.349
_SPREAD_FLOOR: Final = 1e-3
# 1970-01-01 was a Thursday: days 2 and 3 of each week from the epoch on are Saturday and Sunday.
_WEEKEND: Final = (2, 3)


@dataclass(frozen=True, slots=True, eq=False)
class FleetSeries:
    """Series of the same rows and features, one an entity.

    Attributes:
        entities: e distinct names.
        series: of each, with the same start.
        groups: for each grouping (tenant, model …) the group of each entity.
    """

    entities: tuple[str, ...]
    series: tuple[Series, ...]
    groups: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __post_init__(self) -> None:
        """Raises SeriesInvalid, NotEnoughData."""
        check_alike(self.series)
        if not len(self.entities) == len(set(self.entities)) == len(self.series) <= ENTITIES_MAX:
            raise SeriesInvalid(
                f"{len(self.entities)} entities for {len(self.series)} series; at most {ENTITIES_MAX}, each named once"
            )
        if len({(one.rows, one.start_us) for one in self.series}) > 1:
            raise SeriesInvalid("series of a fleet begin together and have the same rows")
        for name, members in self.groups:
            if len(members) != len(self.entities):
                raise SeriesInvalid(f"grouping {name} has {len(members)} members for {len(self.entities)} entities")

    @property
    def rows(self) -> int:
        """n."""
        return self.series[0].rows

    @property
    def step_s(self) -> int:
        """Seconds from row to row."""
        return self.series[0].step_s

    def part(self, start: int, stop: int) -> FleetSeries:
        """Rows start to stop of all."""
        return FleetSeries(self.entities, tuple(one.part(start, stop) for one in self.series), self.groups)

    def cube(self) -> Floats:
        """(n, e, f); NaN = missing."""
        return np.stack([one.values for one in self.series], axis=1).astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Usual:
    """What fitting time taught of rhythm, spread and common factors.

    Attributes:
        profile: (bins, e, f) medians by half hour of the day, working days first, then weekends where those are known.
        spread: (e, f) of what the profile leaves.
        basis: (e * f, k) orthonormal directions that entities and features move in together.
    """

    profile: Floats
    spread: Floats
    basis: Floats

    @staticmethod
    def fit(fleet: FleetSeries, rows: int) -> Usual:
        """From the first rows.

        Raises:
            NotEnoughData: fewer rows than a rhythm of a day takes.
        """
        step_s, start_s = fleet.step_s, fleet.series[0].start_us // 1_000_000
        if rows * step_s < DAYS_FOR_DAY * DAY_S:
            raise NotEnoughData(
                f"{rows * step_s / DAY_S:.1f} days of a fleet; {DAYS_FOR_DAY} are needed to know its rhythm",
                hint="Score its entities one by one until then.",
            )
        cube = fleet.cube()[:rows]
        kinds = 2 if rows * step_s >= DAYS_FOR_WEEK * DAY_S else 1
        place = bins_of(start_s, rows, step_s, kinds)
        profile = np.zeros((kinds * DAY_S // BIN_S, *cube.shape[1:]))
        for one in range(profile.shape[0]):
            profile[one] = _median(cube[place == one])
        profile = np.where(np.isnan(profile), _median(cube), profile)
        profile = np.nan_to_num(_smoothed(profile.reshape(kinds, -1, *cube.shape[1:])).reshape(profile.shape))
        left = cube - profile[place]
        low, high = _quantiles(left)
        spread = np.maximum((high - low) / _NORMAL_IQR, _SPREAD_FLOOR)
        units = np.nan_to_num(np.clip(left / spread, -CLIP, CLIP)).reshape(rows, -1)
        _, vectors = np.linalg.eigh(units.T @ units / rows)
        count = min(COMPONENTS_MAX, max(units.shape[1] // 4, 1))
        return Usual(profile, spread, np.ascontiguousarray(vectors[:, ::-1][:, :count]))

    def apart(self, fleet: FleetSeries) -> tuple[Floats, Floats]:
        """(n, e, f) twice, in spreads: off the rhythm, and off what rhythm and common factors say; 0 where missing."""
        cube = fleet.cube()
        kinds = self.profile.shape[0] * BIN_S // DAY_S
        place = bins_of(fleet.series[0].start_us // 1_000_000, fleet.rows, fleet.step_s, kinds)
        off = np.nan_to_num(np.clip((cube - self.profile[place]) / self.spread, -CLIP, CLIP))
        flat = off.reshape(fleet.rows, -1)
        return off, (flat - self._common(flat)).reshape(off.shape)

    def _common(self, flat: Floats) -> Floats:
        """(n, e * f) what the common factors say, by weighted least squares: values far off it count less.

        A plain projection would spread one entity's fault over all others.
        """
        said = np.empty_like(flat)
        k = self.basis.shape[1]
        squares = (self.basis[:, :, None] * self.basis[:, None, :]).reshape(-1, k * k)
        for at in range(0, flat.shape[0], _CHUNK):
            rows = flat[at : at + _CHUNK]
            found = np.clip(rows, -_FACTOR_CLIP, _FACTOR_CLIP) @ self.basis @ self.basis.T
            for _ in range(_ROUNDS):
                weight = 1.0 / (1.0 + ((rows - found) / _FACTOR_CLIP) ** 4)
                normal = (weight @ squares).reshape(-1, k, k) + 1e-3 * np.eye(k)
                found = np.linalg.solve(normal, ((weight * rows) @ self.basis)[..., None])[..., 0] @ self.basis.T
            said[at : at + _CHUNK] = found
        return said

    def arrays(self) -> Arrays:
        """For `Usual` of a loaded detector."""
        return {"usual.profile": self.profile, "usual.spread": self.spread, "usual.basis": self.basis}


def bins_of(start_s: int, rows: int, step_s: int, kinds: int) -> npt.NDArray[np.int64]:
    """(n,) half hour of the day, those of weekends after those of working days where both kinds are known."""
    seconds = start_s + np.arange(rows, dtype=np.int64) * step_s
    place = seconds // BIN_S % (DAY_S // BIN_S)
    if kinds == 1:
        return place
    return np.asarray(place + np.isin(seconds // DAY_S % 7, _WEEKEND) * (DAY_S // BIN_S))


def _median(cube: Floats) -> Floats:
    if cube.shape[0] == 0:
        return np.full(cube.shape[1:], np.nan)
    known = ~np.isnan(cube)
    return np.asarray(np.nanmedian(np.where(known.any(axis=0), cube, 0.0), axis=0))


def _quantiles(cube: Floats) -> tuple[Floats, Floats]:
    filled = np.where((~np.isnan(cube)).any(axis=0), cube, 0.0)
    low, high = np.nanquantile(filled, (0.25, 0.75), axis=0)
    return low, high


def _smoothed(profile: Floats) -> Floats:
    """Each bin with its neighbours, the day closed to a ring: half hours of one day are few."""
    return (np.roll(profile, 1, axis=1) + 2 * profile + np.roll(profile, -1, axis=1)) / 4


def off_level(values: Floats, *, half_life: float) -> Floats:
    """What is left of (n, e, f) values after their own slowly moving level of the rows before.

    The level follows by a bounded step, so that a fault does not become usual while it lasts and leave a hole when it
    ends; a deploy or a new price becomes usual within hours.
    """
    rate = 1.0 - 0.5 ** (1.0 / half_life)
    left = np.empty_like(values)
    level = np.zeros(values.shape[1:])
    for row in range(values.shape[0]):
        left[row] = values[row] - level
        level += rate * np.clip(left[row], -_STEP_MAX, _STEP_MAX)
    return left


def pooled(values: Floats, groups: Sequence[tuple[str, tuple[str, ...]]]) -> list[Floats]:
    """For each grouping (n, e, f): what the members of a group have in common, told to each of them.

    The sum without the largest member, over the root of how many are left: one entity's fault is not its group's.
    """
    found = []
    for _, members in groups:
        result = np.zeros_like(values)
        for name in sorted(set(members)):
            which = np.array([number for number, one in enumerate(members) if one == name])
            if which.size > 1:
                held = values[:, which]
                rest = (held.sum(axis=1) - held.max(axis=1)) / np.sqrt(which.size - 1)
                result[:, which] = np.minimum(rest[:, None], np.maximum(held, 0.0) * np.sqrt(which.size))
        found.append(result)
    return found
