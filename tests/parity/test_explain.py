"""Explainers against captum's, on the same layer of the same network."""

from __future__ import annotations

import pytest
import torch
from explain.nets import LeNet, images, plain, residual, seeded
from torch import Tensor
from torch.nn import functional as F

from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.explain import GradCAM, HiResCAM, IntegratedGradients, Occlusion, SmoothGrad

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


def assert_same(ours: Tensor, expected: Tensor, size: float | None = None) -> None:
    """Maps are equal to 1e-5 of the largest value, or of `size`."""
    expected = expected.detach()
    size = float(expected.abs().max()) if size is None else size
    assert size > 0
    torch.testing.assert_close(ours / size, expected / size, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "layer"), [(plain, "3"), (plain, "0"), (residual, "1.0"), (LeNet, "conv2")]
)
def test_hires_cam_equals_captums_gradient_times_activation(make: object, layer: str) -> None:
    model, x = seeded(make).eval(), images(8)
    y = torch.arange(8) % 3
    theirs = captum.LayerGradientXActivation(model, model.get_submodule(layer))
    expected = theirs.attribute(x, target=y).sum(1)
    assert_same(HiResCAM(layer=layer)(Classifier(model), x, y).raw, expected)


@pytest.mark.parametrize("make", [plain, residual, LeNet])
@pytest.mark.parametrize("baseline", ["black", 0.5])
def test_integrated_gradients_equal_captums(make: object, baseline: str | float) -> None:
    model, x = seeded(make).eval(), images(4)
    y = torch.arange(4) % 3
    start = 0.0 if baseline == "black" else baseline
    theirs, settings = captum.IntegratedGradients(model), {"n_steps": 20, "target": y}
    expected, gap = theirs.attribute(
        x, start, method="riemann_middle", return_convergence_delta=True, **settings
    )
    clf, explainer = Classifier(model), IntegratedGradients(steps=20, baseline=baseline)
    ours = explainer(clf, x, y)
    assert_same(ours.raw, expected.sum(1))
    torch.testing.assert_close(explainer.gap(clf, x, ours), gap, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("window", "stride", "fill"), [(8, 4, 0.5), (7, 5, "black"), (16, 16, 0.25)]
)
@pytest.mark.parametrize("make", [plain, residual])
def test_occlusion_equals_captums(
    make: object, window: int, stride: int, fill: str | float
) -> None:
    model, x = seeded(make).eval(), images(3)
    y = torch.arange(3) % 3
    with torch.no_grad():
        expected = captum.Occlusion(model).attribute(
            x,
            (3, window, window),
            (3, stride, stride),
            baselines=0 if fill == "black" else fill,
            target=y,
        )[:, 0]
    explainer = Occlusion(window=window, stride=stride, fill=fill)
    ours = explainer(Classifier(model), x, y).raw
    # a fall is a difference of logits, and carries their rounding: captum's own maps are 2e-5 of
    # the largest fall away from float64 where that fall is a hundredth of the logits
    assert_same(ours, expected, size=float(Classifier(model).query(x).abs().max()))
    assert float((ours - expected).norm() / expected.norm()) < 1e-4


@pytest.mark.parametrize("make", [plain, residual])
def test_smoothgrad_equals_the_mean_of_captums_gradients(make: object) -> None:
    model, x = seeded(make).eval(), images(3)
    y = torch.arange(3) % 3
    noise = Stream(0).child("smoothgrad").rows(range(5)).normal((3, 32, 32))
    spread = 0.15 * (x.amax((1, 2, 3)) - x.amin((1, 2, 3))).view(-1, 1, 1, 1)
    gradients = [
        captum.Saliency(model).attribute((x + spread * n).requires_grad_(), y, abs=False)
        for n in noise
    ]
    mean = torch.stack(gradients).mean(0)
    clf = Classifier(model)
    assert_same(SmoothGrad(samples=5)(clf, x, y).raw, (mean * x).sum(1))
    plain_maps = SmoothGrad(samples=5, times_input=False)(clf, x, y).raw
    assert_same(plain_maps, mean.abs().sum(1))
