"""Explainers on a network of two layers: every number worked out by hand.

The image is x = (0.1, 0.2; 0.3, 0.4). The layer is A1 = ReLU(2x + offset), A2 = ReLU(1 - x). The
logits are linear in it; class 0 has the weights g1 = (1, 2; 3, 4) and g2 = (0, -1; 0, -3), class 1
has -1 and 1 everywhere. Without an offset A1 = (0.2, 0.4; 0.6, 0.8), A2 = (0.9, 0.8; 0.7, 0.6), and
logit 0 = 2 x1 + 5 x2 + 6 x3 + 11 x4 - 4.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.explain import (
    EigenCAM,
    Explainer,
    GradCAM,
    GradCAMPlusPlus,
    HiResCAM,
    IntegratedGradients,
    LayerCAM,
    Occlusion,
    ScoreCAM,
    SmoothGrad,
)

IMAGE = torch.tensor([[[[0.1, 0.2], [0.3, 0.4]]]])
A1 = torch.tensor([[0.2, 0.4], [0.6, 0.8]])
A2 = torch.tensor([[0.9, 0.8], [0.7, 0.6]])
PARTS = torch.tensor([[0.2, 1.0], [1.8, 4.4]])
"""2 x1, 5 x2; 6 x3, 11 x4: what each pixel adds to logit 0, the network being linear here."""


def two_layers(offset: float = 0.0, inplace: bool = False) -> Classifier:
    conv, head = nn.Conv2d(1, 2, 1), nn.Linear(8, 2)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([2.0, -1.0]).view(2, 1, 1, 1))
        conv.bias.copy_(torch.tensor([offset, 1.0]))
        head.weight.copy_(torch.tensor([[1, 2, 3, 4, 0, -1, 0, -3], [-1, -1, -1, -1, 1, 1, 1, 1]]))
        head.bias.zero_()
    return Classifier(nn.Sequential(conv, nn.ReLU(inplace), nn.Flatten(), head))


def raw(explainer: Explainer, target: int = 0, offset: float = 0.0) -> Tensor:
    return explainer(two_layers(offset), IMAGE, target).raw[0]


def grid(*values: float) -> Tensor:
    return torch.tensor(values).view(2, 2)


def test_grad_cam() -> None:
    # means of the gradients: 2.5 and -1 for class 0, -1 and 1 for class 1
    torch.testing.assert_close(raw(GradCAM(layer="1")), 2.5 * A1 - A2)
    torch.testing.assert_close(raw(GradCAM(layer="1"), 1), A2 - A1)


def test_grad_cam_plus_plus() -> None:
    # class 0: ΣA1 = 2, so channel 1 weighs Σ g/(2 + 2g) = 1/4 + 2/6 + 3/8 + 4/10 = 163/120; the
    # gradients of channel 2 are nowhere positive. class 1: ΣA2 = 3, so channel 2 weighs 4/(2 + 3).
    torch.testing.assert_close(raw(GradCAMPlusPlus(layer="1")), 163 / 120 * A1)
    torch.testing.assert_close(raw(GradCAMPlusPlus(layer="1"), 1), 0.8 * A2)


def test_hires_cam() -> None:
    # 1·0.2, 2·0.4 - 0.8; 3·0.6, 4·0.8 - 3·0.6: it sums to the logit, 0.2 + 1 + 1.8 + 4.4 - 4
    made = raw(HiResCAM(layer="1"))
    torch.testing.assert_close(made, grid(0.2, 0.0, 1.8, 1.4))
    assert float(made.sum()) == pytest.approx(3.4)


def test_layer_cam() -> None:
    torch.testing.assert_close(raw(LayerCAM(layer="1")), grid(0.2, 0.8, 1.8, 3.2))
    torch.testing.assert_close(raw(LayerCAM(layer="1"), 1), A2)


@pytest.mark.parametrize("target", [0, 1])
def test_eigen_cam_is_the_same_for_every_class(target: int) -> None:
    # A Aᵀ = (1.2, 1.4; 1.4, 2.3): λ² - 3.5 λ + 0.8 = 0, and its vector is (1.4, λ - 1.2)
    largest = (3.5 + math.sqrt(3.5**2 - 4 * 0.8)) / 2
    length = math.hypot(1.4, largest - 1.2)
    expected = (1.4 * A1 + (largest - 1.2) * A2) / length
    torch.testing.assert_close(raw(EigenCAM(layer="1"), target), expected)
    assert float((expected**2).sum()) == pytest.approx(largest)


def test_score_cam() -> None:
    # The masks are (0, 1/3; 2/3, 1) and (1, 2/3; 1/3, 0), the masked images (0, 1/15; 0.2, 0.4) and
    # (0.1, 2/15; 0.1, 0): logits 1/3 + 1.2 + 4.4 - 4 and 0.2 + 2/3 + 0.6 - 4.
    first, second = math.exp(1 / 3 + 1.6), math.exp(2 / 3 - 3.2)
    expected = (first * A1 + second * A2) / (first + second)
    torch.testing.assert_close(raw(ScoreCAM(layer="1")), expected)


def test_score_cam_gives_no_weight_to_a_channel_that_is_no_mask() -> None:
    # with an offset of -1 the first channel is 0 everywhere
    torch.testing.assert_close(raw(ScoreCAM(layer="1"), offset=-1.0), A2)


def test_integrated_gradients() -> None:
    torch.testing.assert_close(raw(IntegratedGradients(steps=3)), PARTS)
    # from a grey of 0.1: (x - 0.1) · (2, 5; 6, 11)
    made = raw(IntegratedGradients(steps=3, baseline=0.1))
    torch.testing.assert_close(made, grid(0.0, 0.5, 1.2, 3.3))
    # from the mean, 0.25
    made = raw(IntegratedGradients(steps=3, baseline="mean"))
    torch.testing.assert_close(made, grid(-0.3, -0.25, 0.3, 1.65))


def test_integrated_gradients_through_a_relu_that_opens_on_the_way() -> None:
    # A1 = ReLU(2x - 0.5) opens at x = 0.25: for x3 at 20/24 of the way, for x4 at 15/24. So A1 adds
    # 3 · 0.6 · 4/24 = 0.3 and 4 · 0.8 · 9/24 = 1.2, and A2 adds x2 + 3 x4 = 0.2 and 1.2.
    made = raw(IntegratedGradients(steps=24), offset=-0.5)
    torch.testing.assert_close(made, grid(0.0, 0.2, 0.3, 2.4))


def test_smoothgrad() -> None:
    # noise of 0.1 times the range, 0.3, closes no ReLU: the gradient is (2, 5; 6, 11) all the same
    torch.testing.assert_close(raw(SmoothGrad(sigma=0.1)), PARTS)
    made = raw(SmoothGrad(sigma=0.1, times_input=False), 1)  # logit 1 falls by 3x in every pixel
    torch.testing.assert_close(made, grid(3.0, 3.0, 3.0, 3.0))


def test_occlusion_pixel_by_pixel() -> None:
    torch.testing.assert_close(raw(Occlusion(window=1, stride=1, fill="black")), PARTS)
    made = raw(Occlusion(window=1, stride=1, fill=0.1))
    torch.testing.assert_close(made, grid(0.0, 0.5, 1.2, 3.3))


def test_occlusion_where_windows_overlap() -> None:
    # Windows of 2 at stride 1 in 2x3 pixels: the left covers 1, 2, 4, 5, the right 2, 3, 5, 6. The
    # logit is the sum of 1·x1 … 6·x6, all 0.5: it falls by 6 and 8, by 7 in the middle.
    head = nn.Linear(6, 2, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.stack([torch.arange(1.0, 7), -torch.arange(1.0, 7)]))
    clf = Classifier(nn.Sequential(nn.Flatten(), head))
    explainer = Occlusion(window=2, stride=1, fill="black")
    made = explainer(clf, torch.full((1, 1, 2, 3), 0.5), 0).raw[0]
    torch.testing.assert_close(made, torch.tensor([[6.0, 7, 8], [6, 7, 8]]))
