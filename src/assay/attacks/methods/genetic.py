"""GenAttack: a genetic algorithm that needs no more than the model's scores."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from assay.attacks.base import Attack, Iterate, Search, only, wins
from assay.attacks.losses import towards
from assay.attacks.methods.pixels import WON, rows_at_a_time
from assay.config import Number
from assay.core.oracle import Access, Loss, labels
from assay.core.random import Rows
from assay.core.threats import TINY, NormBall, wide

PATIENCE = 100
"""Generations without a fitter elite that make a plateau, as in the paper."""
FADING = 0.9
"""What each plateau multiplies the mutation's rate and range by, as in the paper."""
HOPELESS = -1e30
"""The fitness of a candidate that the model did not answer."""


class Genetic(Attack):
    """GenAttack (Alzantot et al. 2019, "GenAttack: practical black-box attacks with gradient-free
    optimization"): a population of candidates in the linf ball, bred for fitness.

    The fitness of a candidate is log p(target) minus the log of the sum of all others'
    probabilities; untargeted, which the paper leaves out, it is the negative of this for the true
    class. Each generation keeps the fittest (a candidate that fools the model before any other)
    and breeds the rest: two parents drawn by the softmax of fitness, each value taken from the
    first with the probability p₁ / (p₁ + p₂) of the two, and then, with probability ρ, moved
    uniformly by up to α · eps. Whenever the fittest has not improved for 100 generations, ρ and α
    fall by a tenth, down to their floors. The first population is uniform in the ball. As in the
    authors' code, the fittest is not evaluated again.

    Where it departs from the paper: the softmax is of fitness in units of its spread over the
    population, so that selection does not depend on the scale of the logits (with differences as
    small as an untargeted attack meets, the authors' temperature of 0.3 selects hardly at all);
    and α begins with 2, by which a value crosses the ball, not with 1 (CIFAR-10) or 0.4
    (ImageNet). The up-scaling of small perturbations is not here.

        fitness = log Σ p_i over i ≠ y - log p_y

    >>> assay.attacks.Genetic(eps=0.2, steps=100)(clf, x, y, stop="fooled").success_rate.value > 0.5
    True
    """

    VERSION: ClassVar[int] = 2  # which values mutate is drawn as gaps between them
    needs: ClassVar[Access] = "scores"

    name: Literal["genetic"] = "genetic"
    """The method's name in configs."""
    norm: Literal["linf"] = "linf"
    """The norm that the perturbation is measured in."""
    eps: Number = 8 / 255
    """Radius of the ball, in pixel units of [0, 1]."""
    population: int = Field(default=6, ge=2)
    """Candidates per image."""
    steps: PositiveInt = 500
    """Generations after the first population, each of population - 1 queries per image."""
    temperature: Number = Field(default=0.3, gt=0)
    """Of the softmax that parents are drawn by, in standard deviations of the population's fitness:
    the lower, the more they are the fittest."""
    mutation_rate: Number = Field(default=0.05, gt=0, le=1)
    """ρ before the first plateau: the share of a child's values that mutate."""
    mutation_range: Number = Field(default=2.0, gt=0, le=2)
    """α before the first plateau: how far a value mutates at most, in units of eps."""
    least_rate: Number = Field(default=0.01, ge=0, le=1)
    """What plateaus do not bring ρ below."""
    least_range: Number = Field(default=0.15, ge=0, le=2)
    """What plateaus do not bring α below."""

    @property
    def threat(self) -> NormBall:
        return NormBall.parse({"norm": self.norm, "eps": self.eps}, where=self.name)

    @property
    def breadth(self) -> int:
        return self.population

    @property
    def opening(self) -> int:
        return self.population

    def objective(self, targeted: bool) -> Loss:
        return towards(odds) if targeted else odds

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
        values = values_of(x)
        noise = rng.coarse((self.population, values.shape[1]))
        pool = noise.mul_(2 * threat.eps).sub_(threat.eps).add_(values[:, None]).clamp_(0, 1)
        few = max(1, rows_at_a_time(x) // self.population)
        answers = (model.query(images_of(part, x)) for part in torch.split(pool, few))
        said = torch.cat(list(answers)).view(len(x), self.population, -1)
        fitness, merit = judged(said, y, loss, targeted)
        record = x.new_full((len(x),), -math.inf)
        idle = torch.zeros_like(y)  # generations since the fittest has improved
        plateaus = torch.zeros_like(record)
        spent = self.population
        for generation in range(self.steps + 1):
            top, best = merit.max(1)
            risen = top > record
            record = torch.maximum(top, record)
            idle = torch.where(risen, 0, idle + 1)
            plateaus = plateaus + (idle == PATIENCE)
            idle = idle % PATIENCE
            at = torch.arange(len(x), device=x.device)
            # An elite of the last generation has been judged; nothing new is said about it.
            told = said[at, best].masked_fill(~risen[:, None], torch.nan)
            ahead = self.population - 1 if generation < self.steps else 0
            keep = yield Iterate(images_of(pool[at, best], x), told, spent, ahead)
            if generation == self.steps:
                return
            x, y, rng, pool, fitness, merit, said, best, record, idle, plateaus = only(
                keep, x, y, rng, pool, fitness, merit, said, best, record, idle, plateaus
            )
            spent = self.population - 1
            born = self._next(model, x, pool, fitness, best, plateaus, threat.eps, rng)
            at = torch.arange(len(x), device=x.device)
            said = torch.cat([said[at, best][:, None], born], dim=1)
            fitness, merit = judged(said, y, loss, targeted)

    def _next(
        self,
        model: Any,
        x: Tensor,
        pool: Tensor,
        fitness: Tensor,
        best: Tensor,
        plateaus: Tensor,
        eps: float,
        rng: Rows,
    ) -> Tensor:
        """Make the pool (n, population, values) the next population, the elite first, and return
        what the model says about the others: (n, population - 1, K)."""
        faded = FADING**plateaus
        rate = (self.mutation_rate * faded).clamp_min(self.least_rate)
        most = eps * (self.mutation_range * faded).clamp_min(self.least_range)
        top = max(self.mutation_rate, self.least_rate)
        parents, share = parents_of(fitness, self.temperature, rng)
        draws = rng.repeat(1)
        answers = []
        few = max(1, rows_at_a_time(x) // (self.population - 1))
        for start in range(0, len(x), few):
            part = slice(start, start + few)
            rows = torch.arange(start, min(start + few, len(x)), device=x.device)
            mates = parents[part], share[part]
            children = bred(pool[part], *mates, rate[part], most[part], draws[rows], top)
            values = values_of(x[part])[:, None]
            low, high = (values - eps).clamp_(min=0), (values + eps).clamp_(max=1)
            torch.clamp(children, low, high, out=children)
            answers.append(model.query(images_of(children, x)))
            pool[part, 0] = pool[rows, best[part]]
            pool[part, 1:] = children
        return torch.cat(answers).view(len(x), self.population - 1, -1)


def odds(logits: Tensor, y: Tensor) -> Tensor:
    """Return the log of the probability of all other classes over that of `y`, per row."""
    own = logits.gather(1, y[:, None])
    others = logits.scatter(1, y[:, None], -math.inf).logsumexp(1)
    return others - own[:, 0]


def judged(said: Tensor, y: Tensor, loss: Loss, targeted: bool) -> tuple[Tensor, Tensor]:
    """Return (fitness, the same with all that fool the model first), both (n, population), of
    candidates about which the model has `said` (n, population, K)."""
    answer, goal = said.flatten(0, 1), y.repeat_interleave(said.shape[1])
    fitness = loss(answer, goal).nan_to_num(nan=HOPELESS, posinf=WON / 2, neginf=HOPELESS)
    fitness = fitness.masked_fill(labels(answer) < 0, HOPELESS)
    merit = fitness + WON * wins(answer, goal, targeted)
    return fitness.view(said.shape[:2]), merit.view(said.shape[:2])


def parents_of(fitness: Tensor, temperature: float, rng: Rows) -> tuple[Tensor, Tensor]:
    """Draw two parents for each place but the elite's by the softmax of fitness (n, population):
    int64 (n, 2, population - 1); and the share of the first in their child (n, population - 1)."""
    size = fitness.shape[1]
    spread = fitness.std(1, keepdim=True).clamp_min(TINY)
    fitness = (fitness - fitness.amax(1, keepdim=True)) / (temperature * spread)
    ends = fitness.softmax(1).cumsum(1)
    parents = (rng.uniform((2, size - 1))[..., None] > ends[:, None, None]).sum(-1)
    parents = parents.clamp_(max=size - 1)  # rounding may end the sum below 1
    one, two = fitness.gather(1, parents.flatten(1)).view_as(parents).unbind(1)
    return parents, (one - two).sigmoid()  # p₁ / (p₁ + p₂)


def bred(
    pool: Tensor, parents: Tensor, share: Tensor, rate: Tensor, most: Tensor, rng: Rows, top: float
) -> Tensor:
    """Return the children of a pool (n, population, values), mutated but not yet clipped:
    (n, population - 1, values).

    One draw says which parent a value is from. A value mutates with the probability `rate` (n,),
    by up to `most` (n,): which ones do is drawn as gaps between them, since few do. No rate of the
    attack is above `top`.
    """
    n, size, count = pool.shape
    places = torch.arange(n, device=pool.device)[:, None, None] * size + parents
    mother, father = (
        pool.flatten(0, 1).index_select(0, side.flatten()).view(n, -1, count)
        for side in places.unbind(1)
    )
    # By arithmetic: torch.where and masked_fill_ take many times as long.
    ours = rng.chance(share, count)
    children = father.lerp_(mother, ours)  # exact at 0 and 1
    places, known = successes(rate, parents.shape[2], count, rng, top)
    shift = rng.uniform(places.shape[1:], -1, 1).mul_(most.view(-1, 1, 1)).mul_(known)
    return children.scatter_add_(2, places, shift)


def successes(rate: Tensor, rows: int, count: int, rng: Rows, top: float) -> tuple[Tensor, Tensor]:
    """Draw which of `count` trials succeed, each with the probability `rate` (n,), for `rows` rows
    per generator: their places, int64 (n, rows, most), and which of those are any, bool.

    The gaps between successes are geometric. `most` of them are drawn, seven standard deviations
    more than succeed on average at the rate `top`: whatever the rates of a batch are, a row draws
    as it would alone.
    """
    most = min(count, math.ceil(count * top + 7 * math.sqrt(count * top * (1 - top))) + 7)
    odd = torch.log1p(-wide(rate)).view(-1, 1, 1)
    gaps = torch.log1p(-wide(rng.uniform((rows, most)))).div_(odd).floor_().add_(1)
    places = gaps.cumsum_(2).sub_(1)
    known = (places < count).to(rate.device)
    return places.clamp_(max=count - 1).long().to(rate.device), known


def values_of(x: Tensor) -> Tensor:
    """Return the values of images (n, C, H, W), channels last: (n, H · W · C)."""
    return x.permute(0, 2, 3, 1).flatten(1)


def images_of(values: Tensor, x: Tensor) -> Tensor:
    """Return values (..., H · W · C) as images of the shape and the layout of those in `x`:
    (n, C, H, W)."""
    _, channels, height, width = x.shape
    images = values.view(-1, height, width, channels).permute(0, 3, 1, 2)
    return images.contiguous() if x.is_contiguous() else images
