"""Distance to usual stretches and the forecast from a feature's own past, together: no network, seconds to fit.

What lasts and was never seen shows in the first, what changes at once in the second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from models.anomaly import ensemble, forecast, patch_bank
from models.anomaly.ensemble import Fusion, Kind
from models.anomaly.scores import Arrays, Fitted, Progress
from models.anomaly.series import Series

KIND: Final = "pair"
HEADS: Final[Mapping[str, Kind]] = {"patch_bank": patch_bank, "forecast": forecast}


def fuse_heads(heads: Mapping[str, Fitted], series_list: Sequence[Series]) -> Fusion:
    """Of heads that were fitted on these series."""
    return ensemble.fuse(KIND, heads, series_list)


def fit(series_list: Sequence[Series], *, seed: int, progress: Progress | None = None) -> Fusion:
    """See `detector.fit`."""
    return ensemble.fit(KIND, HEADS, series_list, seed=seed, progress=progress)


def load(arrays: Arrays, configuration: dict[str, Any]) -> Fusion:
    """See `detector.load`."""
    return ensemble.load(KIND, HEADS, arrays, configuration)
