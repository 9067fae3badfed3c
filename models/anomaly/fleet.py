"""One detector for all entities of an owner: each in units and seasons of its own, each with its own threshold.

What differs between entities without being unusual (level, spread, rhythm) is taken off first, so that one network can
learn from all of them and a quiet service is not judged by a busy one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.anomaly import detector
from models.anomaly.calibrated import fitting_rows
from models.anomaly.drift import Reference
from models.anomaly.refusals import ModelUnreadable, NotEnoughData, SeriesInvalid
from models.anomaly.scaling import ROWS_MIN
from models.anomaly.scores import TRAILING_ROWS, Arrays, Fitted, Scores, joined
from models.anomaly.seasonal import BIN_S, profile_of
from models.anomaly.series import Floats, Matrix, Series, check_alike
from models.anomaly.statistical import centre_and_spread
from models.anomaly.threshold import DAY_S, Threshold, calibrate

# The entity of a window that names none: units of all rows together.
POOLED: Final = ""
BUDGET_PER_DAY: Final = 0.5
_FORMAT: Final = 1
# Rows or windows that are scored at a time: what lies between their steps then stays in the cache of a core.
_CHUNK: Final = 2_048

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """What is usual for each entity by itself.

    Attributes:
        names: of the entities, POOLED first.
        centre, spread: (e, f).
        profile: (e, bins, f) in spreads, what the time of day or week adds.
    """

    names: tuple[str, ...]
    centre: Matrix
    spread: Matrix
    profile: Matrix
    features: tuple[str, ...]
    step_s: int

    @staticmethod
    def fit(series: Mapping[str, Series], *, seasons: bool) -> Units:
        """Of the entities with enough rows in their fitting part; the others get none.

        Raises:
            NotEnoughData: no entity has ROWS_MIN rows with half of their features.
        """
        check_alike(list(series.values()))
        parts = {name: one.part(0, fitting_rows(one)) for name, one in series.items()}
        known = {name: one for name, one in parts.items() if _known_rows(one) >= ROWS_MIN}
        if not known:
            most = max((_known_rows(one) for one in parts.values()), default=0)
            raise NotEnoughData(
                f"the entity with most rows to fit on has {most} with half of their features; {ROWS_MIN} are needed",
                hint="Wait for more data, widen the range, or choose fewer dimensions.",
            )
        pairs = [centre_and_spread(np.concatenate([one.values for one in known.values()]))]
        pairs += [centre_and_spread(one.values) for one in known.values()]
        # A feature that an entity never had is judged by what others have.
        centre = np.stack([np.where(np.isnan(own), pairs[0][0], own) for own, _ in pairs])
        spread = np.stack([width for _, width in pairs])
        first = next(iter(known.values()))
        profiles = [
            profile_of([one.with_values((one.values - middle) / width)]) if seasons else _flat(one)
            for one, (middle, width) in zip(known.values(), pairs[1:], strict=True)
        ]
        bins = max(profile.shape[0] for profile in profiles)
        whole = [np.tile(profile, (bins // profile.shape[0], 1)) for profile in profiles]
        profile = np.stack([np.zeros_like(whole[0]), *whole]).astype(np.float32)
        return Units((POOLED, *known), centre, spread, profile, first.features, first.step_s)

    def residual(self, windows: Matrix, places: Places, starts_us: Sequence[int] | Places) -> Matrix:
        """(w, n, f) windows in own units with their season taken off; NaN stays."""
        count, rows, features = windows.shape
        bins = self.profile.shape[1]
        # One entity's units are spread over all windows, not taken for each; whole windows are long enough for NumPy.
        taken = places[:1] if (places == places[:1]).all() else places
        centre, spread = (np.tile(one[taken], (1, rows)) for one in (self.centre, self.spread))
        if bins == 1:
            season = np.tile(self.profile[taken, 0], (1, rows))
        else:
            starts_s = np.asarray(starts_us, np.int64)[:, None] // 1_000_000
            seconds = starts_s + np.arange(rows, dtype=np.int64) * self.step_s
            season = self.profile[taken[:, None], seconds // BIN_S % bins].reshape(count, rows * features)
        with np.errstate(over="ignore"):
            scaled = windows.reshape(count, rows * features) - centre
            scaled /= spread
        scaled -= season
        return np.clip(scaled, -1e6, 1e6, out=scaled).reshape(windows.shape)

    def residual_series(self, series: Series, entity: str) -> Series:
        """A whole series of one entity likewise.

        Raises:
            NotEnoughData: the entity has no units.
        """
        place = np.array([self.place(entity)])
        return series.with_values(self.residual(series.values[None], place, [series.start_us])[0])

    def places(self, entities: Sequence[str]) -> Places:
        """(w,) rows of entities.

        Raises:
            NotEnoughData: the model knows nothing of one.
        """
        known = {name: self.place(name) for name in set(entities)}
        return np.array([known[name] for name in entities], np.int64)

    def place(self, entity: str) -> int:
        """Row of an entity.

        Raises:
            NotEnoughData: the model knows nothing of it.
        """
        try:
            return self.names.index(entity)
        except ValueError:
            raise NotEnoughData(
                f"the model was not trained on the entity {entity[:200]!r}",
                hint="Train again once it has some hours of data, or leave `entity` out.",
            ) from None

    def arrays(self) -> Arrays:
        """For `Fleet.load`."""
        return {"units.centre": self.centre, "units.spread": self.spread, "units.profile": self.profile}


def _known_rows(series: Series) -> int:
    return int((np.isnan(series.values).mean(axis=1) <= 0.5).sum())


def _flat(series: Series) -> Matrix:
    return np.zeros((1, series.values.shape[1]), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Fleet:
    """A fitted detector with what each entity needs.

    Attributes:
        head: scores residuals.
        thresholds: by entity; one without enough scores of its own has POOLED's.
        reference: the distribution of residuals in training time, for the drift monitor.
    """

    units: Units
    head: Fitted
    thresholds: Mapping[str, Threshold]
    reference: Reference

    @property
    def kind(self) -> str:
        """Of the head."""
        return self.head.kind

    def score(self, series: Series, entity: str) -> Scores:
        """Trailing scores of every row of one entity.

        Raises:
            NotEnoughData: unknown entity. SeriesInvalid: other features or another step.
        """
        self.check(series.features, series.step_s)
        if series.rows <= _CHUNK:
            return self.head.score(self.units.residual_series(series, entity), trailing=True)
        # A trailing score reads no more than the rows before it that the head tells.
        past, parts = self.head.reach_rows - 1, []
        for at in range(0, series.rows, _CHUNK):
            before = min(past, at)
            part = self.units.residual_series(series.part(at - before, at + _CHUNK), entity)
            scores = self.head.score(part, trailing=True)
            parts.append(Scores(scores.score[before:], scores.share[before:]))
        return joined(parts)

    def score_last(self, windows: Matrix, entities: Sequence[str], starts_us: Sequence[int]) -> Scores:
        """Scores of the last row of each (w, n, f) window.

        Raises:
            NotEnoughData: unknown entity.
        """
        places, starts = self.units.places(entities), np.asarray(starts_us, np.int64)
        # Rows that the head does not read need no units.
        skipped = max(0, windows.shape[1] - self.head.reach_rows)
        starts = starts + skipped * self.units.step_s * 1_000_000
        parts = []
        for at in range(0, max(windows.shape[0], 1), _CHUNK):
            here = slice(at, at + _CHUNK)
            given = self.units.residual(windows[here, skipped:], places[here], starts[here])
            parts.append(self.head.score_last(given, starts[here]))
        return joined(parts)

    def threshold(self, entity: str) -> Threshold:
        """The entity's own, else the one of all."""
        return self.thresholds.get(entity, self.thresholds[POOLED])

    def check(self, features: Sequence[str], step_s: int) -> None:
        """Raises SeriesInvalid: other features, or another step."""
        if tuple(features) != self.units.features or step_s != self.units.step_s:
            raise SeriesInvalid(
                f"the model reads {len(self.units.features)} features at steps of {self.units.step_s} s: "
                f"{', '.join(self.units.features[:20])}",
                hint="Send them in this order; GET /api/v1/detectors lists them.",
            )

    def arrays(self) -> Arrays:
        """All it learned, for `load`."""
        levels = np.array([[one.value, one.budget_per_day] for one in self.thresholds.values()])
        head = {f"head.{name}": array for name, array in self.head.arrays().items()}
        return self.units.arrays() | self.reference.arrays() | {"thresholds": levels} | head

    def configuration(self) -> dict[str, Any]:
        """What `load` needs beside the arrays, as JSON."""
        return {
            "format": _FORMAT,
            "kind": self.kind,
            "names": list(self.units.names),
            "features": list(self.units.features),
            "step_s": self.units.step_s,
            "thresholds": list(self.thresholds),
            "head": self.head.configuration(),
        }


