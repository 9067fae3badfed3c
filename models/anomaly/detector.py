"""Every detector by name: fit it on series, or load what was fitted.

Kinds that need torch are imported when they are asked for: its import takes seconds and hundreds of megabytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from models.anomaly.kinds import Kinds
from models.anomaly.scores import Arrays, Fitted, Progress
from models.anomaly.series import Series

# Kind -> module that has `fit` and `load`.
DETECTORS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "seasonal": "models.anomaly.seasonal",
        "pca": "models.anomaly.pca",
        "patch_bank": "models.anomaly.patch_bank",
        "forecast": "models.anomaly.forecast",
        "pair": "models.anomaly.pair",
        "autoencoder": "models.anomaly.autoencoder",
        "gnn_metric": "models.anomaly.gnn_metric",
        "fusion": "models.anomaly.fusion",
    }
)


_KINDS: Final[Kinds[Sequence[Series], Fitted]] = Kinds(DETECTORS, "detector")


def fit(kind: str, series_list: Sequence[Series], *, seed: int, progress: Progress | None = None) -> Fitted:
    """Fit on series with the same features and step; the last 30 % of each calibrate scales and tails.

    The same series and seed give the same detector on the same machine.

    Args:
        progress: told the share that is done, from 0 to 1, a hundred times at most.

    Raises:
        DetectorUnknown, NotEnoughData, SeriesInvalid.
    """
    return _KINDS.fit(kind, series_list, seed=seed, progress=progress)


def load(kind: str, arrays: Arrays, configuration: dict[str, Any]) -> Fitted:
    """From `Fitted.arrays` and `Fitted.configuration`: scores are the same to the last bit.

    Raises:
        DetectorUnknown: no such kind.
        ModelUnreadable: an array or entry is absent or does not fit.
    """
    return _KINDS.load(kind, arrays, configuration)
