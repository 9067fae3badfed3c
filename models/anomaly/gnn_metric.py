"""What each feature should be, told along a graph with learned attention over edges of training time.

Of one entity: a forecast from a feature's own past and that of the features it moves with. Of entities side by side:
what the features of others say of it in the same rows, first of those it was called together with, and nothing of its
own past: an incident then stands out for as long as it lasts, and what all of them do together does not.

Source: Deng and Hooi, "Graph Neural Network-Based Anomaly Detection in Multivariate Time Series", AAAI 2021, with the
attention of Brody et al., "How Attentive are Graph Attention Networks?", ICLR 2022, and edges from training time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.anomaly.calibrated import Detector, PatchModel, model_arrays, restore
from models.anomaly.layers import Columns
from models.anomaly.scores import Arrays, Progress
from models.anomaly.series import Matrix, Series
from models.anomaly.side_by_side import Relations, relations_of
from models.anomaly.training import fill_network, network_arrays, train

KIND: Final = "gnn_metric"
NEIGHBOURS_MAX: Final = 8
_CHUNK: Final = 256
_SLOPE: Final = 0.2


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the network, and how it is trained.

    Attributes:
        window: rows of the past; the row after them is forecast.
        edges: False for the twin that sees each feature alone, which the graph has to beat.
        peers: features of others tell what a feature is in their last row; else its own past and theirs tell the next.
    """

    features: int
    neighbours: int
    edges: bool = True
    peers: bool = False
    window: int = 15
    embedding: int = 16
    hidden: int = 32
    steps: int = 500
    batch: int = 64
    rate: float = 3e-3


class GraphNetwork(nn.Module):
    """(b, f, window + 1) -> (b, f), what the last row should be."""

    neighbours: Tensor

    def __init__(self, shape: Shape, neighbours: npt.NDArray[np.int64]) -> None:
        super().__init__()
        self.peers = shape.peers
        self.register_buffer("neighbours", torch.from_numpy(np.array(neighbours)))
        self.embedding = nn.Parameter(torch.randn(shape.features, shape.embedding))
        self.source = nn.Linear(shape.window + shape.embedding, shape.hidden)
        self.target = nn.Linear((0 if shape.peers else shape.window) + shape.embedding, shape.hidden)
        self.attention = nn.Linear(shape.hidden, 1, bias=False)
        self.head = nn.Sequential(
            nn.Linear(2 * shape.hidden + shape.embedding, shape.hidden), nn.GELU(), nn.Linear(shape.hidden, 1)
        )

    def forward(self, patches: Tensor) -> Tensor:
        # What the names of features add is the same in every patch.
        past = patches[:, :, :-1]
        own = self._read(self.target, past[:, :, :0] if self.peers else past)
        source = self._read(self.source, patches[:, :, 1:] if self.peers else past)
        if self.neighbours.shape[1]:
            # Neighbour by neighbour: all at once they would leave the cache.
            near = [own + source.index_select(1, one) for one in self.neighbours.unbind(dim=1)]
            weight = torch.stack(
                [self.attention(nn.functional.leaky_relu(one, _SLOPE))[:, :, 0] for one in near], dim=2
            )
            graph = past.new_zeros((*own.shape[:2], own.shape[1]))
            graph = graph.scatter(2, self.neighbours.expand(past.shape[0], -1, -1), weight.softmax(dim=2))
            heard = graph @ source
        else:
            heard = torch.zeros_like(own)
        first = cast(nn.Linear, self.head[0])
        both = torch.cat((own, heard), dim=2).relu()
        hidden = nn.functional.linear(both, first.weight[:, : both.shape[2]])
        hidden = hidden + nn.functional.linear(self.embedding, first.weight[:, both.shape[2] :], first.bias)
        told = cast(Tensor, self.head[2](nn.functional.gelu(hidden))[:, :, 0])
        return told if self.peers else past[:, :, -1] + told

    def heard(self, own: Tensor, told: Tensor) -> Tensor:
        """(f, hidden, p) of what the neighbours of each feature tell it in p patches, by the attention of `forward`."""
        neighbours = self.neighbours.unbind(dim=1)
        found = torch.zeros_like(told)
        if not neighbours:
            return found
        # Neighbour by neighbour, in the same memory: all at once they would leave the cache.
        near, attention, asked = torch.empty_like(told), self.attention.weight.detach().numpy(), []
        for one in neighbours:
            torch.index_select(told, 0, one, out=near).add_(own)
            asked.append(torch.from_numpy(attention @ nn.functional.leaky_relu_(near, _SLOPE).numpy()))
        for one, weight in zip(neighbours, torch.stack(asked).softmax(dim=0), strict=True):
            found.addcmul_(weight, torch.index_select(told, 0, one, out=near))
        return found

    def _read(self, layer: nn.Linear, past: Tensor) -> Tensor:
        """(b, f, hidden) of (b, f, window) pasts, each beside the name of its feature."""
        window = past.shape[2]
        named = nn.functional.linear(self.embedding, layer.weight[:, window:], layer.bias)
        return past @ layer.weight[:, :window].t() + named


