"""The trial of the course's attacks as its notebooks ran them, or with one of their faults mended.

They are no attacks of `assay.attacks`: they work in the units of the normalised image, and what
they return need not be an image. So they stand here, for a study to show what that changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from assay.attacks.losses import cross_entropy
from assay.attacks.methods.genetic import odds
from assay.config import Config, Number
from assay.core.classifier import Classifier
from assay.core.oracle import labels
from assay.core.random import Rows, Stream
from assay.core.threats import per_row
from assay.errors import AssayError
from assay.runs.trial import Outcome, Trial
from assay.runs.worker import Workspace
from assay.tasks.attack import on_network, subject
from assay.train.precision import computing

TASK = "course-attack"

Method = Literal["fgsm", "pgd", "few-pixel", "genetic"]
AT_A_TIME = 256
"""Images evaluated at a time."""


class CourseAttack(Config):
    """One of the course's attacks on a trained network; the defaults are the course's."""

    VERSION = 1

    method: Method = "fgsm"
    """FGSM towards a class; PGD; the pixels of steepest gradient moved; a genetic algorithm."""
    eps: Number = 0.031
    """How far a value moves at most (fgsm, pgd, few-pixel), in normalised units: pixel units over
    the standard deviation of the channel."""
    target: int | None = Field(default=6, ge=0)
    """The class that FGSM leads to; none: away from the true class."""
    step: Number = 0.062
    """Length of a step of PGD, in normalised units."""
    steps: PositiveInt = 10
    """Steps of PGD, from the image itself."""
    pixels: PositiveInt = 20
    """How many pixels few-pixel moves, all channels of each."""
    population: int = Field(default=10, ge=4)
    """Candidates of the genetic algorithm."""
    generations: PositiveInt = 50
    """Its generations after the first population."""
    mutation: Number = Field(default=0.1, gt=0, le=1)
    """The share of a child's values that mutate."""
    spread: Number = Field(default=0.1, gt=0)
    """Standard deviation of a mutation, and of the first population, in normalised units."""
    fitness: Literal["fooled", "odds"] = "fooled"
    """What candidates are bred for: 1 where the network is fooled and else 0; or the odds of all
    other classes against the true one."""
    clipped: bool = False
    """Whether what is made stays an image, in [0, 1]."""
    images: int = Field(default=200, ge=1)
    """How many of the network's test images: a stable random subset."""
    images_by_seed: bool | None = None
    """Each seed draws its own, so that seeds are a sample of images too; none: the same for all."""

    def trials(self, needs: Iterable[Trial], label: str) -> list[Trial]:
        """Return the trials of this attack on the networks that `needs` train, each with the
        network's seed, device and threads."""
        known = {"CourseAttack": self.VERSION}
        return [on_network(TASK, self, (need,), known, label) for need in needs]


def course_attack(trial: Trial, work: Workspace) -> Outcome:
    """Run one of the course's attacks on the network that the trial needs.

    Metrics: of the correctly classified images (how many: `n_success`) `success_share`, those
    whose predicted class has changed; `image_share`, those that still are once they are clipped to
    [0, 1] and rounded to 8 bits; `outside_share`, those that hold values outside [0, 1]; the median
    distance in L∞, pixel units of [0, 1] (None: none is fooled); whether the network had collapsed.
    Arrays: of every image success, success as an image, correct and its id in the whole test set.

    Raises:
        AssayError: for data that has changed since the network was planned, or a target that is
            none of its classes.
    """
    config = CourseAttack.parse(trial.config, where="trial")
    classifier, part = subject(trial, work, config.images, config.images_by_seed)
    ids, x, y = next(part.batches(len(part)))
    x, y = x.to(trial.device), y.to(trial.device)
    draws = Stream(trial.seed).child("course", config.method).rows(ids).to(trial.device)
    with computing(trial.threads), classifier.borrowed():
        work.progress(0.0, f"the course's {config.method} on {len(x)} images")
        before = answers(classifier, x)
        if config.method == "fgsm" and config.target is not None:
            _check_target(config.target, before.shape[1])
        correct = labels(before) == y
        made = torch.cat(
            [
                attacked(config, classifier, x[rows], y[rows], draws[rows])
                for rows in torch.split(torch.arange(len(x), device=x.device), AT_A_TIME)
            ]
        )
        fooled = correct & (labels(answers(classifier, made)) != y)
        stored = (made.clamp(0, 1) * 255).round().div_(255)
        as_image = correct & (labels(answers(classifier, stored)) != y)
    outside = ((made < -1e-6) | (made > 1 + 1e-6)).flatten(1).any(1)
    distance = (made - x).abs().flatten(1).amax(1)
    counted = int(correct.sum())
    there = max(1, counted)
    metrics: dict[str, Any] = {
        "success_share": int(fooled.sum()) / there,
        "image_share": int(as_image.sum()) / there,
        "outside_share": int((outside & correct).sum()) / there,
        "n_success": counted,
        "n_image": counted,
        "n_outside": counted,
        "median_distance": float(distance[fooled].median()) if bool(fooled.any()) else None,
        "collapsed": work.needs[0].metrics["collapsed"],
    }
    arrays = {
        "success": fooled.cpu().numpy(),
        "as_image": as_image.cpu().numpy(),
        "correct": correct.cpu().numpy(),
        "image_ids": ids.numpy(),
    }
    return Outcome(metrics, arrays)


