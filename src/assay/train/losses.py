"""What falls in training. Most losses need logits alone; some need the network again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from assay.certify.bounds import Bounds
from assay.certify.intervals import box_of, check_bounded
from assay.core.classifier import Classifier
from assay.core.texts import TextClassifier
from assay.errors import AssayError
from assay.train.recipe import IBP, PLAIN, LogitNorm, Loss, Recipe, Trades

TINY = 1e-7
"""Added to the norm of the logits, as in the authors' code: at zero it has no gradient."""


@dataclass(frozen=True)
class Given:
    """What a loss is given of one batch.

    Attributes:
        x: float32 (B, C, H, W) in [0, 1], as trained on: augmented, attacked, mixed; or B texts.
        clean: the same images before they were attacked; where nothing attacks them, `x`.
        target: int64 (B,), or with mixup shares of classes (B, K).
        done: the share of all steps that is done, in [0, 1).
    """

    x: Any
    clean: Any
    target: Tensor
    done: float


Forward = Callable[[Any], Tensor]
"""Images in [0, 1], or texts → logits float32 (B, K), of the network in training."""

Objective = Callable[[Forward, Given], tuple[Tensor, Tensor]]
"""(network, batch) → the loss summed over the batch, and the logits (B, K) that accuracy is
counted by."""


def objective(recipe: Recipe, classifier: Classifier | TextClassifier) -> Objective:
    """Return the loss of a recipe.

    Raises:
        AssayError: for IBP on a network with a layer that no bound is known for, which is named, or
            on one behind a preprocess or with probabilities;
            for a loss that moves pixels, of texts.
    """
    smoothing = recipe.label_smoothing
    if isinstance(classifier, TextClassifier):
        if isinstance(recipe.loss, Trades | IBP):
            raise AssayError(f"the loss {recipe.loss.name} goes with images, not with texts")
        return _plain(recipe.loss, smoothing)
    if isinstance(recipe.loss, Trades):
        return _trades(recipe.loss, smoothing)
    if isinstance(recipe.loss, IBP):
        return _ibp(recipe.loss, smoothing, classifier)
    return _plain(recipe.loss, smoothing)


def _plain(loss: Loss, smoothing: float) -> Objective:
    def plain(network: Forward, given: Given) -> tuple[Tensor, Tensor]:
        logits = network(given.x)
        return summed(loss, logits, given.target, smoothing), logits

    return plain


def summed(loss: Loss, logits: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the loss of logits, summed over rows: a scalar that can be differentiated.

    Of a loss that needs more than logits it is its clean part, the cross entropy.

    Args:
        loss: which one.
        logits: float (N, K).
        target: labels int64 (N,), or shares of classes float (N, K), as mixup makes them.
        smoothing: share of each label that is spread over all classes.

    >>> from assay.train import LogitNorm
    >>> z, y = torch.tensor([[3.0, 4.0]]), torch.tensor([1])
    >>> round(float(summed(LogitNorm(temperature=1), z, y)), 4)  # softmax of (0.6, 0.8)
    0.5981
    """
    if isinstance(loss, LogitNorm):
        logits = logits.float()
        logits = logits / (loss.temperature * (logits.norm(dim=1, keepdim=True) + TINY))
    return F.cross_entropy(logits, target, reduction="sum", label_smoothing=smoothing)


def divergence(logits: Tensor, clean: Tensor) -> Tensor:
    """Return KL(p ‖ q) of each row, (B,), q = softmax(logits), p the probabilities `clean`
    (B, K): what the attack of TRADES makes rise."""
    return F.kl_div(logits.log_softmax(1), clean, reduction="none").sum(1)


def _trades(config: Trades, smoothing: float) -> Objective:
    def trades(network: Forward, given: Given) -> tuple[Tensor, Tensor]:
        clean, attacked = network(given.clean), network(given.x)
        natural = summed(PLAIN, clean, given.target, smoothing)
        moved = divergence(attacked, clean.softmax(1)).sum()
        return natural + config.beta * moved, attacked

    return trades


def _ibp(config: IBP, smoothing: float, classifier: Classifier) -> Objective:
    check_bounded(classifier)
    bounds = Bounds(classifier.model)
    # Batch norms take their statistics, by which boxes are moved, from the images themselves.
    normed = any(isinstance(one, _BatchNorm) for one in classifier.model.modules())

    def worst(network: Forward, given: Given) -> tuple[Tensor, Tensor]:
        eps, kappa = config.at(given.done)
        logits = natural = None
        if not eps or kappa or normed:
            logits = network(given.x)
            natural = summed(PLAIN, logits, given.target, smoothing)
            if not eps:
                return natural, logits
        lower, upper = box_of(classifier, given.x, eps)
        margins = bounds.margins(lower, upper, given.target).float()
        bounded = summed(PLAIN, margins, given.target, smoothing)
        if logits is None or natural is None:
            return bounded, margins
        return torch.lerp(bounded, natural, kappa), logits

    return worst
