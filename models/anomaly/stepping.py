"""A network fitted one step after the other: what every trainer does around its own data and loss."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from models.anomaly.scores import Progress

# The rate falls along a cosine to this share of its start.
_RATE_END: Final = 0.05

Wrap = Callable[[nn.Module], nn.Module]


def bare(network: nn.Module) -> nn.Module:
    """The network as it is: of a worker that is alone."""
    return network


class Stepping(ABC):
    """Steps of Adam, and a state that can be kept and restored.

    Each step draws what it reads from seed, worker and step alone, so a run that is restored goes on as if it had not
    stopped.

    Attributes:
        network: what is fitted.
        done: steps taken.
        steps: steps to take.
    """

    def __init__(
        self,
        make: Callable[[], nn.Module],
        *,
        seed: int,
        steps: int,
        rate: float,
        worker: int = 0,
        wrap: Wrap = bare,
        device: str = "cpu",
    ) -> None:
        """
        Args:
            make: a new network, drawn from torch's generator.
            wrap: puts the network into whatever adds up gradients between workers (DistributedDataParallel).
        """
        self.done, self.steps = 0, steps
        self._seed, self._worker, self._rate = seed, worker, rate
        # Restored afterwards: whoever trains here may have random numbers of its own.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = make().to(torch.device(device))
        self._wrapped = wrap(self.network)
        self._optimizer = torch.optim.Adam(self.network.parameters(), lr=rate)

    @abstractmethod
    def loss(self, network: nn.Module, generator: np.random.Generator) -> Tensor:
        """Mean loss over what is drawn for this step."""

    def step(self) -> float:
        """One step of the optimizer; the loss of what was drawn."""
        generator = np.random.default_rng((self._seed, self._worker, self.done))
        share = 0.5 * (1 + math.cos(math.pi * self.done / self.steps))
        self._optimizer.param_groups[0]["lr"] = self._rate * (_RATE_END + (1 - _RATE_END) * share)
        self._wrapped.train()
        self._optimizer.zero_grad(set_to_none=True)
        found = self.loss(self._wrapped, generator)
        found.backward()
        self._optimizer.step()
        self.done += 1
        return float(found.detach())

    def run(self, progress: Progress | None) -> None:
        """All steps that are left, in this process."""
        while self.done < self.steps:
            self.step()
            if progress is not None and self.done % (self.steps // 100 or 1) == 0:
                progress(self.done / self.steps)

    def state(self) -> dict[str, Any]:
        """Steps done, network and optimizer: numbers and tensors in plain containers, for `torch.save`."""
        return {
            "done": self.done,
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state` of a trainer with the same data, seed, shape and number of workers."""
        self.done = state["done"]
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
