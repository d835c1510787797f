"""Score-CAM (Wang et al. 2020, "Score-CAM: score-weighted visual explanations")."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from assay.core.classifier import Classifier
from assay.core.fast import Precision
from assay.core.memory import in_parts
from assay.core.oracle import Encoded
from assay.explain.base import Explainer, chosen, resized
from assay.explain.layers import cut, find_layer, output_of, spatial
from assay.explain.passes import rows_at_once
from assay.explain.tokens import measured
from assay.explain.variants import each_variant, fast


class ScoreCAM(Explainer):
    """A layer's channels, weighted by the logit of the image seen through them (Wang et
    al. 2020).

        raw(p) = Σ_c w_c A_c(p),    w = softmax over channels c of z(x ⊙ A_c scaled to [0, 1])

    z is the logit of the class, and A_c a channel of the layer, brought to the size of the image.
    Weights are positive, so the map is negative only where the channels are. The paper's Algorithm
    1 is followed; the authors' code instead weights by the class's probability, without a softmax
    over channels. The logit of a black image, which the paper subtracts, cancels in that softmax
    and is not computed. A channel that is the same everywhere is no mask, and has no weight.

    It needs no gradients: channels and images are evaluated together, in batches, by the fast
    copy of the model where there is one. It costs one evaluation per channel.

    >>> assay.explain.ScoreCAM(layer="1")(clf, x).values.shape
    torch.Size([12, 8, 8])
    """

    name: Literal["score-cam"] = "score-cam"
    """The method's name in configs."""
    layer: str | None = None
    """The layer to explain, by its name in the model; null finds it (`find_layer`)."""
    precision: Precision = "float32"
    """What the fast copy computes in; "bfloat16" is several times as fast on processors that have
    it, and its logits are off by about a hundredth of their spread."""

    def maps(
        self, clf: Classifier, x: Tensor, targets: Tensor | None
    ) -> tuple[Tensor, Tensor, str]:
        layer = find_layer(clf, x[:1]) if self.layer is None else self.layer
        rows = torch.arange(len(x))  # on the CPU, where targets are

        def run(part: Tensor) -> tuple[Tensor, Tensor]:
            with cut(clf.model, (layer,)) as outputs, measured(clf.model) as sizes:
                logits = clf.logits(Encoded(part))
                tokens = output_of(outputs, layer, sizes)
                channels = spatial(tokens, layer, sizes).float()
            return logits, channels.to(x.device)

        def explain(part: Tensor, some: Tensor) -> tuple[Tensor, Tensor]:
            logits, channels = in_parts(run, len(part), part, tally=clf.tally, kind="query")
            wanted = chosen(logits, None if targets is None else targets[some]).to(x.device)

            def evaluate(image: Tensor, channel: Tensor) -> Tensor:
                masks = _as_masks(channels[image, channel], part)
                seen = model.logits(Encoded(part[image] * masks)).to(x.device)
                return seen.gather(1, wanted[image, None])[:, 0]

            scores = each_variant(evaluate, clf, part, channels.shape[1], "mask")
            flat = channels.amax((2, 3)) == channels.amin((2, 3))
            weights = scores.masked_fill(flat, -torch.inf).softmax(1)
            weights = weights.masked_fill(flat, 0.0)  # NaN where all are
            return torch.einsum("nc,nchw->nhw", weights, channels), wanted

        with fast(self.copies(clf, x), self.precision) as model:
            raw, explained = in_parts(
                explain,
                rows_at_once(clf, x),
                x.detach(),
                rows,
                tally=clf.tally,
                kind="score-cam",
                in_vain=False,
            )
        return raw, explained, layer


def _as_masks(channels: Tensor, x: Tensor) -> Tensor:
    """Return channels (R, h, w) as masks in [0, 1] of the size of the images: (R, 1, H, W)."""
    size = (x.shape[2], x.shape[3])
    large = resized(channels[:, None], size, "bilinear")
    low, high = large.amin((2, 3), keepdim=True), large.amax((2, 3), keepdim=True)
    return (large - low) / (high - low).clamp_min(torch.finfo(large.dtype).tiny)
