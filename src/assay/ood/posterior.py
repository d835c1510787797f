"""Detectors that read the whole softmax: how its mass is spread, not how large its peak is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from assay.config import Number
from assay.core.embedding import Embedding
from assay.errors import AssayError
from assay.ood.base import Detector, LearnsFrom

COLDEST, HOTTEST = 1e-3, 1e3
"""Temperatures that are searched between."""
HALVINGS = 60
"""Of the search: the temperature is then known to 1e-17 of its logarithm's range."""


def log_softmax(logits: Tensor) -> Tensor:
    """Return log p float64 (N, K) of logits (N, K), to full relative precision also where a p is
    all but 1: log p of the largest is -log1p of what the others come to."""
    z = logits.double()
    top, place = z.max(1, keepdim=True)
    away = z - top
    rest = away.exp().scatter(1, place, 0.0).sum(1, keepdim=True)
    return away - rest.log1p()


class Entropy(Detector):
    """-Σ_k p_k log p_k, p = softmax(logits): from 0 (certain) to log K, in nats (as a score of
    unknown inputs: Chan et al. 2021, "Entropy maximization and meta classification for
    out-of-distribution detection in semantic segmentation").

    >>> detector = assay.ood.Entropy().fit(clf.embed(x))
    >>> grey = clf.embed(torch.full_like(x, 0.5))
    >>> bool((detector.score(grey) > detector.score(clf.embed(x))).all())
    True
    """

    name: Literal["entropy"] = "entropy"
    """The method's name in configs."""

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        del state
        log_p = log_softmax(e.logits)
        p = log_p.exp()
        return -(p * log_p.masked_fill(p == 0, 0.0)).sum(1)


class GEN(Detector):
    """Σ_j p_j^γ (1 - p_j)^γ over the `top` largest p = softmax(logits), γ = 0.1: the generalized
    entropy, which small probabilities also move (Liu et al. 2023, "GEN: Pushing the limits of
    softmax-based out-of-distribution detection").

    The paper's γ and, for ImageNet, its 100 classes; fewer classes are all read.

    >>> e = clf.embed(x)
    >>> assay.ood.GEN().fit(e).score(e).shape
    torch.Size([12])
    """

    code: ClassVar[str] = "OOD-003"

    name: Literal["gen"] = "gen"
    """The method's name in configs."""
    gamma: Number = Field(default=0.1, gt=0, lt=1)
    """γ: the smaller, the more small probabilities count."""
    top: int = Field(default=100, ge=1)
    """How many of the largest probabilities are read, at most."""

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        del state
        log_p = log_softmax(e.logits)
        largest = log_p.topk(min(self.top, log_p.shape[1]), 1).values
        spread = largest.exp() * -largest.expm1()  # p (1 - p), exact at both ends
        return spread.pow(self.gamma).sum(1)


class KLMatching(Detector):
    """min_k KL(p ‖ d_k), p = softmax(logits) and d_k the mean softmax of held-out data that is
    predicted as class k (Hendrycks et al. 2022, "Scaling out-of-distribution detection for
    real-world settings"). It needs no labels.

    The paper takes d_k from a validation set, as here; OpenOOD from the training set.

    >>> train, held = clf.embed(x[:2]), clf.embed(x[2:])
    >>> fitted = assay.ood.KLMatching().fit(train, calibrate=held, tpr=0.5)
    >>> fitted.calibrated_on  # of the 10 held-out rows half were learned from
    5
    """

    VERSION: ClassVar[int] = 2  # the halves of held-out rows are drawn
    learns_from: ClassVar[LearnsFrom] = "held-out"

    name: Literal["kl-matching"] = "kl-matching"
    """The method's name in configs."""

    def learn(self, e: Embedding, y: Tensor | None) -> Mapping[str, Tensor]:
        del y
        p, said = log_softmax(e.logits).exp(), e.predictions
        seen = torch.unique(said[said >= 0])
        return {"classes": seen, "typical": torch.stack([p[said == k].mean(0) for k in seen])}

    def caveats(self, e: Embedding, state: Mapping[str, Tensor]) -> tuple[str, ...]:
        missing = e.logits.shape[1] - len(state["classes"])
        if not missing:
            return ()
        return (
            f"{missing} of {e.logits.shape[1]} classes are predicted for no row it learned from: "
            "what is predicted as one of them is matched with the others",
        )

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        log_p = log_softmax(e.logits)
        p = log_p.exp()
        negentropy = (p * log_p.masked_fill(p == 0, 0.0)).sum(1, keepdim=True)
        # where no held-out row gave any mass, a row that gives some is as far as can be said
        typical = state["typical"].clamp_min(torch.finfo(torch.float64).tiny).log()
        return (negentropy - p @ typical.mT).amin(1)


