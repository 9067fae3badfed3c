"""The mean surprisal of three detectors that fail on different things: reconstruction, forecast, distance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from models.anomaly import autoencoder, ensemble, gnn_metric, patch_bank
from models.anomaly.ensemble import Fusion, Kind
from models.anomaly.scores import Arrays, Fitted, Progress
from models.anomaly.series import Series

KIND: Final = "fusion"
HEADS: Final[Mapping[str, Kind]] = {"patch_bank": patch_bank, "autoencoder": autoencoder, "gnn_metric": gnn_metric}


def fuse_heads(heads: Mapping[str, Fitted], series_list: Sequence[Series]) -> Fusion:
    """Of heads that were fitted on these series."""
    return ensemble.fuse(KIND, heads, series_list)


def fit(series_list: Sequence[Series], *, seed: int, progress: Progress | None = None) -> Fusion:
    """See `detector.fit`."""
    return ensemble.fit(KIND, HEADS, series_list, seed=seed, progress=progress)


def load(arrays: Arrays, configuration: dict[str, Any]) -> Fusion:
    """See `detector.load`."""
    return ensemble.load(KIND, HEADS, arrays, configuration)
