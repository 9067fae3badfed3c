"""An autoencoder of patches: every feature by the same encoder, all features together through one narrow code.

A feature that does not fit what the others tell about the moment is reconstructed badly. While training, whole features
are hidden from the encoder, so that it has to say each from the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import torch
from torch import Tensor, nn

from models.anomaly.calibrated import Detector, PatchModel, model_arrays, restore
from models.anomaly.layers import Columns
from models.anomaly.scores import Arrays, Progress
from models.anomaly.series import Matrix, Series
from models.anomaly.training import fill_network, network_arrays, train

KIND: Final = "autoencoder"
# Patches that are judged at a time: what lies between the layers then stays in the cache of a core.
_CHUNK: Final = 256
_HIDDEN_SHARE: Final = 0.2
# Rows of a patch that are judged: the middle ones, which are known best, or the last when nothing later may be read.
_CENTRE_ROWS: Final = 5
_TRAILING_ROWS: Final = 3


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the network, and how it is trained."""

    features: int
    length: int = 24
    embedding: int = 8
    hidden: int = 32
    code: int = 8
    bottleneck: int = 32
    steps: int = 1_200
    batch: int = 64
    rate: float = 2e-3


class PatchNetwork(nn.Module):
    """(b, f, length) -> the same shape, by way of `bottleneck` numbers for each patch."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embedding = nn.Parameter(0.1 * torch.randn(shape.features, shape.embedding))
        self.encoder = nn.Sequential(
            nn.Linear(shape.length + shape.embedding, shape.hidden), nn.GELU(), nn.Linear(shape.hidden, shape.code)
        )
        self.bottleneck = nn.Sequential(nn.Linear(shape.features * shape.code, shape.bottleneck), nn.GELU())
        self.decoder = nn.Sequential(
            nn.Linear(shape.bottleneck + shape.embedding, 2 * shape.hidden),
            nn.GELU(),
            nn.Linear(2 * shape.hidden, shape.length),
        )

    def forward(self, patches: Tensor) -> Tensor:
        # What the names of features add is the same in every patch, and the moment the same for every feature of one.
        read, coded = cast(nn.Linear, self.encoder[0]), self.encoder[2]
        length = patches.shape[2]
        own = nn.functional.linear(self.embedding, read.weight[:, length:], read.bias)
        hidden = nn.functional.gelu(patches @ read.weight[:, :length].t() + own)
        moment = self.bottleneck(coded(hidden).flatten(1))
        told = cast(nn.Linear, self.decoder[0])
        width = moment.shape[1]
        own = nn.functional.linear(self.embedding, told.weight[:, width:], told.bias)
        hidden = nn.functional.gelu((moment @ told.weight[:, :width].t())[:, None] + own)
        return cast(Tensor, self.decoder[2](hidden))


@dataclass(frozen=True, slots=True)
class Autoencoding:
    """The recipe; see `training.Recipe`."""

    shape: Shape
    kind: str = KIND

    @property
    def length(self) -> int:
        return self.shape.length

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
        return PatchNetwork(self.shape)

    def loss(self, network: nn.Module, patches: Tensor, generator: np.random.Generator) -> Tensor:
        """Smooth absolute error of whole patches of which some features were hidden."""
        shown = generator.random((patches.shape[0], patches.shape[1], 1)) >= _HIDDEN_SHARE
        return nn.functional.smooth_l1_loss(network(patches * torch.from_numpy(shown).to(patches.device)), patches)

    def model(self, network: nn.Module) -> PatchAutoencoder:
        """See `training.Recipe.model`."""
        return PatchAutoencoder(self.shape, network)


@dataclass(frozen=True, slots=True, eq=False)
class PatchAutoencoder(PatchModel):
    """A trained network."""

    shape: Shape
    network: nn.Module

    @property
    def length(self) -> int:
        """See `PatchModel.length`."""
        return self.shape.length

    def judge(self, patches: Matrix, *, trailing: bool) -> Matrix:
        """See `PatchModel.judge`: mean absolute error over a few rows of the patch."""
        network, length = cast(PatchNetwork, self.network), self.shape.length
        middle = (length - _CENTRE_ROWS) // 2
        judged = slice(length - _TRAILING_ROWS, length) if trailing else slice(middle, middle + _CENTRE_ROWS)
        # What `PatchNetwork.forward` does, layer by layer, with only the judged rows decoded.
        read, tell = (Columns.named(one[0], network.embedding) for one in (network.encoder, network.decoder))
        code, narrow, write = map(Columns.of, (network.encoder[2], network.bottleneck[0], network.decoder[2]))
        write = Columns(write.weight[judged], write.constant[judged])
        gelu = nn.functional.gelu
        by_patch = np.empty((patches.shape[0], patches.shape[2]), np.float32)
        for at in range(0, patches.shape[2], _CHUNK):
            given = torch.from_numpy(patches[:, :, at : at + _CHUNK].copy())
            moment = gelu(narrow(code(gelu(read(given))).flatten(0, 1)))
            error = write(gelu(tell(moment))) - given[:, judged]
            by_patch[:, at : at + _CHUNK] = error.abs_().mean(dim=1).numpy()
        return by_patch

    def arrays(self) -> Arrays:
        """See `Model.arrays`."""
        return network_arrays(self.network)

    def configuration(self) -> dict[str, Any]:
        """See `Model.configuration`."""
        return {name: getattr(self.shape, name) for name in Shape.__dataclass_fields__}


def recipe(features: int) -> Autoencoding:
    """The recipe for series of so many features, for a `training.Trainer`."""
    return Autoencoding(Shape(features))


def fit(series_list: Sequence[Series], *, seed: int, progress: Progress | None = None) -> Detector:
    """See `detector.fit`."""
    return train(recipe(len(series_list[0].features) if series_list else 0), series_list, seed=seed, progress=progress)


def load(arrays: Arrays, configuration: dict[str, Any]) -> Detector:
    """See `detector.load`."""
    shape = Shape(**configuration["model"])
    model = PatchAutoencoder(shape, fill_network(PatchNetwork(shape), model_arrays(arrays)))
    return restore(KIND, model, arrays, configuration)
