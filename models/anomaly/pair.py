"""Distance to usual stretches and the forecast from a feature's own past, together: no network, seconds to fit.

What lasts and was never seen shows in the first, what changes at once in the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from models.anomaly import forecast, patch_bank
from models.anomaly.ensemble import Ensemble, Kind

KIND: Final = "pair"
HEADS: Final[Mapping[str, Kind]] = {"patch_bank": patch_bank, "forecast": forecast}
_ALL: Final = Ensemble(KIND, HEADS)

fuse_heads, fit, load = _ALL.fuse, _ALL.fit, _ALL.load
