"""Explainers of texts by the gradient of token embeddings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from assay.core.oracle import Encoded
from assay.core.user_code import slopes_by
from assay.errors import AssayError
from assay.explain.text.base import Scores, Spans, TextExplainer, by_parts, scored, spans_of


class GradientInput(TextExplainer):
    """Gradient × input: what each token's embedding adds to the logit, to first order (Denil et al.
    2014; Shrikumar et al. 2016).

        raw = Σ over dimensions of e · ∂z / ∂e

    >>> assay.explain.text.GradientInput()(text_clf, ["a good film"], targets=1).raw.shape
    torch.Size([1, 5])
    """

    name: Literal["gradient-input"] = "gradient-input"
    """The method's name in configs."""

    def scores(self, clf: Any, x: list[str], targets: Tensor | None) -> list[Scores]:
        def explain(some: list[str], e: Encoded, goal: Tensor | None) -> list[Scores]:
            del some
            values = e.values.detach().requires_grad_(True)
            score, wanted = scored(clf, replace(e, values=values), goal)
            slope = _slope(score, values)
            return _rows((values.detach() * slope).sum(2), wanted, spans_of(e))

        return by_parts(clf, x, targets, explain)


class TokenIntegratedGradients(TextExplainer):
    """What each token adds to the logit on the way from a baseline (Sundararajan et al. 2017).

        raw = Σ over dimensions of (e - e₀) ∫₀¹ ∂z(e₀ + t (e - e₀)) / ∂e dt

    The integral is taken by the midpoint rule. It is complete: `raw` adds up to z(x) - z(x₀) but
    for the error of that rule, which `gap` gives as a share. The marks that the tokenizer adds are
    in the baseline too, and have 0.

    >>> maps = assay.explain.text.TokenIntegratedGradients(steps=64)(text_clf, ["a good film"])
    >>> bool(maps.gap.abs().max() < 0.2)
    True
    """

    name: Literal["integrated-gradients"] = "integrated-gradients"
    """The method's name in configs."""
    steps: int = Field(default=50, ge=1)
    """Points on the way, each a forward and backward pass."""
    baseline: Literal["zero", "pad"] = "pad"
    """Where the way begins: pad, the embedding of the padding token in place of every token; zero,
    an embedding of zeros."""

    def scores(self, clf: Any, x: list[str], targets: Tensor | None) -> list[Scores]:
        def explain(some: list[str], e: Encoded, goal: Tensor | None) -> list[Scores]:
            del some
            spans = spans_of(e)
            start = self._start(clf, e, spans)
            with torch.no_grad():
                whole, wanted = scored(clf, e, goal)
                empty, _ = scored(clf, replace(e, values=start), wanted)
            way, total = e.values.detach() - start, torch.zeros_like(e.values)
            for step in range(self.steps):
                values = (start + way * ((step + 0.5) / self.steps)).requires_grad_(True)
                score, _ = scored(clf, replace(e, values=values), wanted)
                total += _slope(score, values)
            raw = (way * total / self.steps).sum(2)
            apart = (whole - empty).cpu()
            gaps = (raw.sum(1).cpu() - apart) / apart.abs().clamp_min(1e-6)
            return _rows(raw, wanted, spans, gaps.tolist())

        return by_parts(clf, x, targets, explain)

    def _start(self, clf: Any, e: Encoded, spans: list[Spans]) -> Tensor:
        start = e.values.detach().clone()
        instead = torch.zeros_like(start[0, 0])
        if self.baseline == "pad" and hasattr(clf, "table"):
            instead = clf.table.weight[clf.pad].detach().to(start)
        for row, own in enumerate(spans):
            at = [k for k, (begin, end) in enumerate(own) if end > begin]
            start[row, at] = instead
        return start


def _slope(score: Tensor, values: Tensor) -> Tensor:
    (slope,) = slopes_by(score.sum(), [values], values) if score.requires_grad else (None,)
    if slope is None:
        raise AssayError(
            "the logits do not depend on the token embeddings by a gradient: take occlusion"
        )
    return slope.detach()


def _rows(
    raw: Tensor, wanted: Tensor, spans: list[Spans], gaps: list[float] | None = None
) -> list[Scores]:
    """Return what was found as one row per text, padding cut off."""
    each: list[float | None] = [*gaps] if gaps else [None] * len(spans)
    return [
        Scores(row[: len(own)].cpu(), own, target, gap)
        for row, own, target, gap in zip(raw, spans, wanted.tolist(), each, strict=True)
    ]
