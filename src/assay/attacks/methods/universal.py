"""One perturbation for all images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from assay import stats
from assay.attacks.base import wins
from assay.attacks.losses import cross_entropy
from assay.attacks.methods.gradient import finite
from assay.attacks.runner import fitting
from assay.config import Config, Number
from assay.core.classifier import Classifier
from assay.core.fast import Precision, fast_copy
from assay.core.images import check_images
from assay.core.oracle import Oracle, gradient, labels
from assay.core.random import Stream
from assay.core.threats import NormBall
from assay.errors import AssayError
from assay.stats import Estimate

AT_A_TIME = 256


@dataclass(frozen=True, eq=False)
class Perturbation:
    """A universal perturbation, and what it may do.

    Attributes:
        delta: float32 (C, H, W), inside the threat's ball around zero.
        threat: the ball.
        losses: the mean capped loss of each epoch.

    >>> made = assay.attacks.Universal(eps=0.3).fit(clf, x, y)
    >>> 0 <= made.success_rate(clf, x, y).value <= 1, made(x).shape
    (True, torch.Size([12, 1, 8, 8]))
    """

    delta: Tensor
    threat: NormBall
    losses: tuple[float, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """Return the images (N, C, H, W) in [0, 1], perturbed and clipped to [0, 1]."""
        return (x + self.delta.to(x)).clamp(0, 1)

    def success_rate(self, oracle: Oracle[Tensor], x: Tensor, y: Tensor) -> Estimate:
        """Return the share of the correctly classified images that it fools the model on.

        Give it images that it was not made on: what it does to those says little.
        """
        x, before, after = check_images(x).float(), [], []
        for part in torch.split(x, AT_A_TIME):
            before.append(labels(oracle.query(part)).cpu())
            after.append(labels(oracle.query(self(part))).cpu())
        truth = fitting(y, len(x), len(oracle.classes), "labels")
        correct = torch.cat(before) == truth
        fooled = wins(torch.cat(after), truth, targeted=False) & correct
        right = int(correct.sum())
        return stats.proportion(int(fooled.sum()), right, "correctly classified images")


class Universal(Config):
    """One perturbation that fools a model on most images (Moosavi-Dezfooli et al. 2017).

    It is found by projected gradient steps on batches of images, as in Shafahi et al. 2020
    ("Universal adversarial training", algorithm 2), and not by DeepFool on one image after the
    other: the cross entropy of each image is capped, so that the images that are fooled already do
    not decide where the perturbation goes. Steps are of the norm's steepest direction, and grow
    shorter in a line; what Shafahi et al. take is a fixed step or Adam.

        δₖ₊₁ = Π(δₖ + αₖ · s(Σ ∇ min(L(x + δₖ, y), cap)))

    >>> made = assay.attacks.Universal(norm="linf", eps=0.3, batch_size=12).fit(clf, x, y)
    >>> made.delta.shape, float(made.delta.abs().max()) <= 0.3 + 1e-6
    (torch.Size([1, 8, 8]), True)
    """

    VERSION: ClassVar[int] = 2  # where steps are few, the first ones are longer

    name: Literal["universal"] = "universal"
    """The method's name in configs."""
    norm: Literal["linf", "l2"] = "linf"
    """The norm that the perturbation is measured in: linf or l2."""
    eps: Number = 8 / 255
    """Radius of the ball, in pixel units of [0, 1]."""
    epochs: PositiveInt = 5
    """Passes over the images."""
    batch_size: PositiveInt = 128
    """Images per step."""
    step_size: Number | None = Field(default=None, gt=0)
    """Length of the first step, in pixel units; null takes eps / 4, or, where steps are few, what
    lets all of them together go twice as far as eps."""
    cap: Number = Field(default=9.0, gt=0)
    """Cross entropy, in nats, above which an image pulls no more."""

    def model_post_init(self, _: Any) -> None:
        self.threat  # noqa: B018 - an eps that is no radius is refused when it is made

    @property
    def threat(self) -> NormBall:
        return NormBall.parse({"norm": self.norm, "eps": self.eps}, where=self.name)

    def fit(
        self,
        clf: Classifier,
        x: Tensor,
        y: Tensor | None = None,
        *,
        seed: int = 0,
        precision: Precision = "float32",
    ) -> Perturbation:
        """Find the perturbation on images `x` float32 (N, C, H, W) in [0, 1].

        Args:
            clf: the model; it comes back as it was.
            y: labels int64 (N,); None takes the model's own predictions.
            seed: of the order of the images.
            precision: of the fast copy that gradients are taken on.

        Raises:
            AssayError: for a model without gradients, no images, or labels that do not fit.
        """
        if not isinstance(clf, Classifier):
            raise AssayError(
                "a universal perturbation follows the gradient of a Classifier, which a "
                f"{type(clf).__name__} does not have"
            )
        x = check_images(x).float()
        if len(x) == 0:
            raise AssayError("a universal perturbation needs images; got 0 images")
        said = clf.predict(x[:1] if y is not None else x)
        goal = said if y is None else fitting(y, len(x), len(clf.classes), "labels")
        if not bool((goal >= 0).all()):  # a prediction of NaN is none
            x, goal = x[goal >= 0], goal[goal >= 0]
        threat, device = self.threat, clf.device
        steps = self.epochs * math.ceil(len(x) / self.batch_size)
        first = self.step_size or self.eps * max(1 / 4, 4 / (steps + 1))
        stream = Stream(seed).child("universal")
        zero = torch.zeros((1, *x.shape[1:]), device=device)
        delta, losses, step = zero, [], 0

        def capped(logits: Tensor, y: Tensor) -> Tensor:
            return cross_entropy(logits, y).clamp_max(self.cap)

        with clf.borrowed():
            model, _ = fast_copy(clf, x, precision)
            for epoch in range(self.epochs):
                order = torch.randperm(len(x), generator=stream.child(epoch).torch())
                total = 0.0
                for rows in torch.split(order, self.batch_size):
                    images, labelled = x[rows].to(device), goal[rows].to(device)
                    moved = images + delta
                    logits, slope = gradient(model, moved.clamp(0, 1), labelled, capped)
                    total += float(capped(logits, labelled).sum())
                    # Where clipping stands in the way, an image has no say.
                    stuck = (moved <= 0) & (slope < 0) | (moved >= 1) & (slope > 0)
                    wanted = finite(slope).masked_fill(stuck, 0.0).sum(0, keepdim=True)
                    ascent = threat.steepest(wanted)
                    delta = delta + first * (1 - step / steps) * ascent
                    delta = _inside(threat, delta)
                    step += 1
                losses.append(total / len(x))
        return Perturbation(delta[0].cpu(), threat, tuple(losses))


def _inside(threat: NormBall, delta: Tensor) -> Tensor:
    """Return the perturbation (1, C, H, W) projected on the ball around zero."""
    if threat.norm == "linf":
        return delta.clamp(-threat.eps, threat.eps)
    length = torch.linalg.vector_norm(delta).clamp_min(1e-12)
    return delta.mul((threat.eps / length).clamp_max(1.0))
