"""Detectors that read nothing but the logits: low confidence as a sign of an unknown input.

They learn nothing from the training data, and so need no labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor

from assay.core.embedding import Embedding
from assay.ood.base import Detector


class MaxSoftmax(Detector):
    """1 - max_k p_k, p = softmax(logits): from 0 (certain) to 1 - 1/K (Hendrycks & Gimpel 2017, "A
    baseline for detecting misclassified and out-of-distribution examples in neural networks").

    >>> detector = assay.ood.MaxSoftmax().fit(clf.embed(x))
    >>> grey = clf.embed(torch.full_like(x, 0.5))
    >>> bool((detector.score(grey) > detector.score(clf.embed(x))).all())
    True
    """

    code: ClassVar[str] = "OOD-001"

    name: Literal["max-softmax"] = "max-softmax"
    """The method's name in configs."""

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        del state
        # 1 - p = r / (1 + r), r = the others' odds: 1 - softmax would round many rows to one 0
        logits = e.logits.double()
        odds = (logits - logits.amax(1, keepdim=True)).exp()
        rest = odds.scatter(1, logits.argmax(1, keepdim=True), 0.0).sum(1)
        return rest / (1 + rest)


class MaxLogit(Detector):
    """-max_k z_k, z the logits (Hendrycks et al. 2022, "Scaling out-of-distribution detection for
    real-world settings").

    >>> e = clf.embed(x)
    >>> torch.equal(assay.ood.MaxLogit().fit(e).score(e), -e.logits.double().amax(1))
    True
    """

    code: ClassVar[str] = "OOD-002"

    name: Literal["max-logit"] = "max-logit"
    """The method's name in configs."""

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        del state
        return -e.logits.double().amax(1)


class Energy(Detector):
    """The free energy -log Σ_k exp(z_k) of the logits z, at temperature 1 (Liu et al. 2020,
    "Energy-based out-of-distribution detection").

    >>> e = clf.embed(x)
    >>> lower = assay.ood.Energy().fit(e).score(e) < assay.ood.MaxLogit().fit(e).score(e)
    >>> bool(lower.all())
    True
    """

    name: Literal["energy"] = "energy"
    """The method's name in configs."""

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        del state
        return -e.logits.double().logsumexp(1)
