"""One table of what can go wrong, over every explainer of ours; no hook is left behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from contract.untouched import untouched
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.core.random import Stream
from assay.errors import AssayError
from assay.explain import (
    AttentionRollout,
    EigenCAM,
    Explainer,
    GradCAM,
    GradCAMPlusPlus,
    GradientAttention,
    HiResCAM,
    IntegratedGradients,
    LayerCAM,
    Occlusion,
    ScoreCAM,
    SmoothGrad,
)
from assay.explain.base import scaled

from .nets import LeNet, Patches, TorchViT, hugging_face, images, plain, residual, seeded, vit

BY_GRADIENT = [GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM]
OF_A_LAYER = [*BY_GRADIENT, EigenCAM, ScoreCAM]
OF_THE_INPUT = [IntegratedGradients, SmoothGrad]
OF_ATTENTION = [AttentionRollout, GradientAttention]
EVERY = [*OF_A_LAYER, *OF_THE_INPUT, Occlusion]
QUICK = {IntegratedGradients: {"steps": 3}, SmoothGrad: {"samples": 3}, Occlusion: {"window": 16}}


def made(kind: type[Explainer], **settings: object) -> Explainer:
    return kind(**QUICK.get(kind, {}), **settings)


class Odd(nn.Module):
    """Layers that give no map, and logits that the image or the layer does not reach."""

    def __init__(self, how: str = "") -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 2, 3), nn.Linear(2, 3)
        self.side = nn.Conv2d(3, 2, 3)
        self.unused = nn.Conv2d(3, 2, 3)
        self.pair = nn.MaxPool2d(2, return_indices=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        self.pair(self.side(x))
        features = self.conv(x)
        features = features.detach() if self.how == "detached" else features
        with torch.set_grad_enabled(self.how != "no_grad"):
            out: Tensor = self.head(self.pool(features).flatten(1))
        return out


@pytest.mark.parametrize("kind", OF_A_LAYER)
@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("convv", "unknown layer 'convv': did you mean 'conv'"),
        ("head", r"'head' returns shape \(2, 3\), which has no spatial extent"),
        ("pool", r"'pool' returns shape \(2, 2, 1, 1\), which has no spatial extent"),
        ("unused", "'unused' is never called"),
        ("pair", "'pair' returns tuple, not a tensor"),
    ],
)
def test_a_layer_that_gives_no_map(kind: type[Explainer], layer: str, message: str) -> None:
    model = Odd()
    with untouched(model), pytest.raises(AssayError, match=message):
        made(kind, layer=layer)(Classifier(model), images(2, size=12))


@pytest.mark.parametrize("kind", BY_GRADIENT)
@pytest.mark.parametrize(
    ("how", "layer"), [("", "side"), ("detached", "conv"), ("no_grad", "conv")]
)
def test_a_layer_that_no_gradient_reaches(kind: type[Explainer], how: str, layer: str) -> None:
    model = Odd(how)
    with (
        untouched(model),
        pytest.raises(AssayError, match=f"the logits do not depend on layer {layer!r}"),
    ):
        made(kind, layer=layer)(Classifier(model), images(2, size=12))


@pytest.mark.parametrize("kind", OF_THE_INPUT)
@pytest.mark.parametrize("how", ["detached", "no_grad"])
def test_an_image_that_no_gradient_reaches(kind: type[Explainer], how: str) -> None:
    model = Odd(how)
    with untouched(model), pytest.raises(AssayError, match="do not depend on the image by a grad"):
        made(kind)(Classifier(model), images(2, size=12))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(EigenCAM, {"layer": "conv"}), (ScoreCAM, {"layer": "conv"}), (Occlusion, {})],
)
@pytest.mark.parametrize("how", ["detached", "no_grad"])
def test_methods_without_gradients_do_not_need_them(
    kind: type[Explainer], settings: dict[str, str], how: str
) -> None:
    model, bare = seeded(Odd, how), seeded(Odd)
    x, y = images(2, size=16), torch.tensor([0, 2])
    with untouched(model):
        found = made(kind, **settings)(Classifier(model), x, y).raw
    torch.testing.assert_close(found, made(kind, **settings)(Classifier(bare), x, y).raw)


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("make", [plain, residual])
def test_in_place_activations_and_frozen_parameters_change_nothing(
    kind: type[Explainer], make: object
) -> None:
    x, y = images(2), torch.tensor([0, 2])
    expected = made(kind)(Classifier(seeded(make, False)), x, y)
    model = seeded(make, True)
    next(iter(model.parameters())).requires_grad_(False)
    with untouched(model), torch.inference_mode():
        found = made(kind)(Classifier(model), x + 0, y)
    assert found.layer == expected.layer
    torch.testing.assert_close(found.raw, expected.raw)
    assert not found.raw.requires_grad


@pytest.mark.parametrize("kind", EVERY)
def test_a_module_that_is_called_again_is_no_obstacle(kind: type[Explainer]) -> None:
    model = seeded(LeNet)
    with untouched(model):
        maps = made(kind)(Classifier(model), images(2), 1)
    assert maps.layer == ("conv2" if kind in OF_A_LAYER else "")
    assert float(maps.raw.abs().max()) > 0


@pytest.mark.parametrize("kind", [*EVERY, *OF_ATTENTION])
@pytest.mark.parametrize("make", [vit, hugging_face, TorchViT, Patches])
def test_transformers_are_explained_by_all(kind: type[Explainer], make: object) -> None:
    model = seeded(make)
    x, y = images(2), torch.tensor([0, 2])
    with untouched(model), torch.inference_mode():
        maps = made(kind)(Classifier(model), x + 0, y)
    assert bool(maps.layer) == (kind in OF_A_LAYER)
    assert maps.targets.tolist() == [0, 2]
    assert float(maps.raw.flatten(1).std(1).min()) > 0
    with untouched(model):  # image by image, each has the map that it has in a batch
        alone = [made(kind)(Classifier(model), x[n : n + 1], int(y[n])).raw for n in range(2)]
    torch.testing.assert_close(maps.raw, torch.cat(alone), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [*EVERY, *OF_ATTENTION])
@pytest.mark.parametrize("targets", [3, -1, torch.tensor([0, 7])])
def test_targets_that_do_not_exist(kind: type[Explainer], targets: int | Tensor) -> None:
    model = vit() if kind in OF_ATTENTION else seeded(plain)
    with untouched(model), pytest.raises(AssayError, match="but the model has 3 classes"):
        made(kind)(Classifier(model), images(2), targets)


@pytest.mark.parametrize("kind", [*BY_GRADIENT, *OF_THE_INPUT, *OF_ATTENTION])
def test_an_error_on_the_way_back_leaves_no_hook(kind: type[Explainer]) -> None:
    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = x.clone()
            if x.requires_grad:
                x.register_hook(self.fail)
            return x

        def fail(self, _: Tensor) -> Tensor:
            raise RuntimeError("backward failed")

    if kind in OF_ATTENTION:
        model = vit()
        model.norm = Fails()
    else:
        model = seeded(plain)
        model.insert(6, Fails())
    with (
        untouched(model),
        pytest.raises(AssayError, match=r"fails on .* RuntimeError: backward failed"),
    ):
        made(kind)(Classifier(model), images(2))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", [IntegratedGradients, SmoothGrad])
def test_images_of_another_precision_are_explained(kind: Any, dtype: torch.dtype) -> None:
    clf = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(48, 3)))
    x = Stream(1).rows(range(2)).uniform((3, 4, 4)).to(dtype)
    same = kind()(clf, x.float())
    assert torch.equal(kind()(clf, x).values, same.values)


def test_a_map_that_is_larger_than_the_image_is_averaged() -> None:
    raw = torch.zeros(1, 112, 112)
    raw[0, 1, 1] = 1.0  # between the places that sampling would read
    values, empty = scaled(raw, (28, 28), "bilinear")
    assert not bool(empty)
    assert float(values[0, 0, 0]) == 1.0
    assert int((values > 0).sum()) == 1
