"""Carlini & Wagner's search for the nearest adversarial image in L2."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from assay.attacks.base import Search, only
from assay.attacks.methods.gradient import uphill
from assay.attacks.methods.minimum_norm import MinimumNorm, Nearest, offer, surplus
from assay.core.oracle import Loss
from assay.core.random import Rows
from assay.core.threats import NormBall, per_row

INSIDE = 1 - 1e-6
"""A pixel at the very end of [0, 1] has no finite place in tanh space."""
HIGHEST_C = 1e10
"""Where c grows no more, as in the authors' code."""


class CarliniWagner(MinimumNorm):
    """The L2 attack of Carlini & Wagner 2017 ("Towards evaluating the robustness of neural
    networks"): Adam minimises ‖adv - x‖² + c · max(confidence - lead, 0), where the lead is that
    of another logit over the label's (their f6), and adv = (tanh(w) + 1) / 2 stays inside [0, 1].
    The smallest c that succeeds is searched for by bisection.

    An image whose loss has stopped falling waits for the next c, and queries nothing meanwhile. The
    authors' code looks at the loss of the whole batch at one step in so many; that of one image
    goes up and down as it crosses the boundary, so here means over those steps are compared.

        min over w of ‖adv - x‖² + c · max(z_y - max of z_i over i ≠ y + κ, 0)

    >>> attack = assay.attacks.CarliniWagner(steps=50, searches=4, initial_c=0.1)
    >>> result = attack(clf, x, y)
    >>> result.success_rate.value > 0.5, result.threat.limited
    (True, False)
    """

    VERSION: ClassVar[int] = 3  # a masked class says nothing of rounding

    name: Literal["carlini-wagner"] = "carlini-wagner"
    """The method's name in configs."""
    norm: Literal["l2"] = "l2"
    """The norm that distances are measured in: l2."""
    steps: PositiveInt = 1000
    """The most steps per value of c, each one gradient."""
    searches: PositiveInt = 9
    """How many values of c are tried."""
    initial_c: float = Field(default=1e-3, gt=0)
    """The first c: it grows tenfold until one succeeds, then the bisection begins."""
    step_size: float = Field(default=0.01, gt=0)
    """Adam's learning rate, in tanh space."""
    confidence: float = Field(default=0.0, ge=0)
    """By how much another logit must lead (kappa in the paper)."""
    abort_early: bool = True
    """Go on to the next c when the mean loss over a tenth of the steps is not 0.01 % below that
    over the tenth before."""

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
        del rng  # nothing is drawn
        found, adv = Nearest.none_yet(threat, x), x
        c = torch.full((len(x),), self.initial_c, device=x.device)
        low, high = torch.zeros_like(c), torch.full_like(c, torch.inf)
        for _ in range(self.searches):
            w = torch.atanh((2 * x - 1) * INSIDE)
            # Not quite x: of its rounding Adam would make steps where the model has no slope.
            home = (torch.tanh(w) + 1) / 2
            mean, spread = torch.zeros_like(x), torch.zeros_like(x)
            total, before = torch.zeros_like(c), torch.full_like(c, torch.inf)
            going, won = torch.ones_like(y, dtype=torch.bool), torch.zeros_like(y, dtype=torch.bool)
            for step in range(1, self.steps + 1):
                at = going.nonzero()[:, 0]
                if not len(at):
                    break
                squashed = torch.tanh(w)
                adv = (squashed + 1) / 2
                answer, rise = uphill(model, adv[at], y[at], loss)
                logits = answer.new_full((len(x), answer.shape[1]), torch.nan)
                logits = logits.index_copy(0, at, answer)
                slope = torch.zeros_like(x).index_copy(0, at, rise.nan_to_num(0.0, 0.0, 0.0))
                beyond = surplus(logits, y, targeted) - self.confidence
                iterate = found.offer(adv, logits, beyond, going.long())

                # Adam's step (Kingma & Ba 2015) on the loss, by the chain rule through tanh. What
                # becomes of those that wait does not matter.
                won, apart = won | (beyond > 0), adv - home
                total = total + apart.flatten(1).pow(2).sum(1) + c * (-beyond).clamp_min(0)
                fall = 2 * apart - per_row(torch.where(beyond > 0, 0.0, c), x) * slope
                fall *= (1 - squashed.square()) / 2
                mean = torch.lerp(mean, fall, 0.1)
                spread = torch.lerp(spread, fall.square(), 0.001)
                pace = (spread / (1 - 0.999**step)).sqrt() + 1e-8
                w = w - self.step_size / (1 - 0.9**step) * mean / pace
                if self.abort_early and step % max(1, self.steps // 10) == 0:
                    going = going & (total < 0.9999 * before)
                    before, total = total, torch.zeros_like(c)

                keep = yield replace(iterate, ahead=1)  # those that wait go on with the next c
                x, y, found, adv, c, low, high = only(keep, x, y, found, adv, c, low, high)
                held = (w, home, mean, spread, total, before, going, won)
                w, home, mean, spread, total, before, going, won = only(keep, *held)
            low, high = torch.where(won, low, c), torch.where(won, c, high)
            grown = (10 * c).clamp_max(HIGHEST_C)
            c = torch.where(high.isinf(), grown, (low + high) / 2)
        none = per_row(found.distance.isinf(), x)
        yield offer(threat, x, torch.where(none, adv, found.adv), None, spent=0)
