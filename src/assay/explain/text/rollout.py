"""Attention rollout of text encoders."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from assay.core.oracle import Encoded
from assay.errors import AssayError
from assay.explain.base import chosen
from assay.explain.text.base import Scores, TextExplainer, by_parts, spans_of
from assay.explain.weights import watching

INSTEAD = "occlusion and gradient-input do without attention weights"


class TokenRollout(TextExplainer):
    """What of each token reached those that the head reads (Abnar & Zuidema 2020, "Quantifying
    attention flow in transformers").

        raw = r · M_L ⋯ M_1,    M_l = (mean over heads of A_l + I) / 2

    r is 1 for the first token where the head reads that ([CLS]), and is shared by all tokens where
    it reads their mean, which a gradient tells. The class does not matter: it shows what was looked
    at, not what spoke for what.

    >>> maps = assay.explain.text.TokenRollout()(text_clf, ["a good film"])
    >>> round(float(maps.raw.sum()), 4)
    1.0
    """

    class_specific: ClassVar[bool] = False

    name: Literal["attention-rollout"] = "attention-rollout"
    """The method's name in configs."""

    def scores(self, clf: Any, x: list[str], targets: Tensor | None) -> list[Scores]:
        def explain(some: list[str], e: Encoded, goal: Tensor | None) -> list[Scores]:
            layers: list[Tensor] = []

            def take(weights: Tensor) -> Tensor:
                layers.append(weights.detach().requires_grad_(True))
                return layers[-1].clone()

            with watching(len(some), take):
                logits = clf.logits(e)
            if not layers:
                raise AssayError(f"no self-attention was seen in the model: {INSTEAD}")
            wanted = chosen(logits, goal)
            (slope,) = torch.autograd.grad(logits.amax(1).sum(), layers[-1:], allow_unused=True)
            if slope is None:
                raise AssayError(f"no gradient says which tokens the head reads: {INSTEAD}")
            read = (slope.abs().amax((1, 3)) > 0).float()
            if e.mask is not None:
                read = read * e.mask.to(read)
            read = read / read.sum(1, keepdim=True).clamp_min(1)
            for weights in reversed(layers):
                fused = weights.detach().float().mean(1)
                read = (read + (read[:, None] @ fused)[:, 0]) / 2
            return [
                Scores(row[: len(own)].cpu(), own, target)
                for row, own, target in zip(read, spans_of(e), wanted.tolist(), strict=True)
            ]

        return by_parts(clf, x, targets, explain)
