"""Every detector of traces by name: fit it on spans, or load what was fitted."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import pyarrow as pa

from models.anomaly.kinds import Kinds
from models.anomaly.scores import Arrays, Progress
from models.anomaly.trace_scores import FittedTraces

# Kind -> module that has `fit` and `load`; torch comes only with the second.
TRACE_DETECTORS: Final[Mapping[str, str]] = MappingProxyType(
    {"trace_rarity": "models.anomaly.trace_rarity", "gnn_trace": "models.anomaly.gnn_trace"}
)


_KINDS: Final[Kinds[pa.Table, FittedTraces]] = Kinds(TRACE_DETECTORS, "detector of traces")


def fit(kind: str, spans: pa.Table, *, seed: int, progress: Progress | None = None) -> FittedTraces:
    """Fit on spans of traces believed usual; the last 30 % of traces, by start, calibrate.

    The same spans and seed give the same detector on the same machine.

    Args:
        spans: see `trace_graph.build`.
        progress: told the share that is done, from 0 to 1, a hundred times at most.

    Raises:
        DetectorUnknown, NotEnoughData, SpansInvalid.
    """
    return _KINDS.fit(kind, spans, seed=seed, progress=progress)


def load(kind: str, arrays: Arrays, configuration: dict[str, Any]) -> FittedTraces:
    """From `FittedTraces.arrays` and `FittedTraces.configuration`: scores are the same to the last bit.

    Raises:
        DetectorUnknown: no such kind.
        ModelUnreadable: an array or entry is absent or does not fit.
    """
    return _KINDS.load(kind, arrays, configuration)
