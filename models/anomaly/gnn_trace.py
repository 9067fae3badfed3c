"""Traces by what a graph network expects of each span, beside how rare their shape is: the odds from both.

The network knows what the shape does not: a time that the tokens do not explain. The counts know what the network
forgets: that something was never seen at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from torch import Tensor, nn

from models.anomaly import trace_odds
from models.anomaly.scores import Arrays, Progress
from models.anomaly.series import Floats, Matrix
from models.anomaly.stepping import Stepping, Wrap, bare
from models.anomaly.trace_graph import VALUES, Graphs, Places, build, operations_of
from models.anomaly.trace_network import Batch, Shape, SpanNetwork, deviations, loss
from models.anomaly.trace_odds import Odds
from models.anomaly.trace_rarity import Units, heads_of, rarity, split, told_of, units_of
from models.anomaly.trace_scores import Heads, TraceScores
from models.anomaly.trace_structure import Structure
from models.anomaly.training import fill_network, network_arrays

KIND: Final = "gnn_trace"
# Traces whose graphs are scored together.
_CHUNK: Final = 1_024
_SELF, _FIRST, _REST = 0, 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class TraceGraphs:
    """A `FittedTraces`.

    Attributes:
        reach: of models of before, (2, labels, VALUES) how far up and down values of a label are off.
        alone: of models of before, what a late span counts beside all of its operation.
    """

    vocabulary: tuple[str, ...]
    shape: Shape
    network: nn.Module
    structure: Structure
    units: Units
    heads: Heads | Odds
    reach: Matrix | None = None
    alone: float = 1.0
    kind: str = KIND

    def score(self, spans: pa.Table) -> TraceScores:
        """See `FittedTraces.score`."""
        graphs = build(spans, self.vocabulary)
        off = expected(self.network, self.shape, self.units, graphs)
        if isinstance(self.heads, Odds):
            found = evidence(self.structure, self.units, graphs, off, heads=self.heads.heads)
            return self.heads.judge(found, graphs)
        assert self.reach is not None
        rare = largest(self.structure, self.units, graphs, off, reach=self.reach, alone=self.alone)
        return self.heads.judge({name: rare[name] for name in self.heads.tails[0]}, graphs)

    def arrays(self) -> Arrays:
        """See `FittedTraces.arrays`."""
        network = {f"network.{name}": array for name, array in network_arrays(self.network).items()}
        reach: Arrays = {} if self.reach is None else {"reach": self.reach}
        return reach | network | self.units.arrays() | self.structure.arrays() | self.heads.arrays()

    def configuration(self) -> dict[str, Any]:
        """See `FittedTraces.configuration`."""
        shape = {name: getattr(self.shape, name) for name in Shape.__dataclass_fields__}
        return {"vocabulary": list(self.vocabulary), "shape": shape, "alone": self.alone} | told_of(self.heads)


Expected = tuple[Floats, Floats, Floats, Floats]


def expected(network: nn.Module, shape: Shape, units: Units, graphs: Graphs) -> Expected:
    """See `deviations`, a chunk of traces at a time."""
    parts: list[Expected] = [(np.zeros((0, len(VALUES))), np.zeros(0), np.zeros(0), np.zeros((0, len(VALUES))))]
    for at in range(0, graphs.traces, _CHUNK):
        chunk = graphs.take(np.arange(at, min(at + _CHUNK, graphs.traces)))
        if chunk.row.size:
            parts.append(deviations(network, Batch.of(chunk, units.apply(chunk), edges=shape.edges)))
    off, failed, operation, spread = (np.concatenate(column) for column in zip(*parts, strict=True))
    return off, failed, operation, spread


def evidence(
    structure: Structure, units: Units, graphs: Graphs, found: Expected, *, heads: tuple[str, ...] = trace_odds.HEADS
) -> dict[str, Floats]:
    """What `Odds` weighs, with values as the network expects them."""
    off, _, _, spread = found
    spread = spread * units.spread[graphs.label]
    return trace_odds.evidence(structure, graphs, off=off, spread=spread, haste=units.haste(graphs), heads=heads)


def largest(
    structure: Structure, units: Units, graphs: Graphs, found: Expected, *, reach: Matrix, alone: float
) -> dict[str, Floats]:
    """Of models of before: those of rarity, and what the network adds."""
    off, failed, operation, _ = found
    up = alone * np.nan_to_num(np.maximum(off, 0) / reach[0, graphs.label])
    # Several spans of one operation that are all a little late are late: their sum over the root of their number.
    together = _together(off, graphs, structure.operations)
    up = np.maximum(up, np.nan_to_num(together / reach[0, graphs.label]))
    down = np.nan_to_num(np.maximum(-off, 0) / reach[1, graphs.label])
    return {
        **rarity(structure, units, graphs),
        "operation": operation,
        "unexpected_error": np.maximum(failed, 0.0),
        "slow_self": up[:, _SELF],
        "slow_first_token": up[:, _FIRST],
        "slow_rest": up[:, _REST],
        "fast": down[:, _SELF],
        "tokens": up[:, _REST + 1 :].max(axis=1, initial=0.0),
    }


def _together(off: Floats, graphs: Graphs, operations: Places) -> Floats:
    """(n, VALUES) of each span the sum over all of its operation in its trace, over the root of their number."""
    width = int(operations.max(initial=0)) + 1
    _, group = np.unique(graphs.trace * width + operations[graphs.label], return_inverse=True)
    known = ~np.isnan(off)
    columns = []
    for column in range(off.shape[1]):
        total = np.bincount(group, weights=np.where(known[:, column], off[:, column], 0.0))
        columns.append((total / np.sqrt(np.maximum(np.bincount(group, weights=known[:, column]), 1.0)))[group])
    return np.stack(columns, axis=1)


class TraceTrainer(Stepping):
    """Fits on spans; workers as `training.Trainer`."""

    def __init__(
        self,
        spans: pa.Table,
        *,
        seed: int,
        edges: bool = True,
        worker: int = 0,
        workers: int = 1,
        wrap: Wrap = bare,
    ) -> None:
        """Raises SpansInvalid, NotEnoughData."""
        self._vocabulary, self._early, self._late = split(spans)
        self._shape = shape = Shape(len(self._vocabulary) + 1, edges)
        self._units = Units.fit(self._early, shape.labels)
        self._batch = min(math.ceil(shape.batch / workers), self._early.traces)
        super().__init__(
            lambda: SpanNetwork(shape), seed=seed, steps=shape.steps, rate=shape.rate, worker=worker, wrap=wrap
        )

    def loss(self, network: nn.Module, generator: np.random.Generator) -> Tensor:
        """See `Stepping.loss`: of traces drawn at random."""
        graphs = self._early.take(generator.integers(0, self._early.traces, self._batch))
        return loss(network, Batch.of(graphs, self._units.apply(graphs), edges=self._shape.edges))

    def finish(self) -> TraceGraphs:
        """The detector as trained so far, calibrated on the later traces."""
        self.network.eval()
        structure = Structure.fit(self._early, operations_of(self._vocabulary))
        found = expected(self.network, self._shape, self._units, self._late)
        heads = Odds.fit(evidence(structure, self._units, self._late, found), self._late)
        return TraceGraphs(self._vocabulary, self._shape, self.network, structure, self._units, heads)


def fit(spans: pa.Table, *, seed: int, progress: Progress | None = None, edges: bool = True) -> TraceGraphs:
    """See `trace_detector.fit`; without edges, the twin that shows what the graph adds."""
    trainer = TraceTrainer(spans, seed=seed, edges=edges)
    trainer.run(progress)
    return trainer.finish()


def load(arrays: Arrays, configuration: dict[str, Any]) -> TraceGraphs:
    """See `trace_detector.load`."""
    shape, vocabulary = Shape(**configuration["shape"]), tuple(configuration["vocabulary"])
    heads, reach = heads_of(arrays, configuration), arrays.get("reach")
    if isinstance(heads, Heads) and (reach is None or reach.shape != (2, shape.labels, len(VALUES))):
        raise ValueError(f"no reach for {shape.labels} labels")
    if shape.labels != len(vocabulary) + 1:
        raise ValueError(f"{shape.labels} labels for a vocabulary of {len(vocabulary)}")
    stored = {name.removeprefix("network."): one for name, one in arrays.items() if name.startswith("network.")}
    return TraceGraphs(
        vocabulary,
        shape,
        fill_network(SpanNetwork(shape), stored),
        Structure.restore(arrays, shape.labels),
        units_of(arrays, shape.labels),
        heads,
        reach=reach,
        alone=float(configuration.get("alone", 1.0)),
    )
