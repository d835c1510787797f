"""What an attacker makes rise: (logits (N, K), y (N,)) → one loss per row (N,)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from assay.core.oracle import Loss

LossName = Literal["cross_entropy", "margin"]


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Return the cross entropy of each row, in nats; its gradient vanishes on confident rows."""
    return F.cross_entropy(logits, y, reduction="none")


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Return the largest other logit minus that of `y`: positive where `y` is not the answer.

    The loss f6 of Carlini & Wagner 2017 without its cut at -kappa; it does not saturate.
    """
    own = logits.gather(1, y[:, None])
    mask = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, y[:, None], True)
    return logits.masked_fill(mask, -torch.inf).amax(1) - own[:, 0]


LOSSES: dict[LossName, Loss] = {"cross_entropy": cross_entropy, "margin": margin}


def towards(loss: Loss) -> Loss:
    """Return the targeted form of `loss`: it rises as the answer comes nearer to `y`."""

    def negated(logits: Tensor, y: Tensor) -> Tensor:
        return -loss(logits, y)

    return negated
