"""DeepFool: step by step to the nearest linearised decision boundary."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from assay.attacks.base import Search, only
from assay.attacks.methods.hyperplanes import dual, nearest_hyperplane
from assay.attacks.methods.minimum_norm import MinimumNorm, offer, surplus
from assay.config import Number
from assay.core.oracle import Loss
from assay.core.random import Rows
from assay.core.threats import TINY, NormBall, per_row


class DeepFool(MinimumNorm):
    """DeepFool (Moosavi-Dezfooli et al. 2016), for l2 and linf: each step goes straight to the
    nearest of the boundaries, linearised at the current point; an image that is beyond one stays.

    As in the authors' code, which knows no bounds, a step goes too far by `overshoot` and the next
    begins there (in the paper only the last point goes too far); here it ends at those of [0, 1],
    and is made of the pixels that can go on, so that it leads beyond the boundary all the same.
    Towards a class, the one boundary is that between it and the largest other logit.

        advₖ₊₁ = advₖ + (1 + overshoot) · |f| / ‖∇f‖² · ∇f,   f = z_i - z_y at the nearest class i

    in L2; in Linf the way is |f| / ‖∇f‖₁ · sign ∇f.

    >>> result = assay.attacks.DeepFool(norm="l2")(clf, x, y)
    >>> result.success_rate.value, 0.2 < result.median_distance < 2
    (1.0, True)
    """

    VERSION: ClassVar[int] = 4  # a masked class says nothing of rounding

    name: Literal["deepfool"] = "deepfool"
    """The method's name in configs."""
    norm: Literal["linf", "l2"] = "l2"
    """The norm that distances are measured in: linf or l2."""
    steps: PositiveInt = 50
    """The most steps, each one linearisation."""
    overshoot: Number = Field(default=0.02, ge=0)
    """How much further than the boundary to go, as a share of the way there."""
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
        adv, going = x, torch.ones(len(x), dtype=torch.bool, device=x.device)
        for _ in range(self.steps):
            at = going.nonzero()[:, 0]
            if not len(at):
                break
            here, goal = adv[at], y[at]
            answer, lead, slope = nearest_hyperplane(
                model, here, goal, self.norm, targeted=targeted, candidates=self.candidates
            )
            # A pixel at the end of [0, 1] cannot go on, and must not be counted on.
            slope = slope.masked_fill(((here <= 0) & (slope < 0)) | ((here >= 1) & (slope > 0)), 0)
            steepness = dual(slope.flatten(1), self.norm)
            way = -lead * (1 + self.overshoot) / steepness.clamp_min(TINY)
            way = way.clamp_max(1 / TINY)  # of a vanishing slope: infinite would make NaN of 0
            ahead = (here + threat.steepest(slope) * per_row(way, x)).clamp_(0, 1)
            # Without a slope there is nowhere to go, and another query would say the same.
            moves = ~(surplus(answer, goal, targeted) > 0) & (steepness > 0)
            logits = answer.new_full((len(x), answer.shape[1]), torch.nan).index_copy(0, at, answer)
            keep = yield offer(threat, x, adv, logits, going.long())
            adv = adv.index_copy(0, at[moves], ahead[moves])
            going = going.index_copy(0, at, moves)
            x, y, adv, going = only(keep, x, y, adv, going)
        yield offer(threat, x, adv, None, spent=0)
