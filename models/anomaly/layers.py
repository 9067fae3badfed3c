"""Linear layers of a trained network over many patches at once.

Patches lie along the last axis, where every step of a network is one run through contiguous memory. Bits are the same
each time where NumPy and torch have one thread, as in Ray's workers: of several, how they share the work decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from models.anomaly.series import Matrix


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """A linear layer of (..., i, p) columns.

    Attributes:
        weight: (o, i).
        constant: (o, 1), or (f, o, 1) where each of f features has its own.
    """

    weight: Matrix
    constant: Tensor

    @staticmethod
    def of(layer: nn.Module) -> Columns:
        """The layer as it is."""
        linear = cast(nn.Linear, layer)
        return Columns(linear.weight.detach().numpy(), linear.bias.detach()[:, None])

    @staticmethod
    def named(layer: nn.Module, names: Tensor) -> Columns:
        """A layer whose inputs end with the (f, e) name of their feature, which adds the same in every patch."""
        linear, own = cast(nn.Linear, layer), names.shape[1]
        weight = linear.weight.detach()
        constant = nn.functional.linear(names.detach(), weight[:, -own:], linear.bias.detach())
        return Columns(weight[:, :-own].numpy(), constant[:, :, None])

    def __call__(self, given: Tensor) -> Tensor:
        # NumPy multiplies matrices as narrow as these faster than torch, from the same memory.
        return torch.from_numpy(self.weight @ given.numpy()) + self.constant
