"""Grad-CAM against captum's, on the same layer of the same network."""

from __future__ import annotations

import pytest
import torch
from explain.nets import LeNet, images, plain, residual, seeded
from torch.nn import functional as F

from assay.core.classifier import Classifier
from assay.explain import GradCAM

captum = pytest.importorskip("captum.attr", reason="captum is in the bench extra")


@pytest.mark.parametrize(
    ("make", "arguments", "layer"),
    [
        (plain, (False,), "4"),
        (plain, (False,), "3"),
        (plain, (True,), "3"),
        (plain, (True,), "0"),
        (residual, (False,), "1"),
        (residual, (False,), "1.0"),
        (residual, (True,), "1.1.norm2"),
        (residual, (True,), "0"),
        (LeNet, (), "conv2"),
    ],
)
def test_maps_equal_captums(make: object, arguments: tuple[bool, ...], layer: str) -> None:
    model, x = seeded(make, *arguments).eval(), images(8)
    y = torch.arange(8) % 3
    theirs = captum.LayerGradCam(model, model.get_submodule(layer))
    expected = theirs.attribute(x, target=y, relu_attributions=False)[:, 0].detach()
    ours = GradCAM(layer=layer)(Classifier(model), x, y)
    size = float(expected.abs().max())
    assert size > 0
    torch.testing.assert_close(ours.raw / size, expected / size, rtol=0, atol=1e-5)

    # Their way to an image: interpolate the positive part. Ours is that over its largest value.
    large = F.interpolate(expected.relu()[:, None], (32, 32), mode="bilinear")[:, 0]
    largest = large.amax((1, 2), keepdim=True)
    assert torch.equal(ours.empty, largest.flatten() == 0)
    torch.testing.assert_close(ours.values, large / largest.clamp_min(1e-30), rtol=1e-5, atol=1e-5)
