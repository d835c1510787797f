"""Explainers by the gradient of the input: integrated gradients and SmoothGrad."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from assay.config import Number
from assay.core.attribution import Attribution
from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.core.user_code import slopes_by
from assay.errors import AssayError
from assay.explain.base import Explainer, chosen
from assay.explain.passes import quick_logits, rows_at_once
from assay.explain.variants import Missing, every_variant, in_variants, missing


class IntegratedGradients(Explainer):
    """What each pixel adds to the logit of a class, from a baseline on (Sundararajan et al. 2017,
    "Axiomatic attribution for deep networks").

        raw = Σ over colours of (x - x₀) ∫₀¹ ∂z(x₀ + t (x - x₀)) / ∂x dt

    x₀ is the baseline, and z the logit of the class. `raw` (N, H, W) is signed. The integral is
    taken by the midpoint rule. Its sum over an image is z(x) - z(x₀), but for the error of that
    rule (completeness); `gap` says how far from it a map is.

    >>> explainer = assay.explain.IntegratedGradients(steps=100)
    >>> maps = explainer(clf, x, targets=y)
    >>> bool((explainer.gap(clf, x, maps).abs() < 0.1).all())
    True
    """

    VERSION: ClassVar[int] = 2  # image 0 lost a gradient that was counted twice where it is large

    name: Literal["integrated-gradients"] = "integrated-gradients"
    """The method's name in configs."""
    steps: int = Field(default=50, ge=1)
    """Points on the line, each a forward and backward pass; the paper takes 20 to 300."""
    baseline: Missing = "black"
    """Where the line starts: "black", each image's "mean" colour, its "blur", or a grey in [0, 1].
    What an image shares with its baseline is given no part: with "black", black objects."""

    def maps(
        self, clf: Classifier, x: Tensor, targets: Tensor | None
    ) -> tuple[Tensor, Tensor, str]:
        x = x.detach()
        wanted = chosen(clf.query(x), targets)
        start = missing(self.baseline, x)
        logits = quick_logits(clf)

        def slope(image: Tensor, step: Tensor) -> Tensor:
            way = ((step + 0.5) / self.steps).view(-1, 1, 1, 1)
            return _slope(logits, start[image].lerp(x[image], way), wanted[image])

        total = _summed(slope, clf, x, self.steps)
        return ((x - start) * total / self.steps).sum(1), wanted, ""

    def gap(self, clf: Classifier, x: Tensor, maps: Attribution) -> Tensor:
        """Return by how much maps of `x` miss completeness: float32 (N,), in logits.

        It is the sum of `raw` less f(x) - f(baseline); more steps make it smaller.
        """
        x = x.detach()
        ends = torch.stack([clf.query(x), clf.query(missing(self.baseline, x))])
        rise = (ends[0] - ends[1]).gather(1, maps.targets[:, None])[:, 0]
        return maps.raw.sum((1, 2)) - rise


class SmoothGrad(Explainer):
    """The gradient of a class's logit, averaged over noise (Smilkov et al. 2017, "SmoothGrad:
    removing noise by adding noise").

        raw = Σ over colours of x · mean over ε of ∂z(x + ε) / ∂x,    ε ~ N(0, (sigma · range)²)

    z is the logit of the class. `raw` is signed, like every other map here, and 0 where the image
    is black. `times_input=False` gives the sensitivity map most of the paper's figures show: the
    absolute values of the mean gradient, summed over the colour channels. It is positive also where
    a change speaks against the class.

    Noisy images are not clipped, as in the paper. Every image sees the same noise, scaled by its
    own range: its map does not depend on the batch it is in, and an image and its attacked copy
    differ by the attack alone.

    >>> assay.explain.SmoothGrad(samples=8)(clf, x).values.shape
    torch.Size([12, 8, 8])
    """

    VERSION: ClassVar[int] = 2  # image 0 lost a gradient that was counted twice where it is large

    name: Literal["smoothgrad"] = "smoothgrad"
    """The method's name in configs."""
    samples: int = Field(default=50, ge=1)
    """Noisy images per image, each a forward and backward pass."""
    sigma: Number = Field(default=0.15, ge=0)
    """Standard deviation of the noise, as a share of the image's range (its largest value less its
    smallest); the paper finds 0.1 to 0.2 best."""
    times_input: bool = True
    """Whether the mean gradient is multiplied by the image."""
    seed: int = Field(default=0, ge=0)
    """The stream of the noise."""

    def maps(
        self, clf: Classifier, x: Tensor, targets: Tensor | None
    ) -> tuple[Tensor, Tensor, str]:
        x = x.detach()
        wanted = chosen(clf.query(x), targets)
        draws = Stream(self.seed).child("smoothgrad").rows(range(self.samples))
        noise = draws.normal(x.shape[1:]).to(x.device)
        spread = self.sigma * (x.amax((1, 2, 3)) - x.amin((1, 2, 3)))
        logits = quick_logits(clf)

        def slope(image: Tensor, sample: Tensor) -> Tensor:
            noisy = x[image] + spread[image].view(-1, 1, 1, 1) * noise[sample]
            return _slope(logits, noisy, wanted[image])

        mean = _summed(slope, clf, x, self.samples) / self.samples
        raw = (mean * x).sum(1) if self.times_input else mean.abs().sum(1)
        return raw, wanted, ""


def _summed(
    slope: Callable[[Tensor, Tensor], Tensor], clf: Classifier, x: Tensor, count: int
) -> Tensor:
    """Return the sum of the slopes at `count` variants of every image, like `x`; no more slopes are
    kept at a time than are computed together."""
    total, rows = torch.zeros_like(x), rows_at_once(clf, x)
    parts = (torch.split(numbers, rows) for numbers in every_variant(x, count))
    for some, which in zip(*parts, strict=True):
        # added out here: a large row is evaluated once more than its answer is needed
        total.index_add_(0, some, in_variants(slope, clf, x, some, which, "input gradient"))
    return total


def _slope(logits: Callable[[Tensor], Tensor], x: Tensor, wanted: Tensor) -> Tensor:
    """Return the gradients of the logits of the wanted classes by `x`: (R, C, H, W)."""
    values = x.detach().requires_grad_(True)
    scores = logits(values).to(x.device).gather(1, wanted[:, None])[:, 0]
    slope = None
    if scores.requires_grad:
        (slope,) = slopes_by(scores.sum(), [values], x)
    if slope is None:
        raise AssayError(
            "the logits do not depend on the image by a gradient; let the model (and preprocess) "
            "not detach it, or take a method without gradients: score-cam, occlusion"
        )
    return slope
