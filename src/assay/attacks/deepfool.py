"""DeepFool: step by step to the nearest linearised decision boundary."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from assay.attacks.base import Search, only
from assay.attacks.hyperplanes import dual, nearest_hyperplane
from assay.attacks.nearest import NearestAttack, offer, surplus
from assay.config import Number
from assay.core.oracle import Loss
from assay.core.random import Rows
from assay.core.threats import NormBall, per_row


class DeepFool(NearestAttack):
    """DeepFool (Moosavi-Dezfooli et al. 2016), for l2 and linf: each step goes straight to the
    nearest of the boundaries as they look from where it stands; an image that is beyond one stays.

    As in the authors' code, boundaries are linearised at the point that has gone too far by
    `overshoot` (in the paper only the last point goes too far), and clipped to [0, 1]. Towards a
    class, the one boundary is that between it and the largest other logit.
    """

    name: Literal["deepfool"] = "deepfool"
    """The method's name in configs."""
    norm: Literal["linf", "l2"] = "l2"
    """The norm that distances are measured in: linf or l2."""
    steps: PositiveInt = 50
    """The most steps, each one linearisation."""
    overshoot: Number = Field(default=0.02, ge=0)
    """How much further than the boundaries to go, as a share of the whole way."""
    candidates: int = Field(default=10, ge=2)
    """How many of the largest logits to look at, that of the label among them."""

    def search(
        self,
        model: Any,
        x: Tensor,
        y: Tensor,
        *,
        threat: NormBall,
        loss: Loss,
        targeted: bool,
        rng: Rows,
    ) -> Search:
        del loss, rng  # the boundary, not a loss, is followed, and nothing is drawn
        adv, moved = x, torch.zeros_like(x)
        short = torch.ones(len(x), dtype=torch.bool, device=x.device)  # not yet beyond a boundary
        for _ in range(self.steps):
            at = short.nonzero()[:, 0]
            answer, lead, slope = nearest_hyperplane(
                model,
                adv[at],
                y[at],
                self.norm,
                targeted=targeted,
                candidates=self.candidates,
            )
            steepness = dual(slope.flatten(1), self.norm)
            way = torch.where(steepness > 0, -lead / steepness, 0.0)
            moved = moved.index_add(0, at, threat.steepest(slope) * per_row(way, slope))
            spent = short.long()
            logits = answer.new_full((len(x), answer.shape[1]), torch.nan).index_copy(0, at, answer)
            short = short.index_copy(0, at, ~(surplus(answer, y[at], targeted) > 0))
            keep = yield offer(threat, x, adv, logits, spent)
            x, y, adv, moved, short = only(keep, x, y, adv, moved, short)
            further = (x + (1 + self.overshoot) * moved).clamp_(0, 1)
            adv = torch.where(per_row(short, x), further, adv)
        yield offer(threat, x, adv, None, spent=0)
