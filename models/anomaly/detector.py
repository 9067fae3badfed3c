"""Every detector by name: fit it on series, or load what was fitted.

Kinds that need torch are imported when they are asked for: its import takes seconds and hundreds of megabytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final, Protocol, cast

from models.anomaly.refusals import DetectorUnknown, ModelUnreadable
from models.anomaly.scores import Arrays, Fitted, Progress
from models.anomaly.series import Series

# Kind -> module that has `fit` and `load`.
DETECTORS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "seasonal": "models.anomaly.seasonal",
        "pca": "models.anomaly.pca",
        "patch_bank": "models.anomaly.patch_bank",
        "autoencoder": "models.anomaly.autoencoder",
        "gnn_metric": "models.anomaly.gnn_metric",
        "fusion": "models.anomaly.fusion",
    }
)


class _Kind(Protocol):
    def fit(self, series_list: Sequence[Series], *, seed: int, progress: Progress | None) -> Fitted: ...

    def load(self, arrays: Arrays, configuration: dict[str, Any]) -> Fitted: ...


def _module(kind: str) -> _Kind:
    if kind not in DETECTORS:
        raise DetectorUnknown(f"no detector {kind!r}", hint=f"There are: {', '.join(DETECTORS)}.")
    return cast(_Kind, import_module(DETECTORS[kind]))


def fit(kind: str, series_list: Sequence[Series], *, seed: int, progress: Progress | None = None) -> Fitted:
    """Fit on series with the same features and step; the last 30 % of each calibrate scales and tails.

    The same series and seed give the same detector on the same machine.

    Args:
        progress: told the share that is done, from 0 to 1, a hundred times at most.

    Raises:
        DetectorUnknown, NotEnoughData, SeriesInvalid.
    """
    return _module(kind).fit(series_list, seed=seed, progress=progress)


def load(kind: str, arrays: Arrays, configuration: dict[str, Any]) -> Fitted:
    """From `Fitted.arrays` and `Fitted.configuration`: scores are the same to the last bit.

    Raises:
        DetectorUnknown: no such kind.
        ModelUnreadable: an array or entry is absent or does not fit.
    """
    module = _module(kind)
    try:
        return module.load(arrays, configuration)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise ModelUnreadable(f"this is no {kind} detector: {error}") from error