@dataclass(frozen=True, slots=True)
class Forecasting:
    """The recipe; see `training.Recipe`.

    Attributes:
        relations: of entities side by side.
    """

    shape: Shape
    relations: Relations | None = None
    kind: str = KIND

    @property
    def length(self) -> int:
        return self.shape.window + 1

    @property
    def steps(self) -> int:
        return self.shape.steps

    @property
    def batch(self) -> int:
        return self.shape.batch

    @property
    def rate(self) -> float:
        return self.shape.rate

    def network(self, values: Sequence[Matrix]) -> nn.Module:
        """See `training.Recipe.network`."""
        count = self.shape.neighbours if self.shape.edges else 0
        return GraphNetwork(self.shape, nearest(values, count, self.relations))

    def loss(self, network: nn.Module, patches: Tensor, generator: np.random.Generator) -> Tensor:
        """Smooth absolute error of the last row."""
        return nn.functional.smooth_l1_loss(network(patches), patches[:, :, -1])

    def model(self, network: nn.Module) -> GraphForecast:
        """See `training.Recipe.model`."""
        return GraphForecast(self.shape, network)


def nearest(values: Sequence[Matrix], count: int, relations: Relations | None = None) -> npt.NDArray[np.int64]:
    """(f, count) the features whose values are correlated most with each, by amount, over (n, f) series.

    Args:
        relations: only features of other entities then, of those called together before all others.
    """
    rows = np.nan_to_num(np.concatenate(values)).astype(np.float64)
    rows -= rows.mean(axis=0)
    length = np.sqrt((rows**2).sum(axis=0))
    alike = np.abs(rows.T @ rows) / np.maximum(np.outer(length, length), 1e-12)
    if relations is not None:
        # No correlation is over 1.
        alike += 2.0 * relations.together
        alike[relations.entity[:, None] == relations.entity] = -1.0
    np.fill_diagonal(alike, -1.0)
    return np.ascontiguousarray(np.argsort(-alike, axis=1, kind="stable")[:, :count])


@dataclass(frozen=True, slots=True, eq=False)
class GraphForecast(PatchModel):
    """A trained network."""

    shape: Shape
    network: nn.Module
    forecasts: ClassVar = True

    @property
    def length(self) -> int:
        """See `PatchModel.length`."""
        return self.shape.window + 1

    def judge(self, patches: Matrix, *, trailing: bool) -> Matrix:
        """See `PatchModel.judge`: how far the row itself is off what it should be."""
        network = cast(GraphNetwork, self.network)
        # What `GraphNetwork.forward` does, layer by layer.
        target, source, first = (
            Columns.named(one, network.embedding) for one in (network.target, network.source, network.head[0])
        )
        last = Columns.of(network.head[2])
        by_patch = np.empty((patches.shape[0], patches.shape[2]), np.float32)
        for at in range(0, patches.shape[2], _CHUNK):
            given = torch.from_numpy(patches[:, :, at : at + _CHUNK].copy())
            told = source(given[:, 1:] if network.peers else given[:, :-1])
            own = target.constant.expand_as(told) if network.peers else target(given[:, :-1])
            both = torch.cat((own, network.heard(own, told)), dim=1).relu_()
            expected = last(nn.functional.gelu(first(both)))[:, 0]
            if not network.peers:
                expected += given[:, -2]
            by_patch[:, at : at + _CHUNK] = (expected - given[:, -1]).abs_().numpy()
        return by_patch

    def arrays(self) -> Arrays:
        """See `Model.arrays`."""
        return network_arrays(self.network)

    def configuration(self) -> dict[str, Any]:
        """See `Model.configuration`."""
        return {name: getattr(self.shape, name) for name in Shape.__dataclass_fields__}


def recipe(features: Sequence[str], *, edges: bool = True) -> Forecasting:
    """The recipe for series of these features, for a `training.Trainer`."""
    count, relations = len(features), relations_of(features)
    others = count - 1 if relations is None else count - int(np.bincount(relations.entity).max())
    shape = Shape(count, min(NEIGHBOURS_MAX, max(others, 0)), edges, peers=relations is not None)
    return Forecasting(shape, relations)


def fit(series_list: Sequence[Series], *, seed: int, progress: Progress | None = None, edges: bool = True) -> Detector:
    """See `detector.fit`; without edges, the twin that shows what the graph adds."""
    features = series_list[0].features if series_list else ()
    return train(recipe(features, edges=edges), series_list, seed=seed, progress=progress)


def load(arrays: Arrays, configuration: dict[str, Any]) -> Detector:
    """See `detector.load`."""
    shape = Shape(**configuration["model"])
    stored = model_arrays(arrays)
    network = GraphNetwork(shape, stored["neighbours"])
    return restore(KIND, GraphForecast(shape, fill_network(network, stored)), arrays, configuration)
