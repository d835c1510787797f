"""APGD: projected gradient descent that chooses its own step sizes, and its form with targets.

Croce & Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks"; in L1, Croce & Hein 2021, "Mind the box: l1-APGD for sparse adversarial
attacks on image classifiers".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from assay.attacks.base import Iterate, Search, wins
from assay.attacks.losses import dlr_targeted
from assay.attacks.methods.climb import MOMENTUM, Climb, Images, SparseClimb, nearest_in_l1
from assay.attacks.methods.gradient import GradientAttack, uphill
from assay.config import Number, Repeats
from assay.core.oracle import Loss
from assay.core.random import Rows
from assay.core.threats import NormBall

WIDER = ((3, 0.3), (2, 0.3), (1, 0.4))
"""In L1, which multiples of eps are searched one after the other, and for what share of the steps:
each stage starts from the best point of the one before, projected."""


class _AutoPGD(GradientAttack):
    """What `APGD` and `APGDT` share: how one run climbs."""

    steps: PositiveInt = 100
    """How many steps in a run. The first starting point costs a gradient more."""
    restarts: Repeats = 1
    """How many restarts, each from random starting points of its own."""
    rho: Number = Field(default=0.75, gt=0, lt=1)
    """The step is halved where the loss rose in at most this share of the steps since it was last
    looked at."""

    @property
    def starts(self) -> int:
        return self.restarts

    def climb(
        self,
        model: Any,
        of: Images,
        goal: Tensor,
        threat: NormBall,
        loss: Loss,
        judge: _Judge,
        ends: bool = True,
    ) -> Search:
        """One run from a random start, with which `loss(logits, goal)` is to rise, and which
        `ends` the search or does not.

        What it finds it writes down in `of`, whose rows follow those that stay.
        """
        if threat.norm != "l1":
            at = Climb.at(threat.random_start(of.x, of.rng), goal, 2 * threat.eps)
            yield from self.ascend(model, of, at, threat, loss, judge, self.steps, ends=ends)
            return
        away = of.x + of.rng.normal(tuple(of.x.shape[1:]))
        for times, steps in _shares(self.steps):
            ball = NormBall(norm="l1", eps=times * threat.eps)
            start = nearest_in_l1(of.x, away, ball.eps)
            sparse = SparseClimb.at(start, goal, ball.eps, **SparseClimb.moving(of.x, start))
            inside = times == 1
            yield from self.ascend(
                model, of, sparse, ball, loss, judge, steps, inside=inside, ends=ends and inside
            )
            away, goal = sparse.peak, sparse.goal

    def ascend(
        self,
        model: Any,
        of: Images,
        at: Climb,
        ball: NormBall,
        loss: Loss,
        judge: _Judge,
        steps: int,
        *,
        inside: bool = True,
        ends: bool,
    ) -> Search:
        """Take `steps` steps in `ball`; unless it lies `inside` the threat, nothing is a candidate
        yet."""
        interval, least, shrink = at.intervals(steps)
        due = interval
        for k in range(steps + 1):
            logits, at.slope = uphill(model, at.adv, at.goal, loss, self.draws)
            at.note(loss(logits, at.goal))
            ahead = 0 if ends and k == steps else self.draws
            if inside:
                candidates, news = of.note(at.adv, *judge(logits, of.y))
                said = logits.masked_fill(~news[:, None], torch.nan)
                keep = yield Iterate(candidates, said, spent=self.draws, ahead=ahead)
            else:
                keep = yield Iterate(of.best, spent=self.draws, ahead=ahead)
            of.only(keep)
            at.only(keep)
            if k == due:
                at.check(of.x, self.rho * interval, ball.eps)
                interval = max(interval - shrink, least)
                due += interval
            if k < steps:
                at.move(of.x, ball, 1.0 if k == 0 else MOMENTUM)


class APGD(_AutoPGD):
    """Auto-PGD (Croce & Hein 2020): PGD with momentum, whose step starts at 2 · eps and is halved,
    image by image, at checkpoints where the loss has not risen often enough, or not at all since
    the last halving; it then goes on from the best point so far.

    Checkpoints come after 22 % of the steps, then after 3 % fewer each time, at least 6 %. They
    follow the paper: the first also counts whether the loss rose in the very first step, where the
    authors' code compares with 0. As in that code, "at most" rho · steps halves, not "fewer", and
    after a return to the best point the loss is compared with that of the point it returned from.

    In L1 (Croce & Hein 2021) a step moves the coordinates with the largest gradients, fewer as the
    best point gets sparser, the projection is on the ball and [0, 1] at once, and balls of 3 and 2
    times eps are searched first.

        zₖ₊₁ = Π(advₖ + αₖ · s(∇ L(advₖ, y)))
        advₖ₊₁ = Π(advₖ + 0.75 · (zₖ₊₁ - advₖ) + 0.25 · (advₖ - advₖ₋₁))

    >>> assay.attacks.APGD(eps=0.2, steps=20)(clf, x, y).success_rate.value
    1.0
    """

    name: Literal["apgd"] = "apgd"
    """The method's name in configs."""

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
        images = Images.of(x, y, rng)
        yield from self.climb(model, images, y, threat, loss, _judge(loss, targeted))
        yield Iterate(images.best, spent=0)


class APGDT(_AutoPGD):
    """Targeted APGD (Croce & Hein 2020): towards each of the best-ranked other classes in turn, by
    the targeted difference of logits ratio. An image that reaches any other class has left its own.

    The classes are ranked by the logits of the image itself. With a target of the user's, that one
    class is the only one it goes towards.

        L = (z_t - z_y) / (z_π₁ - (z_π₃ + z_π₄) / 2)

    with the logits z in order π₁, π₂, …, the label y and the class t.

    >>> attack = assay.attacks.APGDT(eps=0.3, steps=20, n_target_classes=2)
    >>> attack(clf, x, y).success_rate.value > 0.5
    True
    """

    name: Literal["apgdt"] = "apgdt"
    """The method's name in configs."""
    loss: Literal["dlr"] = "dlr"
    """What is made to rise, in its targeted form."""
    n_target_classes: PositiveInt = 9
    """How many classes to try; a model with fewer others has those tried."""

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
        images, judge = Images.of(x, y, rng), _judge(loss, targeted)
        if targeted:
            yield from self.climb(model, images, y, threat, loss, judge)
        else:
            logits = model.query(x)
            others = logits.scatter(1, y[:, None], -torch.inf).argsort(dim=1, descending=True)
            images.towards = others[:, : min(self.n_target_classes, logits.shape[1] - 1)]
            images.only((yield Iterate(x, logits, ahead=self.draws)))
            count = images.towards.shape[1]
            for k in range(count):
                pair = torch.stack([images.y, images.towards[:, k]], dim=1)
                ends = k + 1 == count
                yield from self.climb(model, images, pair, threat, dlr_targeted, judge, ends)
        yield Iterate(images.best, spent=0)


_Judge = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(logits (n, K), y (n,)) → bool (n,), whether they are what is wanted, and a score (n,)."""


def _judge(loss: Loss, targeted: bool) -> _Judge:
    return lambda logits, y: (wins(logits, y, targeted), loss(logits, y))


def _shares(steps: int) -> list[tuple[int, int]]:
    """Return, of the balls in WIDER, the multiple of eps and how many of `steps` it gets."""
    if steps < len(WIDER):
        return [(1, steps)]
    given = [(times, math.ceil(share * steps)) for times, share in WIDER[:-1]]
    return [*given, (WIDER[-1][0], steps - sum(count for _, count in given))]
