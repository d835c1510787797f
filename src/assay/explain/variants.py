"""Many variants of every image: evaluated in parts that fit in memory, by the fast copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from assay.config import Number
from assay.core.classifier import Classifier
from assay.core.fast import Copies, FastCopy, Precision
from assay.core.memory import in_parts
from assay.explain.passes import rows_at_once

Missing = Literal["black", "mean", "blur"] | Annotated[Number, Field(ge=0, le=1)]
"""What stands for nothing being there: black; each image's own mean colour; the image blurred by a
Gaussian whose sigma is a tenth of its shorter side; or a grey of this value in [0, 1]."""


def missing(kind: Missing, x: Tensor) -> Tensor:
    """Return what stands for nothing in each image: float32 (N, C, H, W) in [0, 1]."""
    if kind == "mean":
        return x.mean((2, 3), keepdim=True).expand_as(x)
    if kind == "blur":
        return _blurred(x, min(x.shape[2:]) / 10)
    return torch.full_like(x, 0.0 if kind == "black" else kind)


def _blurred(x: Tensor, sigma: float) -> Tensor:
    """Return `x` convolved with a Gaussian of `sigma` pixels; its border is repeated outside."""
    radius = max(1, round(3 * sigma))
    at = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    weights = (-0.5 * (at / max(sigma, 1e-6)) ** 2).exp()
    weights = weights / weights.sum()
    planes = F.pad(x.flatten(0, 1)[:, None], (radius,) * 4, mode="replicate")
    planes = F.conv2d(planes, weights.view(1, 1, 1, -1))
    return F.conv2d(planes, weights.view(1, 1, -1, 1)).view_as(x).clamp(0, 1)


def each_variant(
    evaluate: Callable[[Tensor, Tensor], Tensor], clf: Classifier, x: Tensor, count: int, kind: str
) -> Tensor:
    """Return what `evaluate` returns for `count` variants of every image (N, count), in parts.

    Args:
        evaluate: from the numbers of images and of their variants, each int64 (R,) and where `x`
            is, to one value for each, (R,). It is called again with fewer where memory ends, and
            once in vain to measure a large row: it must not keep what it sees.
        clf: says how many rows to evaluate at a time.
        x: (N, C, H, W), the images.
        count: variants of each image.
        kind: what the memory of a row depends on besides its shape.
    """
    return in_variants(evaluate, clf, x, *every_variant(x, count), kind).view(len(x), count)


def every_variant(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the numbers of images and of their variants, each int64 (N · count,)."""
    image = torch.arange(len(x), device=x.device).repeat_interleave(count)
    return image, torch.arange(count, device=x.device).repeat(len(x))


def in_variants(
    evaluate: Callable[[Tensor, Tensor], Tensor],
    clf: Classifier,
    x: Tensor,
    image: Tensor,
    variant: Tensor,
    kind: str,
) -> Tensor:
    """Return what `evaluate` returns for some variants of images (R, ...), as in `each_variant`."""
    shape = x[:1].expand(len(image), *x.shape[1:])  # takes no memory: only its shape is read
    return in_parts(
        lambda _, some, which: evaluate(some, which),
        rows_at_once(clf, x),
        shape,
        image,
        variant,
        tally=clf.tally,
        kind=kind,
    )


@contextmanager
def fast(copies: Copies, precision: Precision) -> Iterator[FastCopy | Classifier]:
    """Lend what evaluates fastest, without gradients: a checked copy, or the classifier itself.

    What the copy evaluates counts as queries of the classifier.
    """
    model, _ = copies.of(precision)
    before = model.queries
    try:
        with torch.no_grad():
            yield model
    finally:
        if isinstance(model, FastCopy):
            copies.classifier.tally.queries += model.queries - before
