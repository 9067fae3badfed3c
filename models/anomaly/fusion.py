"""The mean surprisal of three detectors that fail on different things: reconstruction, forecast, distance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from models.anomaly import autoencoder, gnn_metric, patch_bank
from models.anomaly.ensemble import Ensemble, Kind

KIND: Final = "fusion"
HEADS: Final[Mapping[str, Kind]] = {"patch_bank": patch_bank, "autoencoder": autoencoder, "gnn_metric": gnn_metric}
_ALL: Final = Ensemble(KIND, HEADS)

fuse_heads, fit, load = _ALL.fuse, _ALL.fit, _ALL.load
