"""Occlusion (Zeiler & Fergus 2014, "Visualizing and understanding convolutional networks")."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from assay.core.classifier import Classifier
from assay.core.fast import Precision
from assay.core.oracle import Encoded
from assay.errors import AssayError
from assay.explain.base import Explainer, chosen
from assay.explain.variants import Missing, each_variant, fast, missing

ROUNDING = 1e-6
"""A map that nowhere exceeds this share of the largest logit is what rounding leaves, not more."""


class Occlusion(Explainer):
    """How much the logit of a class falls when a window of the image is covered (Zeiler & Fergus
    2014).

        raw(p) = mean over windows W that cover p of z(x) - z(x with W covered)

    z is the logit of the class. A window slides over the image, the last ones reaching over its
    edge. `raw` (N, H, W) is negative where the class gains by covering. The paper shows the
    probability of the class at the window's place; the logit, unlike it, does not saturate.

    It needs no gradients: windows and images are evaluated together, in batches, by the fast copy
    of the model where there is one.

    >>> assay.explain.Occlusion(window=3, stride=1, fill="black")(clf, x).values.shape
    torch.Size([12, 8, 8])
    """

    name: Literal["occlusion"] = "occlusion"
    """The method's name in configs."""
    window: int | None = Field(default=None, ge=1)
    """Side of the window, in pixels; null: a quarter of the image's shorter side."""
    stride: int | None = Field(default=None, ge=1)
    """From one window to the next, in pixels; null: half a window."""
    fill: Missing = "mean"
    """What covers: the image's "mean" colour, its "blur", "black", or a grey in [0, 1], which is
    what the paper takes; on a background unlike it, a grey square is itself something to see."""
    precision: Precision = "float32"
    """What the fast copy computes in; "bfloat16" is several times as fast on processors that have
    it, and its logits are off by about a hundredth of their spread."""

    def maps(
        self, clf: Classifier, x: Tensor, targets: Tensor | None
    ) -> tuple[Tensor, Tensor, str]:
        x = x.detach()
        rows, columns = self._spans(x)
        logits = clf.query(x)
        wanted = chosen(logits, targets)
        cover = missing(self.fill, x)
        with fast(self.copies(clf, x), self.precision) as model:

            def evaluate(image: Tensor, variant: Tensor) -> Tensor:
                """Evaluate the image with a window covered; the last variant covers nothing."""
                window = variant.clamp_max(len(rows) * len(columns) - 1)
                tall, wide = rows[window // len(columns)], columns[window % len(columns)]
                inside = tall[:, None, :, None] & wide[:, None, None, :]
                inside &= (variant == window)[:, None, None, None]
                seen = model.logits(Encoded(torch.where(inside, cover[image], x[image])))
                return seen.to(x.device).gather(1, wanted[image, None])[:, 0]

            scores = each_variant(evaluate, clf, x, len(rows) * len(columns) + 1, "occlude")
        fall = (scores[:, -1:] - scores[:, :-1]).view(len(x), len(rows), len(columns))
        tall, wide = rows.float(), columns.float()
        raw = torch.einsum("nij,ih,jw->nhw", fall, tall, wide)
        raw = raw / (tall.sum(0)[:, None] * wide.sum(0))
        nothing = raw.abs().amax((1, 2)) <= ROUNDING * logits.abs().amax(1)
        return raw.masked_fill(nothing[:, None, None], 0.0), wanted, ""

    def _spans(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return which rows, and which columns, each place of the window covers: bool (P, H or W).

        Raises:
            AssayError: for a window larger than the image, or a stride that leaves gaps.
        """
        window = self.window or max(1, min(x.shape[2:]) // 4)
        stride = self.stride or max(1, window // 2)
        if window > min(x.shape[2:]):
            raise AssayError(
                f"a window of {window} pixels is larger than the images, {tuple(x.shape[2:])}; "
                "occlusion needs a smaller one"
            )
        if stride > window:
            raise AssayError(
                f"a stride of {stride} pixels leaves gaps between windows of {window}; "
                "it is at most the window"
            )
        spans = []
        for side in x.shape[2:]:
            start = torch.arange(0, side - window + stride, stride, device=x.device)[:, None]
            at = torch.arange(side, device=x.device)
            spans.append((at >= start) & (at < start + window))
        return spans[0], spans[1]
