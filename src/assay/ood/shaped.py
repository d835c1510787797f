"""Detectors that give the head other features, or another head, and read the logits again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from assay.config import Number
from assay.core.embedding import Embedding
from assay.errors import AssayError
from assay.ood.base import Detector
from assay.ood.confidence import Energy, MaxLogit, MaxSoftmax
from assay.ood.needs import Need, features_of, head_of

Reading = Literal["energy", "max-softmax", "max-logit"]
READINGS: dict[str, Detector] = {
    "energy": Energy(),
    "max-softmax": MaxSoftmax(),
    "max-logit": MaxLogit(),
}


def read(reading: Reading, logits: Tensor) -> Tensor:
    """Return a score float64 (N,) of logits (N, K)."""
    return READINGS[reading].ood_score(Embedding(logits, None), {})


class ReAct(Detector):
    """A score of the logits that the head gives for features clipped at c, the 90th percentile of
    all those of the training data: outliers owe their confidence to few units that overshoot (Sun
    et al. 2021, "ReAct: Out-of-distribution detection with rectified activations").

    With the energy, as the paper does; it also reports the largest softmax.

    >>> e = clf.embed(x)
    >>> fitted = assay.ood.ReAct().fit(e)
    >>> bool((fitted.score(e) >= assay.ood.Energy().fit(e).score(e)).any())
    True
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"features", "head"})

    name: Literal["react"] = "react"
    """The method's name in configs."""
    percentile: Number = Field(default=0.9, gt=0, lt=1)
    """The share of the training data's activations that clipping leaves as they are."""
    reading: Reading = "energy"
    """The score of the logits."""

    def learn(self, e: Embedding, y: Tensor | None) -> Mapping[str, Tensor]:
        del y
        return {"clip": quantile(features_of(e), self.percentile)}

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        clipped = features_of(e).clamp_max(float(state["clip"]))
        return read(self.reading, head_of(e)(clipped))


class DICE(Detector):
    """The energy of the logits by a head without the 90 % of its weights w_kd that contribute the
    least, w_kd times the training data's mean of feature d (Sun & Li 2022, "DICE: Leveraging
    sparsification for out-of-distribution detection").

    The paper's share for CIFAR; it takes 0.7 for ImageNet.

    >>> e = clf.embed(x)
    >>> int((assay.ood.DICE().fit(e).state["weight"] != 0).sum())  # of 3 · 24 weights
    8
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"features", "head"})

    name: Literal["dice"] = "dice"
    """The method's name in configs."""
    pruned: Number = Field(default=0.9, gt=0, lt=1)
    """The share of the head's weights that is left out."""
    clip: Number | None = Field(default=None, gt=0, lt=1)
    """Together with ReAct: the percentile at which features are clipped; null: they are not."""
    reading: Reading = "energy"
    """The score of the logits."""

    def learn(self, e: Embedding, y: Tensor | None) -> Mapping[str, Tensor]:
        del y
        features, head = features_of(e), head_of(e)
        state = {} if self.clip is None else {"clip": quantile(features, self.clip)}
        contribution = head.weight * features.mean(0)
        kept = contribution > quantile(contribution, self.pruned)
        return {**state, "weight": head.weight * kept, "bias": head.bias}

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        features = features_of(e)
        if "clip" in state:
            features = features.clamp_max(float(state["clip"]))
        return read(self.reading, features @ state["weight"].mT + state["bias"])


class ASH(Detector):
    """The energy of the logits for features of which the 90 % smallest, of each image, are set to
    0, and the others multiplied by exp(s₁ / s₂), s₁ and s₂ the sums before and after (ASH-S;
    Djurisic et al. 2023, "Extremely simple activation shaping for out-of-distribution detection").

    Variant "p" prunes alone, "b" gives all that are left the same value, s₁ divided by their
    number. Paper and reference code shape the maps before the last pooling; this reads what the
    head reads, as OpenOOD does, so that the one pass serves it too.

    >>> e = clf.embed(x)
    >>> assay.ood.ASH().fit(e).score(e).shape
    torch.Size([12])
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"features", "head"})

    name: Literal["ash"] = "ash"
    """The method's name in configs."""
    percentile: Number = Field(default=0.9, gt=0, lt=1)
    """The share of an image's features that is set to 0."""
    variant: Literal["s", "b", "p"] = "s"
    """What becomes of the others: sharpened, made equal, or left as they are."""
    reading: Reading = "energy"
    """The score of the logits."""

    def learn(self, e: Embedding, y: Tensor | None) -> Mapping[str, Tensor]:
        del y
        if self.variant != "p":
            not_negative(self.name, features_of(e))
        return {}

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        del state
        features = features_of(e)
        values, places = largest(features, self.percentile)
        if self.variant == "s":
            values = values * sharpness(features, values)
        elif self.variant == "b":
            values = (features.sum(1, keepdim=True) / values.shape[1]).expand_as(values)
        shaped = torch.zeros_like(features).scatter(1, places, values)
        return read(self.reading, head_of(e)(shaped))


class SCALE(Detector):
    """The energy of the logits for features multiplied by exp(s₁ / s₂): s₁ the sum of an image's
    features, s₂ that of its 15 % largest (Xu et al. 2024, "Scaling for training time and post-hoc
    out-of-distribution detection enhancement"). ASH-S without the pruning.

    >>> e = clf.embed(x)
    >>> bool((assay.ood.SCALE().fit(e).score(e) < assay.ood.Energy().fit(e).score(e)).all())
    True
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"features", "head"})

    name: Literal["scale"] = "scale"
    """The method's name in configs."""
    percentile: Number = Field(default=0.85, gt=0, lt=1)
    """The share of an image's features that s₂ leaves out."""
    reading: Reading = "energy"
    """The score of the logits."""

    def learn(self, e: Embedding, y: Tensor | None) -> Mapping[str, Tensor]:
        del y
        not_negative(self.name, features_of(e))
        return {}

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        del state
        features = features_of(e)
        values, _ = largest(features, self.percentile)
        return read(self.reading, head_of(e)(features * sharpness(features, values)))


def largest(features: Tensor, percentile: float) -> tuple[Tensor, Tensor]:
    """Return each row's largest features (N, d) and their places, `percentile` being left out."""
    width = features.shape[1]
    kept = features.topk(max(1, width - round(width * percentile)), dim=1)
    return kept.values, kept.indices


def sharpness(features: Tensor, kept: Tensor) -> Tensor:
    """Return exp(s₁ / s₂) (N, 1), 1 for a row of zeros: it is the same however it is scaled."""
    before, after = features.sum(1, keepdim=True), kept.sum(1, keepdim=True)
    return torch.where(after > 0, before / after, 0.0).exp()


def not_negative(name: str, features: Tensor) -> None:
    """Refuse features whose sums may vanish.

    Raises:
        AssayError: some are negative.
    """
    negative = float((features < 0).double().mean())
    if negative:
        raise AssayError(
            f"{name} scales features by their sums, and so is made for those of a ReLU, which are "
            f"not negative; {100 * negative:.1f} % of this model's are"
        )


def quantile(values: Tensor, share: float) -> Tensor:
    """Return the value below which a share of all of them lies, by linear interpolation; a tensor
    may be larger than torch.quantile takes."""
    return torch.tensor(np.quantile(values.numpy(), share), dtype=torch.float64)
