"""Explainers of vision transformers, by what their tokens attend to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from assay.core.classifier import Classifier
from assay.core.memory import in_parts
from assay.core.oracle import Encoded
from assay.core.user_code import slopes_by
from assay.errors import AssayError
from assay.explain.base import Explainer, chosen
from assay.explain.passes import rows_at_once
from assay.explain.tokens import Grid, measured
from assay.explain.weights import INSTEAD, watching

MOST_WEIGHTS = 2**26
"""Attention weights of all layers and heads that are kept at once: 256 MiB in float32."""


class AttentionMap(Explainer):
    """A map made of the attention of all layers; an author writes `fuse` and `fold`.

    It explains transformers alone. Attention is seen wherever a model makes it of torch's
    functions: by the fused `scaled_dot_product_attention` (which Hugging Face's models use by
    themselves), in torch's own transformer layers, or step by step. `raw` has a value per patch.

    A map says what reached the tokens that the head reads: a class token, several (DeiT's two), or
    the mean of all patches. The first image shows which: those at which a gradient of its logit
    arrives. Nothing but their row of the layers' product is computed, from the last layer to the
    first, a row by a matrix at a time.
    """

    of_attention: ClassVar[bool] = True
    by_gradient: ClassVar[bool] = True
    """Whether `fuse` reads the gradient; without, the model is only run."""

    def fuse(self, weights: Tensor, slope: Tensor) -> Tensor:
        """Return what a layer moves between tokens, float32 (N, T, T): an author's part.

        Args:
            weights: (N, heads, T, T), how much each token (third axis) attends to each (fourth).
            slope: (N, heads, T, T), d logit of the class / d weights; the weights themselves where
                the method does without gradients.
        """
        raise NotImplementedError

    def fold(self, read: Tensor, moved: Sequence[Tensor]) -> Tensor:
        """Return what of each token reached those that the head reads, (N, T): an author's part.

        Args:
            read: float32 (N, T), shares of 1: the tokens that the head reads.
            moved: what `fuse` returned of each layer, from the first to the last.
        """
        raise NotImplementedError

    def maps(
        self, clf: Classifier, x: Tensor, targets: Tensor | None
    ) -> tuple[Tensor, Tensor, str]:
        x, rows = x.detach(), torch.arange(len(x))
        layout = laid_out(clf, x[:1])
        grid = layout.grid

        def explain(part: Tensor, some: Tensor) -> tuple[Tensor, Tensor]:
            kept: list[Tensor] = []

            def take(weights: Tensor) -> Tensor:
                if not self.by_gradient:
                    kept.append(self.fuse(weights, weights))
                    return weights
                leaf = weights if weights.requires_grad else weights.detach().requires_grad_(True)
                kept.append(leaf)
                return leaf.clone()  # the model may work in place

            with watching(len(part), take):
                logits = clf.logits(Encoded(part))
            wanted = chosen(logits, None if targets is None else targets[some])
            if self.by_gradient:
                score = logits.gather(1, wanted[:, None]).sum()
                slopes = _slopes(score, kept, part)
                kept = [self.fuse(w.detach(), g) for w, g in zip(kept, slopes, strict=True)]
            reached = self.fold(layout.read.expand(len(part), -1), kept)
            return grid.maps(reached[:, :, None])[:, 0], wanted

        size = rows_at_once(clf, x)
        if clf.batch_size is None:
            size = max(1, min(size, MOST_WEIGHTS // layout.weights))
        with torch.set_grad_enabled(self.by_gradient):
            raw, explained = in_parts(explain, size, x, rows, tally=clf.tally, kind=self.name)
        return raw, explained, ""


class AttentionRollout(AttentionMap):
    """What of each patch reached the class token by attention (Abnar & Zuidema 2020, "Quantifying
    attention flow in transformers").

        raw = the class token's row of M_L ⋯ M_1,    M_l = (A_l + I) with rows divided by their sum

    A_l is a layer's attention, fused over its heads, and I its skip connection. What the values
    that are moved say, and what linear layers make of them, is left aside, and so is the class: the
    map is the same for every target, which is only handed on. It costs little more than a forward
    pass.

    >>> from assay.core.random import Stream
    >>> config = assay.models.ViT(patch=2, width=16, depth=2, heads=2)
    >>> vit = assay.Classifier(config.build((1, 8, 8), 3, Stream(0)))
    >>> assay.explain.AttentionRollout()(vit, x).raw.shape  # a value per patch
    torch.Size([12, 4, 4])
    """

    class_specific: ClassVar[bool] = False
    by_gradient: ClassVar[bool] = False

    VERSION: ClassVar[int] = 2  # the exponentials of small scores as they are: other last bits

    name: Literal["attention-rollout"] = "attention-rollout"
    """The method's name in configs."""
    heads: Literal["mean", "min", "max"] = "mean"
    """How a layer's heads become one: their mean, as in the paper, or their least or greatest
    weight."""

    def fuse(self, weights: Tensor, slope: Tensor) -> Tensor:  # noqa: ARG002
        if self.heads == "mean":
            fused = weights.mean(1, dtype=torch.float32)
        else:
            fused = (weights.amin(1) if self.heads == "min" else weights.amax(1)).float()
        whole = 1 + fused.sum(2, keepdim=True)
        fused.diagonal(dim1=1, dim2=2).add_(1)
        return fused.div_(whole)

    def fold(self, read: Tensor, moved: Sequence[Tensor]) -> Tensor:
        for matrix in reversed(moved):
            read = (read[:, None] @ matrix)[:, 0]
        return read


class GradientAttention(AttentionMap):
    """What of each patch reached the class token by attention that speaks for a class (Chefer et
    al. 2021, "Generic attention-model explainability for interpreting bi-modal and encoder-decoder
    transformers").

        R ← R + Ā R from R = I, layer by layer,    Ā = mean over heads of ReLU(∂z / ∂A ⊙ A)

    A is a layer's attention, and z the logit of the class: the paper's rule for self-attention, its
    equations 5 and 6. `raw` is the row of R for the class token. Where the head reads the mean of
    the patches, of which the paper does not speak, it is the mean of their rows less that of I:
    what attention has added.

    >>> from assay.core.random import Stream
    >>> config = assay.models.ViT(patch=2, width=16, depth=2, heads=2)
    >>> vit = assay.Classifier(config.build((1, 8, 8), 3, Stream(0)))
    >>> assay.explain.GradientAttention()(vit, x, targets=y).values.shape
    torch.Size([12, 8, 8])
    """

    VERSION: ClassVar[int] = 2  # keys copied before the product: other last bits

    name: Literal["gradient-attention"] = "gradient-attention"
    """The method's name in configs."""

    def fuse(self, weights: Tensor, slope: Tensor) -> Tensor:
        return (weights * slope).relu_().mean(1, dtype=torch.float32)

    def fold(self, read: Tensor, moved: Sequence[Tensor]) -> Tensor:
        row = read
        for matrix in reversed(moved):
            row = row + (row[:, None] @ matrix)[:, 0]
        return row - read


@dataclass(frozen=True)
class Layout:
    """What one image has told about a transformer.

    Attributes:
        grid: where the patches are among the tokens.
        read: float32 (T,), shares of 1: the tokens that the head reads; all patches together count
            as much as one other token.
        weights: how many attention weights there are per image, in all layers and heads.
    """

    grid: Grid
    read: Tensor
    weights: int


def laid_out(clf: Classifier, x: Tensor) -> Layout:
    """Return how the tokens of a transformer are laid out, from a run on `x` (1, C, H, W).

    Raises:
        AssayError: where no attention is seen, or not all of it, or it is not among the tokens of
            one image; where its tokens are no grid; or where no gradient says what the head reads.
    """
    what, seen = type(clf.model).__name__, list[Tensor]()

    def take(weights: Tensor) -> Tensor:
        seen.append(weights if weights.requires_grad else weights.detach().requires_grad_(True))
        return seen[-1].clone()

    with watching(1, take) as watch, measured(clf.model, grid=True) as sizes:
        logits = clf.logits(Encoded(x))
    if not seen:
        other = f" (a softmax of shape {watch.others[0]} is none)" if watch.others else ""
        raise AssayError(
            f"no self-attention was seen in {what}{other}: it has none, or hides it, as a traced "
            f"or scripted module does, whose original can be explained; {INSTEAD}"
        )
    counts = sorted({weights.shape[-1] for weights in seen})
    if len(counts) > 1:
        raise AssayError(
            f"the attention of {what} is among {' and '.join(map(str, counts))} tokens: where "
            f"their number changes on the way, layers cannot be multiplied; {INSTEAD}"
        )
    grid = sizes.grid(counts[0], f"the attention of {what}", merged=False)
    across = [shape for shape in watch.others if shape[-1] >= grid.rows * grid.columns]
    if across:
        raise AssayError(
            f"{what} also attends to tokens in a way that is not among them all (a softmax of "
            f"shape {across[0]}), which rollout cannot follow; {INSTEAD}"
        )
    (slope,) = _slopes(logits.amax(1).sum(), seen[-1:], x)
    arrives = slope[0].abs().amax((0, 2)) > 0
    patches = arrives[grid.prefix :]
    if not bool(arrives.any()):
        raise AssayError(
            f"it cannot be told which tokens the head of {what} reads: the gradient of its logits "
            f"is 0 for the first image; {INSTEAD}"
        )
    if bool(patches.any()) and not bool(patches.all()):
        raise AssayError(
            f"the head of {what} reads {int(patches.sum())} of {len(patches)} patches of the first "
            f"image, where it should read all, or none but a class token; {INSTEAD}"
        )
    shares = arrives.float()
    shares[grid.prefix :] /= len(patches)
    return Layout(grid, shares / shares.sum(), weights=sum(map(torch.numel, seen)))


def _slopes(score: Tensor, weights: Sequence[Tensor], x: Tensor) -> list[Tensor]:
    """Return d score / d weights of every layer, in one backward pass; `x` are the images."""
    found: Sequence[Tensor | None] = [None]
    if score.requires_grad:
        found = slopes_by(score, weights, x)
    slopes = [slope for slope in found if slope is not None]
    if len(slopes) < len(weights):
        raise AssayError(
            "the logits do not depend on the attention weights by a gradient; let the model not "
            f"detach them; {INSTEAD}"
        )
    return slopes
