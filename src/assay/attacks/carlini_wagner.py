"""Carlini & Wagner's search for the nearest adversarial image in L2."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from assay.attacks.base import Search, only
from assay.attacks.gradient import uphill
from assay.attacks.nearest import Nearest, NearestAttack, offer, surplus
from assay.core.oracle import Loss
from assay.core.random import Rows
from assay.core.threats import NormBall, per_row

INSIDE = 1 - 1e-6
"""A pixel at the very end of [0, 1] has no finite place in tanh space."""


class CarliniWagner(NearestAttack):
    """The L2 attack of Carlini & Wagner 2017 ("Towards evaluating the robustness of neural
    networks"): Adam minimises ‖adv - x‖² + c · max(confidence - lead, 0), where the lead is that
    of another logit over the label's (their f6), and adv = (tanh(w) + 1) / 2 stays inside [0, 1].
    The smallest c that succeeds is searched for by bisection.

    Every image goes at its own pace: when its loss has stopped falling it goes on to its next c
    alone, with an Adam of its own, so that no evaluation is spent on waiting.
    """

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
    """Go on to the next c when a tenth of the steps did not lower the loss by 0.01 %."""

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
        w = origin = torch.atanh((2 * x - 1) * INSIDE)
        mean, spread = torch.zeros_like(x), torch.zeros_like(x)
        c = torch.full((len(x),), self.initial_c, device=x.device)
        low, high = torch.zeros_like(c), torch.full_like(c, torch.inf)
        step, tried = torch.zeros_like(y), torch.zeros_like(y)
        before, won = torch.full_like(c, torch.inf), torch.zeros_like(y, dtype=torch.bool)
        while bool((tried < self.searches).any()):
            # One gradient for every image that has values of c left to try.
            active = tried < self.searches
            at = active.nonzero()[:, 0]
            squashed = torch.tanh(w)
            adv = torch.where(per_row(active, x), (squashed + 1) / 2, adv)
            answer, rise = uphill(model, adv[at], y[at], loss)
            logits = answer.new_full((len(x), answer.shape[1]), torch.nan).index_copy(0, at, answer)
            slope = torch.zeros_like(x).index_copy(0, at, rise.nan_to_num(0.0, 0.0, 0.0))
            beyond = surplus(logits, y, targeted) - self.confidence
            found.see(adv, beyond)
            keep = yield offer(threat, x, adv, logits, active.long())
            held = (x, y, found, adv, w, origin, mean, spread, c, low, high, step, tried, before)
            x, y, found, adv, w, origin, mean, spread, c, low, high, step, tried, before = only(
                keep, *held
            )
            won, squashed, slope, beyond = only(keep, won, squashed, slope, beyond)

            # Adam's step (Kingma & Ba 2015) on the loss, by the chain rule through tanh.
            step, won = step + 1, won | (beyond > 0)
            apart = adv - x
            total = apart.flatten(1).pow(2).sum(1) + c * (-beyond).clamp_min(0)
            fall = 2 * apart - per_row(torch.where(beyond > 0, 0.0, c), x) * slope
            fall *= (1 - squashed.square()) / 2
            mean, spread = torch.lerp(mean, fall, 0.1), torch.lerp(spread, fall.square(), 0.001)
            rate = self.step_size * (1 - 0.999**step).sqrt() / (1 - 0.9**step)
            w = w - per_row(rate, x) * mean / (spread.sqrt() + 1e-8)

            # Whoever is at the end of this c takes the next, from the start.
            due = step % max(1, self.steps // 10) == 0
            stuck = due & (total > 0.9999 * before) & self.abort_early
            before = torch.where(due, total, before)
            over = (step >= self.steps) | stuck
            high = torch.where(over & won, torch.minimum(high, c), high)
            low = torch.where(over & ~won, torch.maximum(low, c), low)
            c = torch.where(over, torch.where(high.isinf(), 10 * c, (low + high) / 2), c)
            fresh = per_row(over, x)
            w, mean = torch.where(fresh, origin, w), torch.where(fresh, 0.0, mean)
            spread = torch.where(fresh, 0.0, spread)
            step, tried = torch.where(over, 0, step), tried + over.long()
            before, won = torch.where(over, torch.inf, before), won & ~over
        none = per_row(found.distance.isinf(), x)
        yield offer(threat, x, torch.where(none, adv, found.adv), None, spent=0)
