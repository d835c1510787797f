"""Rollout and gradient attention on transformers of two layers, one head and two patches: every
number worked out by hand.

The image is (0.8; 0.4), the patches are its pixels. A layer adds A x to its tokens x; its attention
A is the same for every image. With a class token, which is 0, logit 0 is that token at the end:

    A1 = (0.2, 0.4, 0.4; 0.25, 0.5, 0.25; 0.2, 0.4, 0.4), A2 = (0.5, 0.25, 0.25; ...)
    x0 = (0, 0.8, 0.4), x1 = (0.48, 1.3, 0.88), logit 0 = 0.48 + 0.24 + 0.325 + 0.22 = 1.265

With the mean of the patches it is that mean:

    A1 = (0.75, 0.25; 0.5, 0.5), A2 = (0.6, 0.4; 0.2, 0.8)
    x0 = (0.8, 0.4), x1 = (1.5, 1)

Logit 1 is -logit 0.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.classifier import Classifier
from assay.explain import AttentionRollout, Explainer, GradientAttention

Layers = tuple[tuple[tuple[float, ...], ...], ...]

IMAGE = torch.tensor([[[[0.8], [0.4]]]])
CLASS_TOKEN = (
    ((0.2, 0.4, 0.4), (0.25, 0.5, 0.25), (0.2, 0.4, 0.4)),
    ((0.5, 0.25, 0.25), (0.1, 0.6, 0.3), (0.3, 0.3, 0.4)),
)
MEAN = (((0.75, 0.25), (0.5, 0.5)), ((0.6, 0.4), (0.2, 0.8)))


class TwoLayers(nn.Module):
    """Attention that does not look at the image: its scores are the logarithms of its weights."""

    def __init__(self, layers: Layers, fused: bool) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 1, 1, bias=False)
        self.scores = nn.Parameter(torch.tensor(layers).log())
        self.fused = fused
        with torch.no_grad():
            self.patch.weight.fill_(1)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).mT
        if self.scores.shape[1] == 3:
            tokens = torch.cat([torch.zeros_like(tokens[:, :1]), tokens], 1)
        for scores in self.scores:
            tokens = tokens + self.attend(scores, tokens[:, None])[:, 0]
        read = tokens[:, 0] if self.scores.shape[1] == 3 else tokens.mean(1)
        return torch.cat([read, -read], 1)

    def attend(self, scores: Tensor, tokens: Tensor) -> Tensor:
        if self.fused:
            nothing = torch.zeros_like(tokens)
            return F.scaled_dot_product_attention(nothing, nothing, tokens, attn_mask=scores)
        weights = scores.expand(len(tokens), 1, -1, -1).softmax(-1)
        return weights @ tokens


def raw(explainer: Explainer, layers: Layers, fused: bool) -> Tensor:
    maps = explainer(Classifier(TwoLayers(layers, fused)), IMAGE, 0)
    assert tuple(maps.raw.shape) == (1, 2, 1)
    return maps.raw[0, :, 0]


each = pytest.mark.parametrize("fused", [True, False])


@each
def test_rollout_to_a_class_token(fused: bool) -> None:
    # ½ A2 + ½ I has the row (0.75, 0.125, 0.125); times ½ A1 + ½ I = (0.6, 0.2, 0.2;
    # 0.125, 0.75, 0.125; 0.1, 0.2, 0.7): 0.15 + 0.09375 + 0.025 and 0.15 + 0.015625 + 0.0875
    made = raw(AttentionRollout(), CLASS_TOKEN, fused)
    torch.testing.assert_close(made, torch.tensor([0.26875, 0.253125]))


@each
def test_rollout_to_the_mean_of_the_patches(fused: bool) -> None:
    # (0.5, 0.5) · (0.8, 0.2; 0.1, 0.9) = (0.45, 0.55); times (0.875, 0.125; 0.25, 0.75)
    made = raw(AttentionRollout(), MEAN, fused)
    torch.testing.assert_close(made, torch.tensor([0.53125, 0.46875]))


@each
def test_gradient_attention_to_a_class_token(fused: bool) -> None:
    # ∇A2 is x1 in its first row: Ā2 = (0.24, 0.325, 0.22), R = (1.24, 0.325, 0.22). The slope of x1
    # is (1.5, 0.25, 0.25), so Ā1 = (0, 0.48, 0.24; 0, 0.1, 0.025; 0, 0.08, 0.04), and R + R Ā1 is
    # 0.325 + 0.5952 + 0.0325 + 0.0176 and 0.22 + 0.2976 + 0.008125 + 0.0088
    made = raw(GradientAttention(), CLASS_TOKEN, fused)
    torch.testing.assert_close(made, torch.tensor([0.9703, 0.534525]))


@each
def test_gradient_attention_to_the_mean_of_the_patches(fused: bool) -> None:
    # Ā2 = A2 ⊙ (0.75, 0.5; 0.75, 0.5) = (0.45, 0.2; 0.15, 0.4), R = (0.8, 0.8). The slope of x1 is
    # (0.9, 1.1), so Ā1 = (0.54, 0.09; 0.44, 0.22), and R + R Ā1 = (1.584, 1.048), less the 0.5 each
    # that the mean takes of the patches themselves
    made = raw(GradientAttention(), MEAN, fused)
    torch.testing.assert_close(made, torch.tensor([1.084, 0.548]))


@each
@pytest.mark.parametrize("layers", [CLASS_TOKEN, MEAN])
def test_nothing_speaks_for_the_class_whose_logit_falls(layers: Layers, fused: bool) -> None:
    clf = Classifier(TwoLayers(layers, fused))
    against = GradientAttention()(clf, IMAGE, 1)
    assert bool(against.empty[0])
    assert not bool(against.raw.any())
    # rollout knows no class
    same = [AttentionRollout()(clf, IMAGE, target).raw for target in (0, 1)]
    assert torch.equal(*same)
