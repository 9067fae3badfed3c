"""Training of a network on patches of series, by a recipe, with any number of workers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from models.anomaly.calibrated import Detector, PatchModel, calibrate_model, for_fitting
from models.anomaly.patches import draw, patches_of
from models.anomaly.refusals import NotEnoughData
from models.anomaly.scaling import Scaling
from models.anomaly.scores import Arrays, Progress
from models.anomaly.series import Matrix, Series
from models.anomaly.stepping import Stepping, Wrap, bare


class Recipe(Protocol):
    """How one kind of network is made, fed and judged.

    Attributes:
        kind: name in DETECTORS.
        length: rows of one patch.
        steps, batch, rate: of the optimizer (Adam).
    """

    @property
    def kind(self) -> str: ...
    @property
    def length(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def rate(self) -> float: ...

    def network(self, values: Sequence[Matrix]) -> nn.Module:
        """A new network for series of standardised (n, f) values, drawn from torch's generator."""

    def loss(self, network: nn.Module, patches: Tensor, generator: np.random.Generator) -> Tensor:
        """Mean loss over (b, f, length) patches, missing values 0."""

    def model(self, network: nn.Module) -> PatchModel:
        """The trained network as a model."""


class Trainer(Stepping):
    """Fits a recipe; with several workers each one takes its share of the batch."""

    def __init__(
        self,
        recipe: Recipe,
        series_list: Sequence[Series],
        *,
        seed: int,
        worker: int = 0,
        workers: int = 1,
        wrap: Wrap = bare,
        device: str = "cpu",
    ) -> None:
        """Raises NotEnoughData, SeriesInvalid."""
        self._device = torch.device(device)
        self._recipe, self._series_list = recipe, list(series_list)
        self._scaling = Scaling.fit(series_list)
        values = [one.values for one in for_fitting(self._scaling, series_list)]
        self._patches = [view for one in values if (view := patches_of(one, recipe.length)).size]
        if not self._patches:
            raise NotEnoughData(f"no series has {recipe.length} rows in a row to fit on")
        self._batch = math.ceil(recipe.batch / workers)
        super().__init__(
            lambda: recipe.network(values),
            seed=seed,
            steps=recipe.steps,
            rate=recipe.rate,
            worker=worker,
            wrap=wrap,
            device=device,
        )

    def loss(self, network: nn.Module, generator: np.random.Generator) -> Tensor:
        """See `Stepping.loss`: of patches at random places."""
        drawn = draw(self._patches, self._recipe.length, generator, self._batch)
        return self._recipe.loss(network, torch.from_numpy(drawn).to(self._device), generator)

    def finish(self) -> Detector:
        """The detector as trained so far, calibrated.

        Raises:
            NotEnoughData: too few rows to calibrate on.
        """
        self.network.cpu().eval()
        return calibrate_model(self._recipe.kind, self._scaling, self._recipe.model(self.network), self._series_list)


def train(recipe: Recipe, series_list: Sequence[Series], *, seed: int, progress: Progress | None) -> Detector:
    """All steps in this process, one after the other."""
    trainer = Trainer(recipe, series_list, seed=seed)
    trainer.run(progress)
    return trainer.finish()


def network_arrays(network: nn.Module) -> Arrays:
    """Weights and buffers by name."""
    return {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}


def fill_network(network: nn.Module, arrays: Arrays) -> nn.Module:
    """Inverse of `network_arrays`, ready to judge.

    Raises:
        RuntimeError: names or shapes differ.
    """
    network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
    return network.eval()
