"""Traces by what is counted and compared alone: rare shapes, and values far from their operation's median.

Nothing is learned by a network here. It is what a graph network has to beat, and what serves until there is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from models.anomaly.refusals import NotEnoughData
from models.anomaly.scores import Arrays, Progress
from models.anomaly.series import Floats, Matrix
from models.anomaly.trace_graph import VALUES, Graphs, build, vocabulary_of
from models.anomaly.trace_scores import Heads, TraceScores
from models.anomaly.trace_structure import Structure

KIND: Final = "trace_rarity"
TRACES_MIN: Final = 200
# The last traces calibrate, by start, as the last rows of a series do.
CALIBRATION_SHARE: Final = 0.3
# An operation with fewer values than these is compared with all operations together.
_VALUES_MIN: Final = 30
_NORMAL_IQR: Final = 1.349
_SPREAD_FLOOR: Final = 0.05
_FAR: Final = 50.0


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """Median and robust spread of each value by label, (labels, VALUES)."""

    centre: Matrix
    spread: Matrix

    @staticmethod
    def fit(graphs: Graphs, width: int) -> Units:
        """By label where there are enough, else over all labels."""
        centre, spread = np.zeros((width, len(VALUES)), np.float32), np.ones((width, len(VALUES)), np.float32)
        order = np.argsort(graphs.label, kind="stable")
        ends = np.concatenate(([0], np.cumsum(np.bincount(graphs.label, minlength=width))))
        for column in range(len(VALUES)):
            values = graphs.values[order, column]
            whole = _median_and_spread(values)
            for label in range(width):
                own = values[ends[label] : ends[label + 1]]
                enough = np.count_nonzero(~np.isnan(own)) >= _VALUES_MIN
                centre[label, column], spread[label, column] = _median_and_spread(own) if enough else whole
        return Units(centre, spread)

    def apply(self, graphs: Graphs) -> Matrix:
        """(n, VALUES) in standard units; NaN stays."""
        off = (graphs.values - self.centre[graphs.label]) / self.spread[graphs.label]
        return np.asarray(np.clip(off, -_FAR, _FAR), np.float32)


def _median_and_spread(values: Matrix) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if known.size < _VALUES_MIN:
        return 0.0, 1.0
    low, middle, high = np.quantile(known, (0.25, 0.5, 0.75))
    return float(middle), max(float(high - low) / _NORMAL_IQR, _SPREAD_FLOOR)


@dataclass(frozen=True, slots=True, eq=False)
class TraceRarity:
    """A `FittedTraces`."""

    vocabulary: tuple[str, ...]
    structure: Structure
    units: Units
    heads: Heads
    kind: str = KIND

    def score(self, spans: pa.Table) -> TraceScores:
        """See `FittedTraces.score`."""
        graphs = build(spans, self.vocabulary)
        return self.heads.judge(rarity(self.structure, self.units, graphs), graphs)

    def arrays(self) -> Arrays:
        """See `FittedTraces.arrays`."""
        own = {"units.centre": self.units.centre, "units.spread": self.units.spread}
        return own | self.structure.arrays() | self.heads.arrays()

    def configuration(self) -> dict[str, Any]:
        """See `FittedTraces.configuration`."""
        return {"vocabulary": list(self.vocabulary), "heads": list(self.heads.tails[0])}


def rarity(structure: Structure, units: Units, graphs: Graphs) -> dict[str, Floats]:
    """Rare structure, and the largest deviation of any value from its operation's."""
    off = np.nan_to_num(np.abs(units.apply(graphs)).astype(np.float64)).max(axis=1, initial=0.0)
    return {**structure.evidence(graphs), "value": off}


def split(spans: pa.Table) -> tuple[tuple[str, ...], Graphs, Graphs]:
    """Vocabulary, and the graphs for fitting and for calibration, the later ones.

    Raises:
        SpansInvalid; NotEnoughData: fewer than TRACES_MIN traces can be scored.
    """
    vocabulary = vocabulary_of(spans)
    graphs = build(spans, vocabulary)
    whole = np.flatnonzero(np.diff(graphs.first) > 0)
    if whole.size < TRACES_MIN:
        raise NotEnoughData(
            f"{whole.size} traces; {TRACES_MIN} are needed", hint="Wait for more traces or widen the range."
        )
    order = whole[np.argsort(graphs.started_us[whole], kind="stable")]
    early = order.size - int(order.size * CALIBRATION_SHARE)
    return vocabulary, graphs.take(order[:early]), graphs.take(order[early:])


def fit(spans: pa.Table, *, seed: int, progress: Progress | None = None) -> TraceRarity:
    """See `trace_detector.fit`; nothing here is drawn at random."""
    vocabulary, early, late = split(spans)
    width = len(vocabulary) + 1
    structure, units = Structure.fit(early, width), Units.fit(early, width)
    return TraceRarity(vocabulary, structure, units, Heads.fit(rarity(structure, units, late), late))


def load(arrays: Arrays, configuration: dict[str, Any]) -> TraceRarity:
    """See `trace_detector.load`."""
    vocabulary = tuple(configuration["vocabulary"])
    units = units_of(arrays, len(vocabulary) + 1)
    structure = Structure.restore(arrays, len(vocabulary) + 1)
    return TraceRarity(vocabulary, structure, units, Heads.restore(arrays, configuration["heads"]))


def units_of(arrays: Arrays, width: int) -> Units:
    """Stored units.

    Raises:
        ValueError: not of so many labels.
    """
    units = Units(arrays["units.centre"], arrays["units.spread"])
    for one in (units.centre, units.spread):
        if one.shape != (width, len(VALUES)):
            raise ValueError(f"units have shape {one.shape} for {width} labels")
    return units
