"""Averaged weights: an exponential moving average of all that a network has learnt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """The moving average of a network's parameters and buffers (Polyak & Juditsky 1992; Izmailov
    et al. 2018 of adversarial and natural training alike).

    Whole numbers, such as a count of batches, are taken as they are.

    Args:
        model: the network in training.
        decay: the share of the average that each step keeps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = model
        self.decay = decay
        self.steps = 0
        self.weights = {name: value.clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are after a step."""
        self.steps += 1
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps))
        averaged, current = [], []
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                averaged.append(self.weights[name])
                current.append(value)
            else:
                self.weights[name].copy_(value)
        torch._foreach_lerp_(averaged, current, 1 - keep)

    @torch.no_grad()
    def restore(self, weights: dict[str, Tensor], steps: int) -> None:
        """Go on from an average that was kept, on whatever device: a checkpoint is read on the CPU,
        and what is averaged stays beside the network."""
        self.steps = steps
        for name, value in self.weights.items():
            value.copy_(weights[name])

    @contextmanager
    def used(self) -> Iterator[None]:
        """Give the model the averaged weights, and its own ones back on the way out."""
        own = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.weights)
        try:
            yield
        finally:
            self.model.load_state_dict(own)
