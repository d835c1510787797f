"""FGSM, PGD and MI-FGSM: steps uphill, projected on the ball."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor

from assay.attacks.methods.gradient import Iterative, ascent
from assay.config import Number, Repeats
from assay.core.random import Rows
from assay.core.threats import TINY, NormBall, per_row


class FGSM(Iterative):
    """The fast gradient sign method (Goodfellow et al. 2015): one step of length eps.

    Linf: the sign of the gradient. L2: the gradient over its length. L1: see `ascent`.

        adv = clip(x + eps · sign ∇ₓ L(x, y))

    >>> assay.attacks.FGSM(eps=0.2)(clf, x, y).success_rate.value > 0.5
    True
    """

    name: Literal["fgsm"] = "fgsm"
    """The method's name in configs."""

    def step(
        self, at: tuple[Tensor, ...], slope: Tensor, x: Tensor, threat: NormBall
    ) -> tuple[Tensor, ...]:
        del at  # the image itself
        return (threat.project(x, x + ascent(threat, x, slope, threat.eps)),)


class PGD(Iterative):
    """Projected gradient descent (Madry et al. 2018): small steps uphill, projected on the ball.

        advₖ₊₁ = Π(advₖ + α · s(∇ L(advₖ, y)))

    Π projects on the ball and [0, 1]; s is the steepest direction of the norm, in Linf the sign.
    Steps are 4 · eps / steps long where no length is given: those of Madry et al., 2.5 · eps /
    steps, are weaker on most networks that were measured (benchmarks/step_size.py).

    >>> result = assay.attacks.PGD(norm="linf", eps=0.2, steps=20)(clf, x, y, seed=0)
    >>> result.success_rate.value, result.robust_accuracy.value
    (1.0, 0.0)
    >>> bool((result.distance <= 0.2 + 1e-6).all())
    True
    """

    VERSION: ClassVar[int] = 2  # steps of 4 · eps / steps, no longer of 2.5
    name: Literal["pgd"] = "pgd"
    """The method's name in configs."""
    steps: PositiveInt = 20
    """How many steps, each one gradient."""
    step_size: Number | None = None
    """Length of a step, in pixel units; null takes 4 · eps / steps."""
    random_start: bool = True
    """Start at a random point of the ball, instead of at the image."""
    restarts: Repeats = 1
    """How many random starts; needs random_start, since otherwise all of them are the same."""

    @field_validator("step_size")
    @classmethod
    def _moves(cls, step_size: float | None) -> float | None:
        if step_size is not None and step_size <= 0:
            raise ValueError("a step has a positive length")
        return step_size

    def model_post_init(self, context: Any) -> None:
        super().model_post_init(context)
        self.check_step(self.step_size)
        if self.restarts > 1 and not self.random_start:
            raise ValueError("restarts need random_start: without it every start is the same")

    @property
    def starts(self) -> int:
        return self.restarts

    def length(self, eps: float) -> float:
        """Return how long a step is within a budget of `eps`, in pixel units."""
        return 4 * eps / self.steps if self.step_size is None else self.step_size

    def start(self, x: Tensor, threat: NormBall, rng: Rows) -> tuple[Tensor, ...]:
        return (threat.random_start(x, rng) if self.random_start else x,)

    def step(
        self, at: tuple[Tensor, ...], slope: Tensor, x: Tensor, threat: NormBall
    ) -> tuple[Tensor, ...]:
        (adv,) = at
        step = ascent(threat, adv, slope, self.length(threat.eps))
        return (threat.project(x, adv + step),)


class MIFGSM(Iterative):
    """The momentum iterative fast gradient sign method (Dong et al. 2018), from the image itself.

    Each gradient is divided by its L1 norm and added to `decay` times the sum so far; the step
    follows the sum. It is made to transfer to other models; where the model attacked is the one
    that is judged, `PGD` and `APGD` are stronger.

        gₖ₊₁ = μ · gₖ + ∇ L(advₖ, y) / ‖∇ L(advₖ, y)‖₁,   advₖ₊₁ = Π(advₖ + α · s(gₖ₊₁))

    >>> assay.attacks.MIFGSM(eps=0.2)(clf, x, y).success_rate.value
    1.0
    """

    name: Literal["mifgsm"] = "mifgsm"
    """The method's name in configs."""
    steps: PositiveInt = 10
    """How many steps, each one gradient."""
    step_size: Number | None = Field(default=None, gt=0)
    """Length of a step, in pixel units; null takes eps / steps, as Dong et al. 2018 do."""
    decay: Number = Field(default=1.0, ge=0)
    """What is kept of the sum of gradients at each step: 0 is no momentum, 1 keeps all."""

    def model_post_init(self, context: Any) -> None:
        super().model_post_init(context)
        self.check_step(self.step_size)

    def start(self, x: Tensor, threat: NormBall, rng: Rows) -> tuple[Tensor, ...]:
        del threat, rng
        return x, torch.zeros_like(x)

    def step(
        self, at: tuple[Tensor, ...], slope: Tensor, x: Tensor, threat: NormBall
    ) -> tuple[Tensor, ...]:
        adv, gathered = at
        size = threat.eps / self.steps if self.step_size is None else self.step_size
        length = slope.flatten(1).abs().sum(1).clamp_min(TINY)
        gathered = gathered * self.decay + slope / per_row(length, slope)
        return threat.project(x, adv + ascent(threat, adv, gathered, size)), gathered
