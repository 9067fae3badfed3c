"""Traces by what is counted and compared alone: rare shapes, and values far from their operation's median.

Nothing is learned by a network here. It is what a graph network has to beat, and what serves until there is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from models.anomaly import trace_odds
from models.anomaly.refusals import NotEnoughData
from models.anomaly.scores import Arrays, Progress
from models.anomaly.series import Floats, Matrix
from models.anomaly.trace_graph import VALUES, Graphs, build, operations_of, vocabulary_of
from models.anomaly.trace_odds import Odds
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
    """Median and robust spread of each value by label, (labels, VALUES), and (labels, 2) of own times that failed."""

    centre: Matrix
    spread: Matrix
    failed: Matrix

    @staticmethod
    def fit(graphs: Graphs, width: int) -> Units:
        """By label where there are enough, else over all labels; too few failures are measured by what did not fail."""
        centre, spread = np.zeros((width, len(VALUES)), np.float32), np.ones((width, len(VALUES)), np.float32)
        order = np.argsort(graphs.label, kind="stable")
        ends = np.concatenate(([0], np.cumsum(np.bincount(graphs.label, minlength=width))))
        for column in range(len(VALUES)):
            values = graphs.values[order, column]
            whole = _median_and_spread(values)
            for label in range(width):
                own = values[ends[label] : ends[label + 1]]
                centre[label, column], spread[label, column] = _median_and_spread(own) if _enough(own) else whole
        failed = np.stack((centre[:, 0], spread[:, 0]), axis=1)
        for label in range(width):
            own = graphs.values[(graphs.label == label) & graphs.failed, 0]
            if _enough(own):
                failed[label] = _median_and_spread(own)
        return Units(centre, spread, failed)

    def apply(self, graphs: Graphs) -> Matrix:
        """(n, VALUES) in standard units; NaN stays."""
        off = (graphs.values - self.centre[graphs.label]) / self.spread[graphs.label]
        return np.asarray(np.clip(off, -_FAR, _FAR), np.float32)

    def haste(self, graphs: Graphs) -> Floats:
        """(n,) spreads by which an own time is below that of failures of its label; 0 where it is not."""
        centre, spread = self.failed[graphs.label].T.astype(np.float64)
        return np.asarray(np.clip(np.nan_to_num((centre - graphs.values[:, 0]) / spread), 0.0, _FAR))

    def arrays(self) -> Arrays:
        """For `units_of`."""
        return {f"units.{name}": getattr(self, name) for name in ("centre", "spread", "failed")}


def _enough(values: Matrix) -> bool:
    return bool(np.count_nonzero(~np.isnan(values)) >= _VALUES_MIN)


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
    heads: Heads | Odds
    kind: str = KIND

    def score(self, spans: pa.Table) -> TraceScores:
        """See `FittedTraces.score`."""
        graphs = build(spans, self.vocabulary)
        if isinstance(self.heads, Odds):
            return self.heads.judge(evidence(self.structure, self.units, graphs, heads=self.heads.heads), graphs)
        found = rarity(self.structure, self.units, graphs)
        return self.heads.judge({name: found[name] for name in self.heads.tails[0]}, graphs)

    def arrays(self) -> Arrays:
        """See `FittedTraces.arrays`."""
        return self.units.arrays() | self.structure.arrays() | self.heads.arrays()

    def configuration(self) -> dict[str, Any]:
        """See `FittedTraces.configuration`."""
        return {"vocabulary": list(self.vocabulary)} | told_of(self.heads)


def evidence(
    structure: Structure, units: Units, graphs: Graphs, *, heads: tuple[str, ...] = trace_odds.HEADS
) -> dict[str, Floats]:
    """What `Odds` weighs, with values expected from the operation alone."""
    off, spread = units.apply(graphs).astype(np.float64), units.spread[graphs.label].astype(np.float64)
    return trace_odds.evidence(structure, graphs, off=off, spread=spread, haste=units.haste(graphs), heads=heads)


def rarity(structure: Structure, units: Units, graphs: Graphs) -> dict[str, Floats]:
    """Of models of before: rare structure, failures with their haste, the largest deviation from its operation."""
    off = np.nan_to_num(np.abs(units.apply(graphs)).astype(np.float64)).max(axis=1, initial=0.0)
    found = structure.evidence(graphs)
    # As surprisal of a normal distribution, to be added to that of the failure itself.
    found["failure"] = np.where(graphs.failed, found["error"] + units.haste(graphs) ** 2 / 2, 0.0)
    return {**found, "value": off}


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
    structure, units = Structure.fit(early, operations_of(vocabulary)), Units.fit(early, width)
    return TraceRarity(vocabulary, structure, units, Odds.fit(evidence(structure, units, late), late))


def load(arrays: Arrays, configuration: dict[str, Any]) -> TraceRarity:
    """See `trace_detector.load`."""
    vocabulary = tuple(configuration["vocabulary"])
    units = units_of(arrays, len(vocabulary) + 1)
    structure = Structure.restore(arrays, len(vocabulary) + 1)
    return TraceRarity(vocabulary, structure, units, heads_of(arrays, configuration))


def told_of(heads: Heads | Odds) -> dict[str, Any]:
    """What `heads_of` needs beside the arrays."""
    return {"heads": list(heads.tails[0])} | ({"way": trace_odds.WAY} if isinstance(heads, Odds) else {})


def heads_of(arrays: Arrays, configuration: dict[str, Any]) -> Heads | Odds:
    """What was stored; models of before take the largest surprisal of all."""
    kind = Odds if configuration.get("way") == trace_odds.WAY else Heads
    return kind.restore(arrays, configuration["heads"])


def units_of(arrays: Arrays, width: int) -> Units:
    """Stored units.

    Raises:
        ValueError: not of so many labels.
    """
    centre, spread = arrays["units.centre"], arrays["units.spread"]
    for one in (centre, spread):
        if one.shape != (width, len(VALUES)):
            raise ValueError(f"units have shape {one.shape} for {width} labels")
    # Models of before measured no failures, and have no evidence that asks for them.
    units = Units(centre, spread, arrays.get("units.failed", np.stack((centre[:, 0], spread[:, 0]), axis=1)))
    if units.failed.shape != (width, 2):
        raise ValueError(f"units of failures have shape {units.failed.shape} for {width} labels")
    return units