class TemperatureScaling(Detector):
    """log((1 - p) / p), p = max_k softmax(logits / T)_k, at the temperature T that gives held-out
    labels the greatest likelihood (Guo et al. 2017, "On calibration of modern neural networks"; as
    a detector in OpenOOD). The order is that of 1 - p; the logarithm keeps certain rows apart.

    >>> from assay.core.embedding import Embedding
    >>> sure = torch.tensor([[4.0, 0.0]] * 8)  # of class 0; it is right in 3 of 4
    >>> held = Embedding(sure, None, y=torch.tensor([0, 0, 0, 0, 0, 0, 1, 1]))
    >>> fitted = assay.ood.TemperatureScaling().fit(clf.embed(x), calibrate=held, tpr=0.5)
    >>> round(4 / fitted.state["temperature"].item(), 3)  # log 3
    1.099
    """

    VERSION: ClassVar[int] = 2  # the halves of held-out rows are drawn
    learns_from: ClassVar[LearnsFrom] = "held-out"

    name: Literal["temperature-scaling"] = "temperature-scaling"
    """The method's name in configs."""

    def learn(self, e: Embedding, y: Tensor | None) -> Mapping[str, Tensor]:
        if y is None:
            raise AssayError(
                "temperature-scaling learns from labels: give calibrate= data that has some"
            )
        z = e.logits.double()
        known = (y >= 0) & (y < z.shape[1])
        if not bool(known.any()):
            raise AssayError("temperature-scaling learns from labels, and no row has a known one")
        found = temperature(z[known], y[known])
        return {"temperature": torch.tensor(found, dtype=torch.float64)}

    def caveats(self, e: Embedding, state: Mapping[str, Tensor]) -> tuple[str, ...]:
        found = float(state["temperature"])
        if COLDEST < found < HOTTEST:
            return ()
        return (
            f"no temperature between {COLDEST:g} and {HOTTEST:g} is best for the {len(e):,} rows "
            f"it learned from (all right, or no better than guessed): T = {found:g} was taken",
        )

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        z = e.logits.double() / state["temperature"]
        others = z.scatter(1, z.argmax(1, keepdim=True), -torch.inf)
        return others.logsumexp(1) - z.amax(1)


def temperature(logits: Tensor, y: Tensor) -> float:
    """Return the T of greatest likelihood for labels int64 (N,) of logits float64 (N, K).

    The likelihood is concave in 1/T, so its slope, E_p[z] - z_y on average, is bisected.
    """
    given = float(logits.gather(1, y[:, None]).mean())

    def slope(log_t: float) -> float:
        """Above 0 where the likelihood rises with the temperature."""
        p = (logits / math.exp(log_t)).softmax(1)
        return float((p * logits.masked_fill(p == 0, 0.0)).sum(1).mean()) - given

    low, high = math.log(COLDEST), math.log(HOTTEST)
    if slope(low) <= 0 or slope(high) >= 0:
        return COLDEST if slope(low) <= 0 else HOTTEST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return math.exp((low + high) / 2)