def _check_target(target: int, classes: int) -> None:
    if target >= classes:
        raise AssayError(
            f"FGSM leads to class {target}, but the network has {classes} classes, 0 to "
            f"{classes - 1}: give a target that is one of them"
        )


def attacked(config: CourseAttack, clf: Classifier, x: Tensor, y: Tensor, rng: Rows) -> Tensor:
    """Return what the attack makes of images (n, C, H, W) in [0, 1], in pixel units; outside [0, 1]
    too, unless it clips.

    A move by ε in normalised units is one by ε · std in pixel units, and neither the sign of a
    gradient nor the projection depends on which are used.
    """
    std = x.new_ones(1) if clf.std is None else clf.std.to(x.device)
    unit = std.view(1, -1, 1, 1)
    ends = (0.0, 1.0) if config.clipped else (-math.inf, math.inf)
    if config.method == "genetic":
        return bred(config, clf, x, y, rng, unit, ends)
    reach = config.eps * unit
    if config.method == "fgsm":
        aim = y if config.target is None else torch.full_like(y, config.target)
        uphill = 1 if config.target is None else -1
        return (x + uphill * reach * gradient(clf, x, aim).sign()).clamp(*ends)
    if config.method == "few-pixel":
        slope = gradient(clf, x, y)
        steep = slope.mul(unit).abs().sum(1).flatten(1)  # by the normalised image
        steepest = steep.topk(min(config.pixels, steep.shape[1])).indices
        moved = torch.zeros_like(steep).scatter_(1, steepest, 1.0).view(-1, 1, *x.shape[2:])
        return (x + reach * slope.sign() * moved).clamp(*ends)
    made = x
    for _ in range(config.steps):
        stepped = made + config.step * unit * gradient(clf, made, y).sign()
        made = torch.clamp(stepped, x - reach, x + reach).clamp(*ends)
    return made


def bred(
    config: CourseAttack,
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    rng: Rows,
    unit: Tensor,
    ends: tuple[float, float],
) -> Tensor:
    """Return what the course's genetic algorithm makes of images: the first candidate that fools,
    or else the fittest of the last generation.

    The course leaves open how parents are chosen: here two of the fitter half, among equals at
    random; each value is from either with probability 1/2. The fittest stays as it is. Nothing
    bounds the perturbation.
    """
    size, shape = config.population, x.shape[1:]
    near = (config.population, *shape)
    unit = unit[:, None]
    pool = (x[:, None] + config.spread * unit * rng.normal(near)).clamp(*ends)
    found, done = x.clone(), torch.zeros_like(y, dtype=torch.bool)
    for generation in range(config.generations + 1):
        said = answers(clf, pool.flatten(0, 1))
        fools = (labels(said).view(len(x), size) != y[:, None]).float()
        goal = y.repeat_interleave(size)
        fitness = fools if config.fitness == "fooled" else odds(said, goal).view(len(x), size)
        order = (fools * 1e6 + fitness + 1e-6 * rng.uniform((size,))).argsort(1, descending=True)
        rows = torch.arange(len(x), device=x.device)
        found = torch.where(per_row(done, x), found, pool[rows, order[:, 0]])
        done = done | fools.bool().any(1)
        if bool(done.all()) or generation == config.generations:
            return found
        parents = order[:, : size // 2].gather(1, rng.integers(size // 2, (2 * (size - 1),)))
        one, two = torch.split(pool[rows[:, None], parents], size - 1, dim=1)
        children = torch.where(rng.uniform((size - 1, *shape)) < 0.5, one, two)
        mutates = rng.uniform((size - 1, *shape)) < config.mutation
        shift = config.spread * unit * rng.normal((size - 1, *shape))
        children = (children + shift * mutates).clamp(*ends)
        pool = torch.cat([pool[rows, order[:, 0]][:, None], children], dim=1)
    return found


def answers(clf: Classifier, x: Tensor) -> Tensor:
    """Return logits (n, K), also of what is no image, without gradients."""
    with torch.no_grad():
        return torch.cat([clf.trained(part) for part in torch.split(x, AT_A_TIME)])


def gradient(clf: Classifier, x: Tensor, y: Tensor) -> Tensor:
    """Return the gradient of the cross-entropy of class `y` by the pixels, also of no image."""
    at = x.detach().requires_grad_()
    return torch.autograd.grad(cross_entropy(clf.trained(at), y).sum(), at)[0]
