"""Detectors by geometry: what the head cannot see of the features, how near another class is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from assay.core.embedding import Embedding
from assay.errors import AssayError
from assay.ood.base import Detector
from assay.ood.gaussian import ROWS, scatter
from assay.ood.needs import Need, features_of, head_of

NOTHING = 1e-5
"""A residual that is less than this share of the features' length is rounding."""


class ViM(Detector):
    """α ‖r‖ - log Σ_k exp(z_k): the energy, raised by what is unusual about the features. r is
    their part outside the principal subspace of the training data's, from the origin -W⁺b; α makes
    ‖r‖ as large as the largest logit, on average over the training data (Wang et al. 2022, "ViM:
    Out-of-distribution with virtual-logit matching").

    The subspace has the paper's 1000 dimensions for 2048 features and more, 512 for 768 and more;
    of fewer features it has half, as OpenOOD gives the 512 of a ResNet-18.

    >>> fitted = assay.ood.ViM(dimensions=6).fit(clf.embed(x))
    >>> fitted.state["residual"].shape  # of 24 dimensions the 18 of least variance
    torch.Size([24, 18])
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"features", "head"})

    name: Literal["vim"] = "vim"
    """The method's name in configs."""
    dimensions: int | None = Field(default=None, ge=1)
    """Of the principal subspace; null: the paper's for that many features."""

    def learn(self, e: Embedding, y: Tensor | None) -> Mapping[str, Tensor]:
        del y
        features, head = features_of(e), head_of(e)
        width = features.shape[1]
        kept = self.dimensions or principal(width)
        if kept >= width:
            raise AssayError(f"vim sets {kept} dimensions apart, and there are {width} features")
        alive = head.bias.isfinite()  # a class that is masked out has no place
        weight, bias = head.weight[alive].double(), head.bias[alive].double()
        origin = -(torch.linalg.pinv(weight) @ bias)
        index = torch.zeros(len(e), dtype=torch.int64)
        vectors = torch.linalg.eigh(scatter(features, index, origin[None])).eigenvectors
        state = {"origin": origin, "residual": vectors[:, : width - kept].contiguous()}
        left = residual(features, state).mean()
        if float(left) <= NOTHING * float((features - origin).norm(dim=1).mean()):
            raise AssayError(
                f"vim measures what lies outside {kept} of {width} dimensions, where the features "
                f"of these {len(e):,} rows have nothing: give more reference data"
            )
        alpha = e.logits.double().amax(1).mean() / left
        if not 0 < float(alpha) < torch.inf:
            raise AssayError(
                "vim scales by the mean of the largest logit of the training data, and here that "
                f"is {float(alpha * left):.3g}"
            )
        return {**state, "alpha": alpha}

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        virtual = state["alpha"] * residual(features_of(e), state)
        return virtual - e.logits.double().logsumexp(1)


class FDBD(Detector):
    """-mean over k ≠ ŷ of (z_ŷ - z_k) / (‖w_ŷ - w_k‖₂ ‖h - μ‖₂): how near the features h are to
    the boundaries between the predicted class ŷ and the others, by their distance to the training
    data's mean μ (Liu & Qin 2024, "Fast decision boundary based out-of-distribution detector").

    >>> e = clf.embed(x)
    >>> bool((assay.ood.FDBD().fit(e).score(e) < 0).all())
    True
    """

    VERSION: ClassVar[int] = 2  # the class itself and its twins are left out of many classes too
    needs: ClassVar[frozenset[Need]] = frozenset({"features", "head"})

    name: Literal["fdbd"] = "fdbd"
    """The method's name in configs."""

    def learn(self, e: Embedding, y: Tensor | None) -> Mapping[str, Tensor]:
        del y
        return {"mean": features_of(e).double().mean(0)}

    def ood_score(self, e: Embedding, state: Mapping[str, Tensor]) -> Tensor:
        weight, z = head_of(e).weight.double(), e.logits.double()
        top, said = z.max(1, keepdim=True)
        # by a matrix product, as it is by default of more than 25 rows, no row is 0 from itself
        exact = "donot_use_mm_for_euclid_dist"
        between = torch.cdist(weight, weight, compute_mode=exact)[said[:, 0]]
        other = (between > 0) & z.isfinite()  # neither the class itself, nor its twin, nor a mask
        away = torch.where(other, (top - z) / between, 0.0).sum(1) / other.sum(1).clamp_min(1)
        distance = torch.cat(
            [(p - state["mean"]).norm(dim=1) for p in torch.split(features_of(e), ROWS)]
        )
        return -away / distance.clamp_min(torch.finfo(torch.float32).tiny)


def principal(features: int) -> int:
    """Return how many dimensions ViM's principal subspace has for so many features."""
    return 1000 if features >= 2048 else 512 if features >= 768 else features // 2


def residual(features: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """Return the length float64 (N,) of what is left of features outside the subspace."""
    parts = (part.double() - state["origin"] for part in torch.split(features, ROWS))
    return torch.cat([(part @ state["residual"]).norm(dim=1) for part in parts])
