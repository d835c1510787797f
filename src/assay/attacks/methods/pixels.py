"""Attacks that change few pixels: led by the gradient, or by differential evolution without one."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from assay.attacks.base import Attack, Iterate, Search, only, wins
from assay.attacks.losses import LOSSES, LossName, towards
from assay.attacks.methods.gradient import uphill
from assay.config import Number
from assay.core.images import rows_that_fit
from assay.core.oracle import Access, Loss
from assay.core.random import Rows
from assay.core.threats import TINY, NormBall, per_row

AT_A_TIME = 128
"""Candidates that are made and evaluated at a time, per thread of a CPU: they stay in its cache,
and of 8 to 256 of them the networks of benchmarks/nets.py answer 128 quickest per row."""
WON = 1e3
"""More than any loss of a sane model: a candidate that fools the model comes before all others."""
FAR = 1e3
"""A step that leads any value that has a gradient out of [0, 1]."""


class PixelAttack(Attack):
    """What FewPixel and OnePixel share: the threat is a number of pixels."""

    norm: Literal["l0"] = "l0"
    """The norm that the perturbation is measured in: l0 counts pixels, whatever channels change."""
    eps: Number = 1
    """How many pixels may be changed."""

    @property
    def threat(self) -> NormBall:
        return NormBall.parse({"norm": self.norm, "eps": self.eps}, where=self.name)


class FewPixel(PixelAttack):
    """The pixels that matter most by the gradient, all channels of them moved uphill.

    One step takes the `eps` pixels whose move, as far as it may go, makes the linearised loss rise
    most (`steps=1, size=0.031` is the course's way). More steps choose anew each time: projected
    gradient descent on the l0 ball, PGD0 of Croce & Hein 2019 ("Sparse and imperceivable
    adversarial attacks"), with its step and its projection, but from the image itself rather than
    from noise, which served better at 20 steps; and the best step is returned (one that fools the
    model before one that does not, then the higher loss), not the last.

    With `size` the threat is narrower than the l0 ball, which is all that the runner checks: every
    candidate is clipped here, so that no value leaves [x - size, x + size].

    >>> result = assay.attacks.FewPixel(eps=20)(clf, x, y)
    >>> result.success_rate.value > 0.5, bool((result.distance <= 20).all())
    (True, True)
    """

    VERSION: ClassVar[int] = 3  # what a pixel gains is no small difference of large numbers

    name: Literal["few-pixel"] = "few-pixel"
    """The method's name in configs."""
    eps: Number = 20
    """How many pixels may be changed."""
    size: Number | None = Field(default=None, gt=0, le=1)
    """How far a value may move, in pixel units of [0, 1]; null: anywhere in [0, 1]."""
    steps: PositiveInt = 20
    """How many steps, each one gradient."""
    step_size: Number | None = Field(default=None, gt=0)
    """How far a step moves the values of an image before the projection, on average over all of
    them, in pixel units; null takes 0.04 (the paper's, for CIFAR-10), or if there is one step
    alone, all the way."""
    loss: LossName = "cross_entropy"
    """What is made to rise: cross_entropy, margin (Carlini & Wagner 2017) or dlr, the difference
    of logits ratio (Croce & Hein 2020)."""

    def objective(self, targeted: bool) -> Loss:
        return towards(LOSSES[self.loss]) if targeted else LOSSES[self.loss]

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
        reach = 1.0 if self.size is None else self.size
        length = self.step_size or (0.04 if self.steps > 1 else FAR)
        adv = best = left = x
        most = x.new_full((len(x),), -math.inf)
        for number in range(self.steps):
            logits, slope = uphill(model, adv, y, loss)
            if number:  # the image itself is no candidate
                rise = worth(logits, y, loss, targeted)
                best, most = better(rise, adv, best, most)
                # What remains of a search that is cut short, if it has not been judged before.
                news = (rise == most) | wins(logits, y, targeted)
                left = torch.where(per_row(news, adv), adv, best)
                logits = logits.masked_fill(~news[:, None], math.nan)
            keep = yield Iterate(left, logits, ahead=int(self.steps > 1))
            x, y, adv, best, most, slope = only(keep, x, y, adv, best, most, slope)
            size = slope.abs().flatten(1).mean(1).clamp_min(TINY)
            adv = nearest(x, adv + slope * per_row(length / size, slope), int(threat.eps), reach)
        if self.steps == 1:
            yield Iterate(adv, spent=0)
            return
        logits = model.query(adv)
        yield Iterate(better(worth(logits, y, loss, targeted), adv, best, most)[0], spent=1)


class OnePixel(PixelAttack):
    """The one-pixel attack (Su et al. 2019, "One pixel attack for fooling deep neural networks"):
    differential evolution of `eps` pixels, each a place and a colour, by the scores alone.

    As in the paper: places uniform; colours from a Gaussian of mean 128 and deviation 127 grey
    levels; every father meets one child, a + F (b - c) of three different others, without
    crossover, and the better of the two stays; the fitness is the probability of the true class
    (falling) or of the target (rising). What it leaves open: colours are clipped to [0, 1], places
    leave the image on one side and come in on the other, and a candidate that fools the model
    comes before any that does not. Where this departs: a is the best so far, unless `base` is
    "random"; and images stop as in every attack, not below 5 % for the true class or above 90 %
    for the target.

    The paper takes a population of 400 and 100 generations: 40,400 queries per image.

        v = a + F · (b - c),   with a, b, c of the population at random

    >>> result = assay.attacks.OnePixel(population=20, steps=5)(clf, x, y)
    >>> bool((result.distance <= 1).all())
    True
    """

    needs: ClassVar[Access] = "scores"

    name: Literal["one-pixel"] = "one-pixel"
    """The method's name in configs."""
    eps: Number = Field(default=1, ge=1)
    """How many pixels may be changed: 1, 3 and 5 in the paper."""
    population: int = Field(default=100, ge=4)
    """Candidates per image."""
    steps: PositiveInt = 20
    """Generations after the first population; each evaluates `population` children per image."""
    weight: Number = Field(default=0.5, gt=0, le=2)
    """F, what the difference of two candidates is multiplied by."""
    base: Literal["best", "random"] = "best"
    """What the difference is added to: the best so far (DE/best/1), which leads further in few
    generations, or any other candidate (DE/rand/1), as in the paper."""

    @property
    def opening(self) -> int:
        return self.population

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
        ends = torch.tensor([*x.shape[2:], *[1.0] * x.shape[1]], device=x.device)
        pool = tried = first(rng, self.population, int(threat.eps), ends)
        merit = x.new_full((len(x), self.population), -math.inf)
        most = x.new_full((len(x),), -math.inf)
        for generation in range(self.steps + 1):
            if generation:
                tried = self._children(pool, merit, ends, rng)
            answer = evaluate(model, x, tried)
            rise = worth(answer, y.repeat_interleave(self.population), loss, targeted)
            rise = rise.view_as(merit)
            risen = rise > merit
            pool = torch.where(risen[..., None, None], tried, pool) if generation else tried
            merit = torch.where(risen, rise, merit)
            # The best is a child that was just evaluated, or it has been judged before.
            top, best = merit.max(1)
            at = torch.arange(len(x), device=x.device)
            said = answer.view(*merit.shape, -1)[at, best]
            said = said.masked_fill((top <= most)[:, None], torch.nan)
            most = top
            ahead = self.population if generation < self.steps else 0
            keep = yield Iterate(painted(x, pool[at, best]), said, self.population, ahead)
            x, y, rng, pool, merit, most = only(keep, x, y, rng, pool, merit, most)

    def _children(self, pool: Tensor, merit: Tensor, ends: Tensor, rng: Rows) -> Tensor:
        """Return one child per father, (n, population, pixels, 2 + C)."""
        at = torch.arange(len(pool), device=pool.device)[:, None]
        one, two, three = others(rng, self.population)
        base = pool[at, one] if self.base == "random" else pool[at, merit.argmax(1)[:, None]]
        made = base + self.weight * (pool[at, two] - pool[at, three])
        return torch.cat([made[..., :2].remainder(ends[:2]), made[..., 2:].clamp(0, 1)], dim=-1)


def better(rise: Tensor, adv: Tensor, best: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
    """Return the better of `adv` and `best` by row, and what it is worth."""
    up = rise > most
    return torch.where(per_row(up, adv), adv, best), torch.where(up, rise, most)


def nearest(x: Tensor, far: Tensor, count: int, reach: float) -> Tensor:
    """Return the nearest points to `far` (n, C, H, W) that differ from `x` in `count` pixels at
    most, by `reach` at most, and lie in [0, 1] (Croce & Hein 2019, proposition 2.1)."""
    low, high = (x - reach).clamp_(min=0), (x + reach).clamp_(max=1)
    near = torch.minimum(torch.maximum(far, low), high)
    gain = ((near - x) * (2 * far - x - near)).sum(1).flatten(1)  # |far - x|² - |far - near|²
    chosen = torch.zeros_like(gain, dtype=torch.bool)
    chosen.scatter_(1, gain.topk(min(count, gain.shape[1]), dim=1).indices, True)
    return torch.where(chosen.view(len(x), 1, *x.shape[2:]), near, x)


def first(rng: Rows, population: int, pixels: int, ends: Tensor) -> Tensor:
    """Draw the first population (n, population, pixels, 2 + C): row, column, and a colour in
    [0, 1] each; `ends` (2 + C,) is where each of them ends."""
    places = rng.uniform((population, pixels, 2)) * ends[:2]
    colours = (128 + 127 * rng.normal((population, pixels, len(ends) - 2))) / 255
    return torch.cat([places, colours.clamp_(0, 1)], dim=-1)


def others(rng: Rows, count: int) -> list[Tensor]:
    """Draw for each of `count` candidates three others, all different: three int64 (n, count)."""
    own = torch.arange(count, device=rng.ids.device)
    taken = own.expand(len(rng), count)[..., None]
    for drawn in (1, 2, 3):
        pick = rng.integers(count - drawn, (count,))  # of those not taken yet, in their order
        for number in taken.sort(dim=-1).values.unbind(-1):
            pick = pick + (pick >= number)
        taken = torch.cat([taken, pick[..., None]], dim=-1)
    return list(taken.unbind(-1)[1:])


def worth(answer: Tensor, y: Tensor, loss: Loss, targeted: bool) -> Tensor:
    """Return what candidates are compared by (n,): the loss, and before it, who fools the model.

    A row without an answer is worth -inf.
    """
    rise = loss(answer, y).nan_to_num(nan=-math.inf, posinf=WON / 2)
    return rise + WON * wins(answer, y, targeted)


def rows_at_a_time(x: Tensor) -> int:
    """Return how many candidates to make and evaluate at a time."""
    fit = rows_that_fit(x)
    return min(fit, AT_A_TIME * torch.get_num_threads()) if x.device.type == "cpu" else fit


def evaluate(model: Any, x: Tensor, pool: Tensor) -> Tensor:
    """Return what the model says about each image (n, C, H, W) under each of its candidates
    (n, population, pixels, 2 + C): (n * population, K). Few of them are ever held as images."""
    rows = rows_at_a_time(x)
    owners = torch.arange(len(x), device=x.device).repeat_interleave(pool.shape[1])
    parts = zip(torch.split(owners, rows), torch.split(pool.flatten(0, 1), rows), strict=True)
    return torch.cat([model.query(paint(x[owner], part)) for owner, part in parts])


def painted(x: Tensor, pixels: Tensor) -> Tensor:
    """Return images (n, C, H, W), each with its own `pixels` (n, pixels, 2 + C) painted on it."""
    return paint(x.clone(), pixels)


def paint(x: Tensor, pixels: Tensor) -> Tensor:
    """Do the same to `x` itself, and return it."""
    at = torch.arange(len(x), device=x.device)
    height, width = x.shape[2:]
    for pixel in pixels.unbind(1):  # one after the other: two may be at the same place
        row = pixel[:, 0].long().clamp_(0, height - 1)  # rounding may give the height itself
        column = pixel[:, 1].long().clamp_(0, width - 1)
        x[at, :, row, column] = pixel[:, 2:]
    return x
