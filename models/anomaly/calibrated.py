"""A model of usual values, made a detector: deviations by feature, scaled and turned into surprisal."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol

import numpy as np
import numpy.typing as npt

from models.anomaly.patches import align, last_patches, patches_of
from models.anomaly.refusals import ModelUnreadable, NotEnoughData
from models.anomaly.scaling import Scaling
from models.anomaly.scores import LOGARITHM, MEAN, TRAILING_ROWS, Arrays, Scores, combine, combine_last
from models.anomaly.series import Floats, Matrix, Series
from models.anomaly.tails import Tail

# The latest part of training time tells how far off usual rows are; models are fitted on what lies before it, since
# what a model was fitted on looks better than the next day will.
CALIBRATION_SHARE: Final = 0.3
# Deviations in calibration time, of each feature: its scale is this quantile. A higher one would be told by the few
# disturbances that calibration time has, and what shows in them later would no longer count.
_SCALE_QUANTILE: Final = 0.9
# In standard units: a feature that is predicted better than this in calibration time is not held to it.
_SCALE_FLOOR: Final = 0.1


class Model(Protocol):
    """What to expect of standardised values."""

    def deviation(self, series: Series, *, trailing: bool) -> Matrix:
        """(n, f) >= 0, how far each value, or the values around it, are off; NaN = not known.

        Args:
            series: in standard units, NaN = missing.
            trailing: whether only rows up to the one judged may be read.
        """

    def arrays(self) -> Arrays:
        """All it learned."""

    def configuration(self) -> dict[str, Any]:
        """What is needed to build it again, as JSON."""


class RowModel(Model, Protocol):
    """A model that reads each row for itself."""

    def judge_rows(self, rows: Matrix, seconds: npt.NDArray[np.int64]) -> Matrix:
        """(r, f) deviations of (r, f) rows in standard units, each with its seconds since the Unix epoch."""


class PatchModel(Model):
    """A model that judges a row by the patch of rows that ends with it, or that it is the middle of.

    Attributes:
        forecasts: whether only the last row of a patch is judged, also where later ones may be read.
    """

    forecasts: ClassVar = False

    @property
    @abstractmethod
    def length(self) -> int:
        """Rows of a patch."""

    @abstractmethod
    def judge(self, patches: Matrix, *, trailing: bool) -> Matrix:
        """(f, p) deviations of (f, length, p) patches in standard units, missing values 0."""

    def deviation(self, series: Series, *, trailing: bool) -> Matrix:
        """See `Model.deviation`."""
        by_patch = self.judge(patches_of(series.values, self.length), trailing=trailing)
        return align(by_patch, series, self.length, trailing=trailing or self.forecasts)


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """How deviations and scores were distributed in calibration time, by one way of scoring."""

    scale: Matrix
    tail: Tail


@dataclass(frozen=True, slots=True, eq=False)
class Detector:
    """Scaling, model and calibration together: a `Fitted`.

    Attributes:
        calibrations: of centred and of trailing scores, in this order.
        form: how deviations become one score, see `combine`.
    """

    kind: str
    scaling: Scaling
    model: PatchModel | RowModel
    calibrations: tuple[Calibration, Calibration]
    form: str = MEAN

    @property
    def reach_rows(self) -> int:
        """See `Fitted.reach_rows`."""
        return TRAILING_ROWS - 1 + (self.model.length if isinstance(self.model, PatchModel) else 1)

    def score(self, series: Series, *, trailing: bool) -> Scores:
        """See `Fitted.score`."""
        calibration = self.calibrations[trailing]
        deviation = self.model.deviation(self.scaling.apply(series), trailing=trailing)
        raw, share = combine(deviation / calibration.scale, trailing=trailing, form=self.form)
        return Scores(calibration.tail.surprise(raw), share)

    def score_last(self, windows: Matrix, starts_us: Sequence[int]) -> Scores:
        """See `Fitted.score_last`."""
        count, rows, features = windows.shape
        length = self.reach_rows - TRAILING_ROWS + 1
        judged = min(TRAILING_ROWS, rows - length + 1)
        if judged < 1 or count == 0:
            return Scores(np.full(count, np.nan), np.full((count, features), np.nan, np.float32))
        taken = windows[:, rows - judged - length + 1 :]
        standard = self.scaling.standard(taken.reshape(count, -1)).reshape(taken.shape)
        if isinstance(self.model, PatchModel):
            by_patch = self.model.judge(last_patches(standard, length), trailing=True)
            deviation = np.ascontiguousarray(by_patch.reshape(features, judged, count).transpose(2, 1, 0))
            deviation[np.isnan(standard[:, length - 1 :])] = np.nan
        else:
            first_s = np.asarray(starts_us, np.int64)[:, None] // 1_000_000
            step = np.arange(rows - judged, rows, dtype=np.int64) * self.scaling.step_s
            flat = standard.reshape(-1, features)
            deviation = self.model.judge_rows(flat, (first_s + step).ravel()).reshape(standard.shape)
        scale = np.tile(self.calibrations[True].scale, judged)
        scaled = np.asarray(deviation.reshape(count, -1) / scale, np.float32)
        raw, share = combine_last(scaled.reshape(deviation.shape), form=self.form)
        return Scores(self.calibrations[True].tail.surprise(raw), share)

    def arrays(self) -> Arrays:
        """See `Fitted.arrays`."""
        parts = {f"model.{name}": array for name, array in self.model.arrays().items()}
        for name, one in zip(("centred", "trailing"), self.calibrations, strict=True):
            parts |= {f"{name}.scale": one.scale} | tail_arrays(one.tail, name)
        return self.scaling.arrays() | parts

    def configuration(self) -> dict[str, Any]:
        """See `Fitted.configuration`."""
        return {
            "features": list(self.scaling.features),
            "step_s": self.scaling.step_s,
            "form": self.form,
            "model": self.model.configuration(),
        }


def calibrate_model(
    kind: str, scaling: Scaling, model: PatchModel | RowModel, series_list: Sequence[Series]
) -> Detector:
    """The detector, with scales and tails from the last CALIBRATION_SHARE of each series.

    Raises:
        NotEnoughData: too few rows there can be scored.
    """
    return Detector(
        kind,
        scaling,
        model,
        (
            _calibration(scaling, model, series_list, trailing=False),
            _calibration(scaling, model, series_list, trailing=True),
        ),
    )


def _calibration(scaling: Scaling, model: Model, series_list: Sequence[Series], *, trailing: bool) -> Calibration:
    late = [
        # Rows before the calibration part are read as the past of its first rows.
        model.deviation(scaling.apply(one), trailing=trailing)[fitting_rows(one) :]
        for one in series_list
    ]
    together = np.concatenate(late)
    known = (~np.isnan(together)).any(axis=0)
    if not known.any():
        raise NotEnoughData("no row of calibration time can be scored", hint="Wait for more data or widen the range.")
    scale = np.full(together.shape[1], 1.0)
    scale[known] = np.nanquantile(together[:, known], _SCALE_QUANTILE, axis=0)
    scale = np.maximum(scale, _SCALE_FLOOR).astype(np.float32)
    raw = [combine(one / scale, trailing=trailing)[0] for one in late]
    return Calibration(scale, Tail.fit(np.concatenate(raw)))


def fitting_rows(series: Series) -> int:
    """How many of the first rows are for fitting; the rest is for calibration."""
    return series.rows - int(series.rows * CALIBRATION_SHARE)


def for_fitting(scaling: Scaling, series_list: Sequence[Series]) -> list[Series]:
    """The fitting part of each series, in standard units."""
    return [scaling.apply(one.part(0, fitting_rows(one))) for one in series_list]


def tail_arrays(tail: Tail, name: str) -> Arrays:
    """Arrays of a tail, for `tail_of`."""
    return {
        f"{name}.knots": tail.knots,
        f"{name}.surprisal": tail.surprisal,
        f"{name}.pareto": np.array([tail.shape, tail.scale]),
    }


def tail_of(arrays: Arrays, name: str) -> Tail:
    """Inverse of `tail_arrays`."""
    shape, scale = arrays[f"{name}.pareto"].tolist()
    knots: Floats = arrays[f"{name}.knots"]
    return Tail(knots, arrays[f"{name}.surprisal"], shape, scale)


def restore(kind: str, model: PatchModel | RowModel, arrays: Arrays, configuration: dict[str, Any]) -> Detector:
    """Inverse of `Detector.arrays` and `Detector.configuration` around a model that was restored.

    Raises:
        ModelUnreadable: shapes do not fit, or the form is none.
    """
    # Models of before say nothing of it: their tails are of logarithms.
    form = configuration.get("form", LOGARITHM)
    if form not in (MEAN, LOGARITHM):
        raise ModelUnreadable(f"deviations are combined by {form!r}, which is not known here")
    features = tuple(configuration["features"])
    scaling = Scaling(arrays["centre"], arrays["spread"], features, configuration["step_s"])
    centred, trailing = (
        Calibration(arrays[f"{name}.scale"], tail_of(arrays, name)) for name in ("centred", "trailing")
    )
    for name, array in (("centre", scaling.centre), ("spread", scaling.spread), ("scale", centred.scale)):
        if array.shape != (len(features),):
            raise ModelUnreadable(f"{name} has shape {array.shape} for {len(features)} features")
    return Detector(kind, scaling, model, (centred, trailing), form)


def model_arrays(arrays: Arrays) -> Arrays:
    """Those of the model alone."""
    return {name.removeprefix("model."): array for name, array in arrays.items() if name.startswith("model.")}