def assemble(
    units: Units, head: Fitted, series: Mapping[str, Series], *, budget_per_day: float = BUDGET_PER_DAY
) -> Fleet:
    """A fleet around a head that was fitted on residuals of these series: thresholds and drift reference.

    Raises:
        NotEnoughData: too few scored rows to choose any threshold.
    """
    residuals = {name: units.residual_series(series[name], name) for name in units.names[1:]}
    late = {name: head.score(one, trailing=True).score[fitting_rows(one) :] for name, one in residuals.items()}
    thresholds = {POOLED: threshold_of(list(late.values()), units.step_s, budget_per_day)}
    for name, scores in late.items():
        try:
            thresholds[name] = threshold_of([scores], units.step_s, budget_per_day)
        except NotEnoughData:
            continue
    return Fleet(units, head, thresholds, Reference.fit(list(residuals.values())))


def threshold_of(scores: list[Floats], step_s: int, budget_per_day: float) -> Threshold:
    """Calibrated; where the time is too short to have held one alarm of the budget, not below what the budget implies.

    A day of the budget is so many rows of so rare a score, if scores of TRAILING_ROWS rows are one.

    Raises:
        NotEnoughData: too few scored rows.
    """
    found = calibrate(scores, step_s=step_s, budget_per_day=budget_per_day)
    days = sum(int(np.isfinite(one).sum()) for one in scores) * step_s / DAY_S
    if days * budget_per_day >= 1:
        return found
    implied = -math.log(min(0.5, budget_per_day * TRAILING_ROWS * step_s / DAY_S))
    return replace(found, value=max(found.value, implied))


