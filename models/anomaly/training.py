"""Step-wise training of a network: one step at a time, a state that can be kept and restored, any number of workers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from models.anomaly.calibrated import Detector, PatchModel, calibrate_model, for_fitting
from models.anomaly.patches import draw, patches_of
from models.anomaly.refusals import NotEnoughData
from models.anomaly.scaling import Scaling
from models.anomaly.scores import Arrays, Progress
from models.anomaly.series import Matrix, Series

# The rate falls along a cosine to this share of its start.
_RATE_END: Final = 0.05


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


class Trainer:
    """Fits a recipe step by step.

    Each step draws its patches from seed, worker and step alone, so a run that is restored goes on as if it had not
    stopped. With several workers each one takes its share of the batch; `wrap` puts the network into whatever adds up
    gradients between them (DistributedDataParallel).

    Attributes:
        done: steps taken.
        steps: steps to take.
    """

    def __init__(
        self,
        recipe: Recipe,
        series_list: Sequence[Series],
        *,
        seed: int,
        worker: int = 0,
        workers: int = 1,
        wrap: Callable[[nn.Module], nn.Module] = lambda network: network,
        device: str = "cpu",
    ) -> None:
        """Raises NotEnoughData, SeriesInvalid."""
        self._device = torch.device(device)
        self.done, self.steps = 0, recipe.steps
        self._recipe, self._series_list = recipe, list(series_list)
        self._seed, self._worker = seed, worker
        self._scaling = Scaling.fit(series_list)
        values = [one.values for one in for_fitting(self._scaling, series_list)]
        self._patches = [view for one in values if len(view := patches_of(one, recipe.length))]
        if not self._patches:
            raise NotEnoughData(f"no series has {recipe.length} rows in a row to fit on")
        # Restored afterwards: whoever trains here may have random numbers of its own.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._network = recipe.network(values).to(self._device)
        self._wrapped = wrap(self._network)
        self._batch = math.ceil(recipe.batch / workers)
        self._optimizer = torch.optim.Adam(self._network.parameters(), lr=recipe.rate)

    def step(self) -> float:
        """One step of the optimizer; the loss of its patches."""
        generator = np.random.default_rng((self._seed, self._worker, self.done))
        patches = torch.from_numpy(draw(self._patches, self._recipe.length, generator, self._batch)).to(self._device)
        share = 0.5 * (1 + math.cos(math.pi * self.done / self.steps))
        self._optimizer.param_groups[0]["lr"] = self._recipe.rate * (_RATE_END + (1 - _RATE_END) * share)
        self._wrapped.train()
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._recipe.loss(self._wrapped, patches, generator)
        loss.backward()
        self._optimizer.step()
        self.done += 1
        return float(loss.detach())

    def state(self) -> dict[str, Any]:
        """Steps done, network and optimizer: numbers and tensors in plain containers, for `torch.save`."""
        return {
            "done": self.done,
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state` of a trainer with the same recipe, series, seed and number of workers."""
        self.done = state["done"]
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])

    def finish(self) -> Detector:
        """The detector as trained so far, calibrated.

        Raises:
            NotEnoughData: too few rows to calibrate on.
        """
        self._network.cpu().eval()
        return calibrate_model(self._recipe.kind, self._scaling, self._recipe.model(self._network), self._series_list)


def train(recipe: Recipe, series_list: Sequence[Series], *, seed: int, progress: Progress | None) -> Detector:
    """All steps in this process, one after the other."""
    trainer = Trainer(recipe, series_list, seed=seed)
    while trainer.done < trainer.steps:
        trainer.step()
        if progress is not None and trainer.done % (trainer.steps // 100 or 1) == 0:
            progress(trainer.done / trainer.steps)
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
