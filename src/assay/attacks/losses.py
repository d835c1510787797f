"""What an attacker makes rise: (logits (N, K), y (N,)) → one loss per row (N,)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import BeforeValidator
from torch import Tensor
from torch.nn import functional as F

from assay.core.oracle import Loss

LossName = Annotated[
    Literal["cross_entropy", "margin", "dlr"],
    BeforeValidator(lambda name: "cross_entropy" if name == "ce" else name),
]
"""What is made to rise; "ce" is understood as cross_entropy."""

TINY = 1e-12
"""Added to a denominator, as the authors of the DLR loss do: equal logits give no NaN."""


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


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Return the difference of logits ratio (Croce & Hein 2020): the margin over the lead of the
    largest logit on the third.

    It changes neither with a shift of the logits nor with their scale, so that no model hides its
    gradient by scaling. Two classes have no third logit, and a ratio of them would be constant:
    there it is the margin itself.
    """
    largest = logits.topk(min(3, logits.shape[1]), dim=1).values
    if largest.shape[1] < 3:
        return margin(logits, y)
    return margin(logits, y) / (largest[:, 0] - largest[:, 2] + TINY)


def dlr_targeted(logits: Tensor, pair: Tensor) -> Tensor:
    """Return the targeted difference of logits ratio (Croce & Hein 2020), with which one class is
    led towards another: (z_target - z_label) over z_1 - (z_3 + z_4) / 2, the logits in order.

    With three classes the third logit stands for the fourth as well; with two it is the numerator
    alone.

    Args:
        logits: (N, K).
        pair: int64 (N, 2), the true class and the target.
    """
    own, other = logits.gather(1, pair).unbind(1)
    largest = logits.topk(min(4, logits.shape[1]), dim=1).values
    if largest.shape[1] < 3:
        return other - own
    return (other - own) / (largest[:, 0] - (largest[:, 2] + largest[:, -1]) / 2 + TINY)


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "margin": margin, "dlr": dlr}


def towards(loss: Loss) -> Loss:
    """Return the targeted form of `loss`: it rises as the answer comes nearer to `y`.

    Of `dlr` this is not its negation, which is flat wherever `y` ranks third, but `dlr_targeted`,
    away from the largest other logit.
    """

    def negated(logits: Tensor, y: Tensor) -> Tensor:
        return -loss(logits, y)

    def away_from_the_leader(logits: Tensor, y: Tensor) -> Tensor:
        leader = logits.detach().scatter(1, y[:, None], -torch.inf).argmax(1)
        return dlr_targeted(logits, torch.stack([leader, y], dim=1))

    return away_from_the_leader if loss is dlr else negated