def residuals_of(units: Units, series: Mapping[str, Series]) -> dict[str, Series]:
    """What a head is fitted on: the entities with units, each in its own."""
    return {name: units.residual_series(series[name], name) for name in units.names[1:]}


def load(arrays: Arrays, configuration: dict[str, Any]) -> Fleet:
    """From `Fleet.arrays` and `Fleet.configuration`: scores are the same to the last bit.

    Raises:
        ModelUnreadable: an array or entry is absent or does not fit.
    """
    try:
        if configuration["format"] != _FORMAT:
            raise ModelUnreadable(f"format {configuration['format']} is not known here")
        features, step_s = tuple(configuration["features"]), int(configuration["step_s"])
        centre, spread, profile = (arrays[f"units.{name}"] for name in ("centre", "spread", "profile"))
        units = Units(tuple(configuration["names"]), centre, spread, profile, features, step_s)
        if units.centre.shape != (len(units.names), len(features)):
            raise ModelUnreadable(f"units have shape {units.centre.shape}")
        own = {name.removeprefix("head."): array for name, array in arrays.items() if name.startswith("head.")}
        head = detector.load(configuration["kind"], own, configuration["head"])
        thresholds = {
            name: Threshold(float(value), step_s, float(budget))
            for name, (value, budget) in zip(configuration["thresholds"], arrays["thresholds"], strict=True)
        }
        return Fleet(units, head, thresholds, Reference.of(arrays))
    except (KeyError, ValueError, TypeError) as error:
        raise ModelUnreadable(f"this is no stored fleet: {error}") from error
