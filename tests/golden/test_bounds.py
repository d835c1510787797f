"""Interval bounds of a network of two layers, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from assay.certify import Bounds, ibp
from assay.core.classifier import Classifier


def two_layers() -> nn.Sequential:
    """h = ReLU([[1, -1], [2, 1]] x + [0, -1]),  z = [[1, -1], [1, 1]] h + [0.5, 0]."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, -1.0], [2.0, 1.0]]))
        model[1].bias.copy_(torch.tensor([0.0, -1.0]))
        model[3].weight.copy_(torch.tensor([[1.0, -1.0], [1.0, 1.0]]))
        model[3].bias.copy_(torch.tensor([0.5, 0.0]))
    return model


def image(*pixels: float) -> torch.Tensor:
    return torch.tensor(pixels).view(1, 1, 1, 2)


def test_the_bounds_of_the_logits() -> None:
    """x in [0.4, 0.6] x [0.3, 0.5]: the first layer [-0.1, 0.3] and [0.1, 0.7]; behind the ReLU
    [0, 0.3] and [0.1, 0.7]; z_0 in 0.5 + [0 - 0.7, 0.3 - 0.1], z_1 in [0 + 0.1, 0.3 + 0.7]."""
    box = Bounds(two_layers())(image(0.4, 0.3), image(0.6, 0.5))
    torch.testing.assert_close(box.lower, torch.tensor([[-0.2, 0.1]]))
    torch.testing.assert_close(box.upper, torch.tensor([[0.7, 1.0]]))


def test_the_difference_of_two_logits_is_bounded_as_one() -> None:
    """z_0 - z_1 = 0.5 - 2 h_1 in [-0.9, 0.3]: h_0 cancels, where the ends of the logits would say
    0.7 - 0.1 = 0.6."""
    bounds, ends = Bounds(two_layers()), (image(0.4, 0.3), image(0.6, 0.5))
    most = bounds.margins(*ends, torch.tensor([1]))
    torch.testing.assert_close(most, torch.tensor([[0.3, 0.0]]))
    most = bounds.margins(*ends, torch.tensor([0]))
    torch.testing.assert_close(most, torch.tensor([[0.0, 0.9]]))


@pytest.mark.parametrize(("eps", "certified"), [(0.045, True), (0.055, False)])
def test_the_radius_that_is_certified(eps: float, certified: bool) -> None:
    """At (0.5, 0.4) h_1 = 0.4 falls by 3 eps, and z_0 - z_1 = 0.5 - 2 h_1 reaches 0 at eps 0.05."""
    found = ibp(Classifier(two_layers()), image(0.5, 0.4), torch.tensor([1]), eps=eps)
    assert found.certified.tolist() == [certified]
    assert float(found.margin) == pytest.approx(0.5 - 2 * (0.4 - 3 * eps))


def test_a_class_that_is_wrong_is_never_certified() -> None:
    found = ibp(Classifier(two_layers()), image(0.5, 0.4), torch.tensor([0]), eps=0.0)
    assert found.certified.tolist() == [False]
    assert float(found.margin) == pytest.approx(2 * 0.4 - 0.5)
