"""Deletion and insertion (Petsiuk et al. 2018, "RISE: randomized input sampling for explanation of
black-box models"): what a class loses, or gains, when pixels go, or come, in the order of a map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.core.classifier import Classifier
from assay.core.fast import Copies, Precision
from assay.core.oracle import Encoded
from assay.core.random import Stream
from assay.explain.variants import Missing, each_variant, fast, missing

Array = NDArray[np.float64]
Known = Mapping[float, Array]
"""By share of the pixels that is exchanged: the probability (N,) of each image's class there."""


@dataclass(frozen=True, eq=False)
class Curve:
    """The probability of a class while the pixels of an image are exchanged, one part at a time.

    Attributes:
        share: float64 (S + 1,), which share of the pixels is exchanged: from 0, rising, to 1.
        probability: float64 (N, S + 1), the softmax of each image's class there.
    """

    share: Array
    probability: Array

    @property
    def area(self) -> Array:
        """The area under each image's curve, by the trapezoidal rule: float64 (N,) in [0, 1]."""
        middle = (self.probability[:, 1:] + self.probability[:, :-1]) / 2
        return np.asarray(middle @ np.diff(self.share), dtype=np.float64)

    @property
    def ends(self) -> dict[float, Array]:
        """What it begins and ends with, which are the same for any order of the same images."""
        return {0.0: self.probability[:, 0], 1.0: self.probability[:, -1]}

    def to_dict(self) -> dict[str, Any]:
        """Return the mean curve over the images."""
        return {"share": self.share.tolist(), "probability": self.probability.mean(0).tolist()}


def random_order(x: Tensor, seed: int) -> Tensor:
    """Return the pixels of each image in random order, as places from 0: int64 (N, H, W).

    An image's order depends on its number and size alone.
    """
    rows = Stream(seed).child("explain", "order").rows(range(len(x)))
    keys = rows.uniform((x.shape[2] * x.shape[3],))
    return places(keys.argsort(dim=1, stable=True)).view(len(x), *x.shape[2:]).to(x.device)


def order_of(maps: Tensor, ties: Tensor) -> Tensor:
    """Return the pixels in the order of a map, the largest first, as places: int64 (N, H, W).

    Args:
        maps: (N, H, W); only their order matters.
        ties: places (N, H, W) that equal values are ordered by. With a random order a map that
            tells nothing is no better or worse than that.
    """
    first = ties.flatten(1).argsort(1)
    last = maps.flatten(1).gather(1, first).argsort(dim=1, descending=True, stable=True)
    return places(first.gather(1, last)).view_as(maps)


def places(order: Tensor) -> Tensor:
    """Return at which place of an order (N, P) each pixel stands: int64 (N, P)."""
    at = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, at)


def deletion(
    clf: Classifier,
    x: Tensor,
    targets: Tensor,
    order: Tensor,
    *,
    steps: int = 16,
    onto: Missing = "mean",
    precision: Precision = "float32",
    copies: Copies | None = None,
    known: Known | None = None,
) -> Curve:
    """Take the pixels out of the images: where the order is that of importance, the curve falls at
    once, and its area is small.

    The area is by share of pixels. The paper changes the same number of pixels at every step, by
    default one row of the image; its code gives a shorter last step the weight of a whole one.

    Args:
        clf: the classifier; it comes back as it was.
        x: float32 (N, C, H, W) in [0, 1].
        targets: int64 (N,), the class of each image.
        order: int64 (N, H, W), the place of each pixel, 0 for the first to go.
        steps: parts that the pixels go in; at most one for each pixel.
        onto: what is left of a pixel. The paper's code takes the colour that normalisation makes
            0, nearly the mean of all images; here it is the image's own.
        precision: what the fast copy of the model computes in.
        copies: the model's fast copies, by whoever draws several curves. None: made for this call.
        known: probabilities that need not be found out again; both ends are the same in any order.

    >>> from assay.explain.curves import order_of, random_order
    >>> maps, ties = assay.explain.Occlusion()(clf, x, targets=y), random_order(x, seed=0)
    >>> curve = assay.explain.deletion(clf, x, y, order_of(maps.values, ties), steps=8)
    >>> bool(curve.area.mean() < assay.explain.deletion(clf, x, y, ties, steps=8).area.mean())
    True
    """
    return exchange(clf, x, targets, order, x, missing(onto, x), steps, precision, copies, known)


def insertion(
    clf: Classifier,
    x: Tensor,
    targets: Tensor,
    order: Tensor,
    *,
    steps: int = 16,
    onto: Missing = "blur",
    precision: Precision = "float32",
    copies: Copies | None = None,
    known: Known | None = None,
) -> Curve:
    """Put the pixels on a blurred image: where the order is that of importance, the curve rises at
    once, and its area is large.

    The paper's blur (sigma 5, cut off at 11 pixels, on 224) would leave a small image as it is;
    this one is `variants.missing`'s, a tenth of the image's shorter side.

    Args:
        onto: what the pixels are put on.
        clf, x, targets, order, steps, precision, copies, known: as for `deletion`.

    >>> from assay.explain.curves import random_order
    >>> curve = assay.explain.insertion(clf, x, y, random_order(x, seed=0), steps=8)
    >>> curve.probability.shape, curve.share[[0, -1]].tolist()
    ((12, 9), [0.0, 1.0])
    """
    return exchange(clf, x, targets, order, missing(onto, x), x, steps, precision, copies, known)


def exchange(
    clf: Classifier,
    x: Tensor,
    targets: Tensor,
    order: Tensor,
    start: Tensor,
    end: Tensor,
    steps: int,
    precision: Precision,
    copies: Copies | None = None,
    known: Known | None = None,
) -> Curve:
    """Return the curve of the images `start` becoming `end`, pixel by pixel in `order`.

    All steps of all images are evaluated together, in batches that fit in memory, by the fast
    copy of the model where there is one.
    """
    pixels = order[0].numel()
    parts = min(steps, pixels)
    done = [round(step * pixels / parts) for step in range(parts + 1)]
    share = np.array(done, dtype=np.float64) / pixels
    given = {} if known is None else known
    asked = [step for step, at in enumerate(share) if float(at) not in given]
    until = torch.tensor(done, device=x.device)[asked]
    made = Copies(clf, x) if copies is None else copies.checked(clf)
    with clf.borrowed(), fast(made, precision) as model:

        def evaluate(image: Tensor, step: Tensor) -> Tensor:
            gone = order[image] < until[step].view(-1, 1, 1)
            mixed = torch.where(gone[:, None], end[image], start[image])
            seen = model.logits(Encoded(mixed)).to(x.device).softmax(1)
            return seen.gather(1, targets[image, None])[:, 0]

        found = each_variant(evaluate, clf, x, len(asked), "exchange") if asked else x[:, 0, 0, :0]
    probability = np.empty((len(x), len(done)))
    probability[:, asked] = found.double().cpu().numpy()
    for step in set(range(len(done))).difference(asked):
        probability[:, step] = given[float(share[step])]
    return Curve(share, probability)
