"""What the methods share that follow the gradient of a loss with respect to the image."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from assay.attacks.base import Attack, Iterate, Search, only
from assay.attacks.losses import LOSSES, LossName, towards
from assay.config import Number, check_pixels
from assay.core.images import rows_that_fit
from assay.core.memory import in_parts
from assay.core.oracle import Loss, gradient
from assay.core.random import Rows
from assay.core.threats import NormBall, per_row

AT_A_TIME = 128
"""Rows per gradient and thread on a CPU. Fewer take longer, with 2 MiB of cache."""


class GradientAttack(Attack):
    """What attacks by gradient share: a ball, and a loss that is followed uphill."""

    norm: Literal["linf", "l2", "l1"] = "linf"
    """The norm that the perturbation is measured in: linf, l2 or l1."""
    eps: Number = 8 / 255
    """Radius of the ball, in pixel units of [0, 1]."""
    loss: LossName = "cross_entropy"
    """What is made to rise: cross_entropy, margin (Carlini & Wagner 2017) or dlr, the difference
    of logits ratio (Croce & Hein 2020)."""
    eot: PositiveInt | None = None
    """Over how many draws of a randomised model each gradient is averaged (expectation over
    transformation, Athalye et al. 2018); null is one. Another model is only queried more often."""

    @property
    def threat(self) -> NormBall:
        return NormBall.parse({"norm": self.norm, "eps": self.eps}, where=self.name)

    @property
    def draws(self) -> int:
        """What one gradient costs: how many passes it is averaged over."""
        return self.eot or 1

    @property
    def opening(self) -> int:
        return self.draws

    def objective(self, targeted: bool) -> Loss:
        return towards(LOSSES[self.loss]) if targeted else LOSSES[self.loss]

    def check_step(self, step_size: float | None) -> None:
        """Refuse a step that is longer than [0, 1] is wide.

        Raises:
            ValueError: proposes grey levels.
        """
        if self.norm == "linf" and step_size is not None:
            check_pixels(step_size, name="step_size")


class Iterative(GradientAttack):
    """A method that takes one gradient per step, and moves every image by it.

    To add one, write `step`, and `start` unless it begins at the image itself. What is in play,
    counting, query budgets and early stops need no thought here; a method that queries the model
    otherwise than by one gradient per step writes `search` itself.

    >>> from typing import Literal
    >>> from assay.attacks import Iterative
    >>> class Signs(Iterative):
    ...     name: Literal["signs"] = "signs"
    ...     steps: int = 10
    ...
    ...     def step(self, at, slope, x, threat):
    ...         return (threat.project(x, at[0] + threat.eps / 5 * slope.sign()),)
    >>> Signs(eps=0.2)(clf, x, y).success_rate.value
    1.0
    """

    @property
    def iterations(self) -> int:
        """How many steps to take: the field `steps`, where the method has one."""
        return getattr(self, "steps", 1)

    def start(self, x: Tensor, threat: NormBall, rng: Rows) -> tuple[Tensor, ...]:
        """Return where a search begins: the first candidates (n, C, H, W) inside the threat, and
        behind them whatever else the method keeps per image, a tensor (n, ...) each."""
        del threat, rng
        return (x,)

    def step(
        self, at: tuple[Tensor, ...], slope: Tensor, x: Tensor, threat: NormBall
    ) -> tuple[Tensor, ...]:
        """Return the next candidates, and behind them what is kept: the same tensors as `at`.

        Args:
            at: what `start`, or the step before, returned; the rows of images that left are gone.
            slope: (n, C, H, W), the gradient of the loss at the candidates, finite.
            x: (n, C, H, W), the images themselves.
            threat: what the next candidates must stay inside: see `NormBall.project`.
        """
        raise NotImplementedError

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
        del targeted  # the loss says it
        at = self.start(x, threat, rng)
        for left in reversed(range(self.iterations)):
            logits, slope = uphill(model, at[0], y, loss, self.draws)
            keep = yield Iterate(at[0], logits, spent=self.draws, ahead=self.draws if left else 0)
            x, y, slope, *held = only(keep, x, y, slope, *at)
            at = self.step(tuple(held), slope, x, threat)
        yield Iterate(at[0], spent=0)


def uphill(model: Any, x: Tensor, y: Tensor, loss: Loss, draws: int = 1) -> tuple[Tensor, Tensor]:
    """Return (logits (n, K), d loss / d x), both the mean of `draws` passes, each of which costs
    one evaluation; on a CPU a few rows at a time, to stay in its cache.

    The slopes are `finite`.
    """
    logits, slope = _climb(model, x, y, loss)
    for _ in range(draws - 1):
        again, steeper = _climb(model, x, y, loss)
        logits, slope = logits + again, slope + steeper
    return (logits, slope) if draws == 1 else (logits / draws, slope / draws)


def _climb(model: Any, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    rows = min(AT_A_TIME * torch.get_num_threads(), rows_that_fit(x))
    if x.device.type != "cpu":
        rows = len(x)

    def climb(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        tally = getattr(model, "tally", None)
        slope_of = partial(gradient, model, loss=loss)
        return in_parts(slope_of, max(1, len(x)), x, y, tally=tally, kind="gradient")

    parts = max(1, math.ceil(len(x) / max(1, rows)))
    pairs = zip(torch.tensor_split(x, parts), torch.tensor_split(y, parts), strict=True)
    logits, slopes = zip(*(climb(a, b) for a, b in pairs), strict=True)
    return torch.cat(logits), finite(slopes[0] if parts == 1 else torch.cat(slopes))


def finite(slope: Tensor) -> Tensor:
    """Return the gradient (n, ...) with 0 where it is NaN, and where it is infinite the size of the
    greatest finite value of its row: a pixel without a gradient must not keep the others from
    moving."""
    if bool(slope.sum().isfinite()):
        return slope
    known = slope.masked_fill(~slope.isfinite(), 0.0)
    most = per_row(known.flatten(1).abs().amax(1), slope)
    return torch.where(slope.isinf(), slope.sign() * most, known)


def ascent(threat: NormBall, x: Tensor, slope: Tensor, length: float) -> Tensor:
    """Return the step of `length` in the threat's norm along which the loss rises most from `x`.

    In L1 the steepest direction is a single coordinate, which soon meets the end of [0, 1]. What
    is left of the step then goes to the coordinate with the next largest gradient, and so on: the
    exact maximum of a linear loss over the L1 ball and the box (cf. Croce & Hein 2021, "Mind the
    box: l1-APGD").
    """
    if threat.norm != "l1":
        return threat.steepest(slope).mul_(length)
    flat = slope.flatten(1)
    room = torch.where(flat > 0, 1 - x.flatten(1), x.flatten(1)).masked_fill_(flat == 0, 0.0)
    order = flat.abs().argsort(dim=1, descending=True)
    room = room.gather(1, order)
    taken = (length - (room.cumsum(1) - room)).clamp_min_(0).minimum(room)
    moved = torch.zeros_like(flat).scatter_(1, order, taken).mul_(flat.sign())
    return moved.view(slope.shape)
