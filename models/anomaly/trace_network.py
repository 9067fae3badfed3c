"""A graph network over spans that says each column of a span from the columns before it, and from its neighbours.

Columns are hidden from all spans at once: tokens and failures are told from operations, times from operations,
failures and tokens. The operation itself is told from those around it alone, one step away, so that none can tell it.

Source: GINE of Hu et al., "Strategies for Pre-training Graph Neural Networks", ICLR 2020; relational convolution of
Schlichtkrull et al., "Modeling Relational Data with Graph Convolutional Networks", ESWC 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.nn import GINEConv, RGCNConv

from models.anomaly.series import Floats, Matrix
from models.anomaly.trace_graph import Graphs, Places

TIMES: Final = slice(0, 3)
TOKENS: Final = slice(3, 5)
# Beyond so many spreads a value that is read says no more.
_READ_MAX: Final = 6.0
_SIGMA_LOG: Final = (-3.0, 1.5)
# Relations between a span and: its caller, its calls, the sibling before, the one after, the caller's caller.
RELATIONS: Final = 5


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the network, and how it is trained.

    Attributes:
        labels: operations, the unknown one included.
        edges: False for the twin that sees each span alone, which the graph has to beat.
        batch: traces of one step.
    """

    labels: int
    edges: bool = True
    embedding: int = 24
    hidden: int = 48
    rounds: int = 3
    steps: int = 600
    batch: int = 256
    rate: float = 4e-3


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Tensors of some traces.

    Attributes:
        near, relation: edges (2, e) from who tells to who is told, and the relation of each.
        place: (n, 2) logarithms of depth and of place among siblings.
        values: (n, 5) in standard units, 0 where not told; `known` tells where.
    """

    label: Tensor
    failed: Tensor
    place: Tensor
    values: Tensor
    known: Tensor
    near: Tensor
    relation: Tensor

    @staticmethod
    def of(graphs: Graphs, units: Matrix, *, edges: bool) -> Batch:
        """With values in standard units, NaN = not told."""
        near, relation = _edges(graphs) if edges else (np.zeros((2, 0), np.int64), np.zeros(0, np.int64))
        place = np.log1p(np.stack((graphs.depth, graphs.position), axis=1)).astype(np.float32)
        return Batch(
            torch.from_numpy(graphs.label),
            torch.from_numpy(graphs.failed.astype(np.float32)),
            torch.from_numpy(place),
            torch.from_numpy(np.nan_to_num(units)),
            torch.from_numpy(~np.isnan(units)),
            torch.from_numpy(near),
            torch.from_numpy(relation),
        )


def _edges(graphs: Graphs) -> tuple[Places, Places]:
    spans = np.arange(graphs.row.size)
    caller, before = graphs.whole(graphs.parent), graphs.whole(graphs.previous)
    called, later = spans[caller >= 0], spans[before >= 0]
    above = np.append(caller, -1)[caller]
    deep = spans[above >= 0]
    pairs = (
        (caller[called], called), (called, caller[called]),
        (before[later], later), (later, before[later]), (above[deep], deep),
    )  # fmt: skip
    relation = np.repeat(np.arange(RELATIONS), [one[0].size for one in pairs])
    return np.concatenate([np.stack(one) for one in pairs], axis=1), relation


class SpanNetwork(nn.Module):
    """Of each span: means and log spreads of its values, the logit of its failure, logits of its operation."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.labels, shape.embedding)
        # Operation, place, failure, two tokens and whether each is known, and which of both questions is asked.
        self.read = nn.Linear(shape.embedding + 2 + 1 + 4 + 1, shape.hidden)
        self.relation = nn.Embedding(RELATIONS, shape.hidden)
        self.around = nn.ModuleList(
            GINEConv(
                nn.Sequential(nn.Linear(shape.hidden, shape.hidden), nn.GELU(), nn.Linear(shape.hidden, shape.hidden))
            )
            for _ in range(shape.rounds)
        )
        self.tokens = nn.Linear(shape.hidden, 2 * 2 + 1)
        self.times = nn.Linear(shape.hidden, 3 * 2)
        self.context = RGCNConv(shape.embedding, shape.hidden, RELATIONS, root_weight=False)
        self.operation = nn.Sequential(
            nn.Linear(shape.hidden + 2 + RELATIONS, shape.hidden), nn.GELU(), nn.Linear(shape.hidden, shape.labels)
        )

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(n, 5) means, (n, 5) log spreads, (n,) logits of failure, (n, labels) logits of the operation."""
        named = self.embedding(batch.label)
        nothing = torch.zeros(named.shape[0], 5)
        tokens = self.tokens(self._told(batch, named, nothing, 0.0))
        read = torch.cat((batch.failed[:, None], batch.values[:, TOKENS].clamp(-_READ_MAX, _READ_MAX)), dim=1)
        times = self.times(self._told(batch, named, torch.cat((read, batch.known[:, TOKENS].float()), dim=1), 1.0))
        mean = torch.cat((times[:, :3], tokens[:, :2]), dim=1)
        spread = torch.cat((times[:, 3:], tokens[:, 2:4]), dim=1).clamp(*_SIGMA_LOG)
        return mean, spread, tokens[:, 4], self._operation(batch, named)

    def _told(self, batch: Batch, named: Tensor, read: Tensor, asked: float) -> Tensor:
        question = torch.full((named.shape[0], 1), asked)
        state = self.read(torch.cat((named, batch.place, read, question), dim=1))
        joined = self.relation(batch.relation)
        for one in self.around:
            state = state + one(nn.functional.gelu(state), batch.near, joined)
        return nn.functional.gelu(state)

    def _operation(self, batch: Batch, named: Tensor) -> Tensor:
        # Which relations a span has tells as much as who they are: a last call has none after it.
        has = torch.zeros(named.shape[0], RELATIONS)
        has[batch.near[1], batch.relation] = 1.0
        heard = self.context(named, batch.near, batch.relation)
        return cast(Tensor, self.operation(torch.cat((nn.functional.gelu(heard), batch.place, has), dim=1)))


def loss(network: nn.Module, batch: Batch) -> Tensor:
    """Negative log likelihood of all columns, each the mean over the spans that have it."""
    mean, spread, failing, operation = network(batch)
    off = ((batch.values - mean) * torch.exp(-spread)).clamp(-_READ_MAX * 2, _READ_MAX * 2)
    column = (0.5 * off**2 + spread) * batch.known
    values = (column.sum(dim=0) / batch.known.sum(dim=0).clamp(min=1)).sum()
    failed = nn.functional.binary_cross_entropy_with_logits(failing, batch.failed)
    return cast(Tensor, values + failed + nn.functional.cross_entropy(operation, batch.label))


def deviations(network: nn.Module, batch: Batch) -> tuple[Floats, Floats, Floats, Floats]:
    """(n, 5) spreads off the mean, NaN where not told; (n,) surprisal of a failure and of the operation; (n, 5) how
    long the spreads are.
    """
    with torch.inference_mode():
        mean, spread, failing, operation = network(batch)
        off = ((batch.values - mean) * torch.exp(-spread)).double().numpy()
        off[~batch.known.numpy()] = np.nan
        failed = torch.where(batch.failed > 0, -nn.functional.logsigmoid(failing), torch.zeros(())).double().numpy()
        chosen = operation.log_softmax(dim=1).gather(1, batch.label[:, None])[:, 0]
    return off, failed, -chosen.double().numpy(), spread.exp().double().numpy()
