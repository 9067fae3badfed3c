"""Every detector of traces by name: fit it on spans, or load what was fitted."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final, Protocol, cast

import pyarrow as pa

from models.anomaly.refusals import DetectorUnknown, ModelUnreadable
from models.anomaly.scores import Arrays, Progress
from models.anomaly.trace_scores import FittedTraces

# Kind -> module that has `fit` and `load`; torch comes only with the second.
TRACE_DETECTORS: Final[Mapping[str, str]] = MappingProxyType(
    {"trace_rarity": "models.anomaly.trace_rarity", "gnn_trace": "models.anomaly.gnn_trace"}
)


class _Kind(Protocol):
    def fit(self, spans: pa.Table, *, seed: int, progress: Progress | None) -> FittedTraces: ...

    def load(self, arrays: Arrays, configuration: dict[str, Any]) -> FittedTraces: ...


def _module(kind: str) -> _Kind:
    if kind not in TRACE_DETECTORS:
        raise DetectorUnknown(f"no detector of traces {kind!r}", hint=f"There are: {', '.join(TRACE_DETECTORS)}.")
    return cast(_Kind, import_module(TRACE_DETECTORS[kind]))


def fit(kind: str, spans: pa.Table, *, seed: int, progress: Progress | None = None) -> FittedTraces:
    """Fit on spans of traces believed usual; the last 30 % of traces, by start, calibrate.

    The same spans and seed give the same detector on the same machine.

    Args:
        spans: see `trace_graph.build`.
        progress: told the share that is done, from 0 to 1, a hundred times at most.

    Raises:
        DetectorUnknown, NotEnoughData, SpansInvalid.
    """
    return _module(kind).fit(spans, seed=seed, progress=progress)


def load(kind: str, arrays: Arrays, configuration: dict[str, Any]) -> FittedTraces:
    """From `FittedTraces.arrays` and `FittedTraces.configuration`: scores are the same to the last bit.

    Raises:
        DetectorUnknown: no such kind.
        ModelUnreadable: an array or entry is absent or does not fit.
    """
    module = _module(kind)
    try:
        return module.load(arrays, configuration)
    except (KeyError, ValueError, TypeError, RuntimeError, IndexError) as error:
        raise ModelUnreadable(f"this is no {kind} detector: {error}") from error
