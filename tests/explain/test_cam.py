"""Class activation maps: several layers from one pass, and what a singular vector leaves open."""

from __future__ import annotations

import pytest
import torch
from contract.untouched import untouched
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.errors import AssayError
from assay.explain import EigenCAM, GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, ScoreCAM
from assay.explain.cam import ActivationMap

from .nets import LeNet, images, plain, residual, seeded

KINDS: list[type[ActivationMap]] = [GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, EigenCAM]

each = pytest.mark.parametrize("kind", KINDS)


@each
@pytest.mark.parametrize("inplace", [False, True])
def test_maps_of_several_layers_are_those_of_each_alone(
    kind: type[ActivationMap], inplace: bool
) -> None:
    # a container and its last child, a ReLU that is called twice, the first layer and the last
    layers = ("0", "1.0.conv1", "1.0.relu", "1.0", "1.1.norm2", "1")
    model, x, y = seeded(residual, inplace), images(3, size=12), torch.arange(3)
    with untouched(model):
        maps = kind().by_layer(Classifier(model, batch_size=2), x, layers, y)
    assert tuple(maps) == layers
    for layer, found in maps.items():
        alone = kind(layer=layer)(Classifier(model), x, y)
        assert found.layer == layer
        assert torch.equal(found.targets, y)
        torch.testing.assert_close(found.raw, alone.raw, rtol=1e-4, atol=1e-6)
        assert torch.equal(found.empty, alone.empty)


def test_several_layers_take_one_forward_and_one_backward_pass() -> None:
    passes = {"forward": 0, "backward": 0}

    class Count(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            passes["forward"] += 1
            x = x.clone()
            if x.requires_grad:
                x.register_hook(self.back)
            return x

        def back(self, _: Tensor) -> None:
            passes["backward"] += 1

    model = seeded(plain)
    model.insert(7, Count())
    clf = Classifier(model)
    maps = GradCAM().by_layer(clf, images(6), ["0", "1", "3", "4"], 1)
    assert len(maps) == 4
    assert passes == {"forward": 1, "backward": 1}
    assert clf.queries == 6


def test_several_layers_where_one_cannot_be_explained() -> None:
    model = seeded(LeNet)
    for layers, message in (
        (["conv1", "conv3"], "unknown layer 'conv3': did you mean 'conv"),
        (["conv1", "fc1"], "'fc1' returns shape .* no spatial extent"),
        ([], "holds no names"),
    ):
        with untouched(model), pytest.raises(AssayError, match=message):
            GradCAM().by_layer(Classifier(model), images(2), layers)


def test_a_layer_named_twice_is_explained_once() -> None:
    assert list(LayerCAM().by_layer(Classifier(seeded(plain)), images(2), ["3", "3"])) == ["3"]


@each
def test_a_shared_module_goes_by_both_its_names(kind: type[ActivationMap]) -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 3, 3, padding=1)
            self.second = self.first
            self.head = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.second(self.first(x).relu()).relu().mean((2, 3)))
            return out

    clf, x = Classifier(seeded(Shared)), images(3)
    first, second = (kind(layer=layer)(clf, x, 0) for layer in ("first", "second"))
    assert torch.equal(first.raw, second.raw)


@each
def test_a_layer_that_one_batch_calls_and_the_next_does_not(kind: type[ActivationMap]) -> None:
    class Dark(nn.Module):
        """Takes another way where the images are dark."""

        def __init__(self) -> None:
            super().__init__()
            self.day, self.night = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
            self.head = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            way = self.day if float(x.mean()) > 0.3 else self.night
            out: Tensor = self.head(way(x).relu().mean((2, 3)))
            return out

    x = images(4, size=8)
    x[2:] *= 0.1
    model = seeded(Dark)
    with untouched(model), pytest.raises(AssayError, match="'day' is never called"):
        kind(layer="day")(Classifier(model, batch_size=2), x)


@each
def test_rows_do_not_depend_on_the_batch_they_are_in(kind: type[ActivationMap]) -> None:
    model, x, y = seeded(residual), images(7, size=12), torch.arange(7) % 3
    whole = kind()(Classifier(model), x, y).raw
    torch.testing.assert_close(whole, kind()(Classifier(model, batch_size=3), x, y).raw)
    torch.testing.assert_close(whole[[4]], kind()(Classifier(model), x[[4]], y[[4]]).raw)


@pytest.mark.parametrize("layer", ["0", "3"])
def test_eigen_cam_is_the_first_singular_vector(layer: str) -> None:
    # in layer 0 there are more places than channels; in the other, of 2x2 pixels, fewer
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(16),
        nn.Conv2d(6, 9, 1),
        nn.Flatten(),
        nn.Linear(36, 3),
    )
    model, x, kept = seeded(lambda: model), images(4), []
    model[int(layer)].register_forward_hook(lambda *seen: kept.append(seen[2].detach()))
    raw = EigenCAM(layer=layer)(Classifier(model), x).raw
    for found, channels in zip(raw, kept[-1].double(), strict=True):
        _, values, vectors = torch.linalg.svd(channels.flatten(1).T, full_matrices=False)
        expected = channels.flatten(1).T @ vectors[0]
        torch.testing.assert_close(found.flatten().abs().double(), expected.abs())
        assert float(found.norm()) == pytest.approx(float(values[0]), rel=1e-5)
        assert float(found.sum()) > 0


def test_eigen_cam_asks_for_no_gradient() -> None:
    model = seeded(plain)
    model[4].register_forward_hook(lambda _, __, out: out.detach())
    expected = EigenCAM(layer="3")(Classifier(seeded(plain)), images(3)).raw
    assert torch.equal(EigenCAM(layer="3")(Classifier(model), images(3)).raw, expected)


@pytest.mark.parametrize("kind", [EigenCAM, ScoreCAM])
def test_activations_that_are_not_finite_are_an_error(kind: type[EigenCAM | ScoreCAM]) -> None:
    class Root(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x - 1).sqrt()

    class Unhurt(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.nan_to_num()

    model = nn.Sequential(nn.Conv2d(3, 2, 3), Root(), Unhurt(), nn.Flatten(), nn.Linear(2 * 900, 3))
    with untouched(model), pytest.raises(AssayError, match="NaN or infinite for all of 2 images"):
        kind(layer="1")(Classifier(model), images(2))
