"""Grad-CAM: numbers worked out by hand, and the ways a model can make it go wrong."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from contract.untouched import untouched
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.errors import AssayError
from assay.explain import GradCAM

from .nets import LeNet, Skip, images, plain, residual, seeded

IMAGE = torch.tensor([[[[0.1, 0.2], [0.3, 0.4]]]])


def two_layers(offset: float, inplace: bool = False) -> nn.Module:
    """A 1x1 convolution, A1 = 2x + offset and A2 = 1 - x; ReLU; a linear layer of 2 classes."""
    conv, head = nn.Conv2d(1, 2, 1), nn.Linear(8, 2)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([2.0, -1.0]).view(2, 1, 1, 1))
        conv.bias.copy_(torch.tensor([offset, 1.0]))
        head.weight.copy_(torch.tensor([[1, 2, 3, 4, 0, -1, 0, -3], [-1, -1, -1, -1, 1, 1, 1, 1]]))
        head.bias.zero_()
    return nn.Sequential(conv, nn.ReLU(inplace), nn.Flatten(), head)


def at(clf: Classifier, x: Tensor, target: int | None = None, layer: str = "0") -> Tensor:
    return GradCAM(layer=layer)(clf, x, target).raw


def test_by_hand_for_both_classes() -> None:
    # A > 0 everywhere, so d logit / d A is the linear layer's row.
    # class 0: weights (1+2+3+4)/4 = 2.5 and (0-1+0-3)/4 = -1: 2.5 · 2x - (1 - x) = 6x - 1
    # class 1: weights -1 and 1: -2x + (1 - x) = 1 - 3x
    clf = Classifier(two_layers(0.0))
    maps = GradCAM(layer="0")(clf, IMAGE.repeat(2, 1, 1, 1), torch.tensor([0, 1]))
    torch.testing.assert_close(maps.raw[0], torch.tensor([[-0.4, 0.2], [0.8, 1.4]]))
    torch.testing.assert_close(maps.raw[1], torch.tensor([[0.7, 0.4], [0.1, -0.2]]))
    torch.testing.assert_close(maps.values[0], torch.tensor([[0, 1 / 7], [4 / 7, 1]]))
    torch.testing.assert_close(maps.values[1], torch.tensor([[1, 4 / 7], [1 / 7, 0]]))
    assert maps.targets.tolist() == [0, 1]
    assert maps.empty.tolist() == [False, False]
    assert np.asarray(maps).dtype == np.float32


@pytest.mark.parametrize("inplace", [False, True])
def test_by_hand_before_a_relu_that_is_half_closed(inplace: bool) -> None:
    # A1 = 2x - 0.5 = -0.3, -0.1, 0.1, 0.3: the ReLU lets the gradients 3 and 4 through, so the
    # weights are 7/4 and -1: 1.75 (2x - 0.5) - (1 - x) = 4.5x - 1.875. An in-place ReLU that
    # reached the stored activation would give -0.9 instead of -1.425 in the first pixel.
    raw = at(Classifier(two_layers(-0.5, inplace)), IMAGE, 0)
    torch.testing.assert_close(raw, torch.tensor([[[-1.425, -0.975], [-0.525, -0.075]]]))


def test_by_hand_brought_to_the_size_of_the_image() -> None:
    # The layer halves the size: its map is 8 · 0 | 8 · 0.5 from left to right, 0 | 1 once scaled.
    # Bilinear at twice the size samples it at -1/4, 1/4, 3/4, 5/4: 0, 1/4, 3/4, 1.
    conv, head = nn.Conv2d(1, 1, 2, stride=2, bias=False), nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        conv.weight.fill_(0.25)
        head.weight.copy_(torch.tensor([[8.0, 8, 8, 8], [0, 0, 0, 0]]))
    clf = Classifier(nn.Sequential(conv, nn.Flatten(), head))
    x = torch.tensor([0.0, 0, 0.5, 0.5]).expand(1, 1, 4, 4)
    smooth = GradCAM()(clf, x, 0)
    torch.testing.assert_close(smooth.values[0], torch.tensor([0, 0.25, 0.75, 1]).expand(4, 4))
    torch.testing.assert_close(smooth.raw[0], torch.tensor([0.0, 4.0]).expand(2, 2))
    blocks = GradCAM(upsample="nearest")(clf, x, 0)
    torch.testing.assert_close(blocks.values[0], torch.tensor([0.0, 0, 1, 1]).expand(4, 4))


def test_largest_value_is_one_and_zero_means_no_evidence() -> None:
    maps = GradCAM()(Classifier(seeded(residual)), images(16))
    some = ~maps.empty
    assert int(some.sum()) > 0
    torch.testing.assert_close(maps.values[some].amax((1, 2)), torch.ones(int(some.sum())))
    # Far inside a region of negative evidence nothing is interpolated from positive pixels.
    nearest = GradCAM(upsample="nearest")(Classifier(seeded(residual)), images(16))
    large = nn.functional.interpolate(nearest.raw[:, None], (32, 32), mode="nearest")[:, 0]
    assert bool((nearest.values[large <= 0] == 0).all())
    assert bool((large <= 0).any())


def test_the_predicted_class_is_explained_unless_told_otherwise() -> None:
    clf, x = Classifier(seeded(plain)), images(12)
    predicted = clf.predict(x)
    maps = GradCAM()(clf, x)
    assert torch.equal(maps.targets, predicted)
    assert torch.equal(maps.raw, GradCAM()(clf, x, predicted).raw)
    assert not torch.equal(maps.raw, GradCAM()(clf, x, (predicted + 1) % 3).raw)
    assert torch.equal(GradCAM()(clf, x, 2).raw, GradCAM()(clf, x, torch.full((12,), 2)).raw)


def test_rows_do_not_depend_on_the_batch_they_are_in() -> None:
    model, x = seeded(residual), images(11)
    y = torch.arange(11) % 3
    whole = GradCAM()(Classifier(model), x, y)
    chunked = GradCAM()(Classifier(model, batch_size=4), x, y)
    torch.testing.assert_close(whole.raw, chunked.raw)
    assert torch.equal(whole.targets, chunked.targets)
    torch.testing.assert_close(whole.raw[[3]], GradCAM()(Classifier(model), x[[3]], y[[3]]).raw)


def test_at_most_rows_per_batch_are_run_at_once() -> None:
    model, seen = seeded(plain), []
    model.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    GradCAM(layer="3")(Classifier(model, batch_size=4), images(10))
    assert seen == [4, 4, 2]


def test_activations_of_earlier_chunks_are_let_go() -> None:
    model, alive = seeded(plain), []

    def count(*_: object) -> None:
        shapes = [tuple(held.shape) for held in gc.get_objects() if type(held) is Tensor]
        alive.append(shapes.count((2, 8, 16, 16)))

    model[6].register_forward_pre_hook(count)
    GradCAM(layer="4")(Classifier(model, batch_size=2), images(12))
    assert len(alive) == 6
    assert alive[-1] == alive[1] > 0


def test_nothing_before_the_layer_records_a_graph() -> None:
    class Watch(nn.Module):
        graph: bool | None = None

        def forward(self, x: Tensor) -> Tensor:
            self.graph = x.requires_grad
            return x

    before, after = Watch(), Watch()
    model = nn.Sequential(nn.Conv2d(3, 4, 3), before, nn.Conv2d(4, 4, 3), after, nn.Flatten())
    model.append(nn.Linear(4 * 28 * 28, 3))
    GradCAM(layer="2")(Classifier(model), images(2))
    assert (before.graph, after.graph) == (False, True)


# -- maps that explain nothing ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "empty"),
    [
        ([1.0, 1, 1, 1], False),  # positive where the image is
        ([-1.0, -1, -1, -1], True),  # negative everywhere
        ([0.0, 0, 0, 0], True),  # no gradient at all
    ],
)
def test_empty_maps_are_flagged(weights: list[float], empty: bool) -> None:
    conv, head = nn.Conv2d(1, 1, 1, bias=False), nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        conv.weight.fill_(1.0)
        head.weight.copy_(torch.tensor([weights, [1.0, 2, 3, 4]]))
    maps = GradCAM(layer="0")(Classifier(nn.Sequential(conv, nn.Flatten(), head)), IMAGE, 0)
    assert maps.empty.tolist() == [empty]
    assert bool((maps.values == 0).all()) == empty
    assert bool(maps.values.isfinite().all())


def test_a_constant_map_is_flagged_too() -> None:
    model = two_layers(0.0)
    flat, varied = torch.full((1, 1, 2, 2), 0.3), IMAGE
    maps = GradCAM(layer="0")(Classifier(model), torch.cat([flat, varied]), 0)
    assert float(maps.raw[0].min()) > 0
    assert maps.empty.tolist() == [True, False]
    assert float(maps.values[0].abs().max()) == 0


# -- what a model may be like ----------------------------------------------------------------------


@pytest.mark.parametrize("make", [plain, residual])
def test_in_place_relu_changes_no_map(make: object) -> None:
    x, y = images(6), torch.arange(6) % 3
    for layer in (None, "0"):
        safe = GradCAM(layer=layer)(Classifier(seeded(make, False)), x, y)
        inplace = GradCAM(layer=layer)(Classifier(seeded(make, True)), x, y)
        assert safe.layer == inplace.layer
        torch.testing.assert_close(safe.raw, inplace.raw)


def test_of_a_layer_called_twice_the_last_call_is_explained() -> None:
    class Twice(nn.Module):
        def __init__(self, shared: bool) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 3, 3, padding=1)
            self.second = self.first if shared else nn.Conv2d(3, 3, 3, padding=1)
            self.head = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.second(self.first(x).relu()).relu().mean((2, 3)))
            return out

    shared, split = seeded(Twice, True), seeded(Twice, False)
    split.load_state_dict({**shared.state_dict(), "second.bias": shared.state_dict()["first.bias"]})
    x = images(5)
    expected = GradCAM(layer="second")(Classifier(split), x)
    seen = GradCAM(layer="first")(Classifier(shared), x)
    torch.testing.assert_close(seen.raw, expected.raw)
    first = GradCAM(layer="first")(Classifier(split), x)
    assert not torch.allclose(seen.raw, first.raw)


def test_a_relu_reused_after_the_spatial_part_is_refused_by_its_last_call() -> None:
    with pytest.raises(AssayError, match=r"'relu' returns shape \(2, 12\).*no spatial extent"):
        GradCAM(layer="relu")(Classifier(seeded(LeNet)), images(2))


def test_frozen_and_half_frozen_models_are_explained_alike() -> None:
    x = images(4)
    expected = GradCAM()(Classifier(seeded(plain)), x).raw
    frozen = seeded(plain).requires_grad_(False)
    half = seeded(plain)
    half[0].requires_grad_(False)
    for model in (frozen, half):
        with untouched(model):
            assert torch.equal(GradCAM()(Classifier(model), x).raw, expected)


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_it_works_where_the_caller_switched_gradients_off(guard: type) -> None:
    clf = Classifier(seeded(residual), mean=[0.5] * 3, std=[0.2] * 3)
    expected = GradCAM()(clf, images(3)).raw
    with guard():
        maps = GradCAM()(clf, images(3) + 0)
    assert torch.equal(maps.raw, expected)


def test_images_that_require_gradients_are_left_alone() -> None:
    x = images(3).requires_grad_(True)
    maps = GradCAM()(Classifier(seeded(plain)), x)
    assert x.grad is None
    assert not maps.raw.requires_grad
    assert not maps.values.requires_grad


def test_preprocessing_that_resizes_leaves_maps_at_the_size_of_the_image() -> None:
    resize = nn.Upsample(32)
    clf = Classifier(seeded(plain), preprocess=resize)
    assert tuple(GradCAM()(clf, images(2, size=24)).values.shape) == (2, 24, 24)


def test_normalisation_is_part_of_what_is_explained() -> None:
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    model, x = seeded(residual), images(4)
    inside = GradCAM()(Classifier(model, mean=mean, std=std), x, 1).raw

    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            scaled = (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
            out: Tensor = self.model(scaled)
            return out

    torch.testing.assert_close(inside, GradCAM()(Classifier(Normalised()), x, 1).raw)


# -- mistakes --------------------------------------------------------------------------------------


class Stopped(nn.Module):
    """Logits that no gradient can reach the layer through."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 2, 3), nn.Linear(2, 3)
        self.side = nn.Conv2d(3, 2, 3)
        self.unused = nn.Conv2d(3, 2, 3)
        self.pair = nn.MaxPool2d(2, return_indices=True)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        self.pair(self.side(x))
        features = self.conv(x)
        features = features.detach() if self.how == "detached" else features
        with torch.set_grad_enabled(self.how != "no_grad"):
            out: Tensor = self.head(features.mean((2, 3)))
        return out


@pytest.mark.parametrize(
    ("how", "layer", "message"),
    [
        ("", "convv", "unknown layer 'convv': did you mean 'conv'"),
        ("", "head", r"'head' returns shape \(2, 3\), which has no spatial extent"),
        ("", "unused", "'unused' is never called"),
        ("", "pair", "'pair' returns tuple, not a tensor"),
        ("", "side", "the logits do not depend on layer 'side'"),
        ("detached", "conv", "the logits do not depend on layer 'conv'"),
        ("no_grad", "conv", "the logits do not depend on layer 'conv'"),
    ],
)
def test_a_layer_that_cannot_be_explained(how: str, layer: str, message: str) -> None:
    model = Stopped(how)
    with untouched(model), pytest.raises(AssayError, match=message):
        GradCAM(layer=layer)(Classifier(model), images(2))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (3, "targets go from 3 to 3, but the model has 3 classes, 0 to 2"),
        (-1, "targets go from -1 to -1"),
        (torch.tensor([0, 7]), "targets go from 0 to 7"),
        (torch.tensor([0, 1, 2]), r"one per image \(2,\), got \(3,\)"),
        (torch.tensor([0.0, 1.0]), "class numbers"),
        (torch.tensor([True, False]), "class numbers"),
    ],
)
def test_targets_that_do_not_fit(targets: int | Tensor, message: str) -> None:
    model = seeded(plain)
    with untouched(model), pytest.raises(AssayError, match=message):
        GradCAM()(Classifier(model), images(2), targets)


def test_no_images_and_images_out_of_range_are_mistakes() -> None:
    clf = Classifier(seeded(plain))
    with pytest.raises(AssayError, match="nothing to explain"):
        GradCAM()(clf, images(2)[:0])
    with pytest.raises(AssayError, match=r"must lie in \[0, 1\]"):
        GradCAM()(clf, images(2) * 3)


def test_gradients_that_are_not_finite_are_an_error() -> None:
    class Root(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * 0).sqrt() + x

    model = nn.Sequential(nn.Conv2d(3, 2, 3), Root(), nn.Flatten(), nn.Linear(2 * 900, 3))
    with untouched(model), pytest.raises(AssayError, match="NaN or infinite for all of 2 images"):
        GradCAM(layer="0")(Classifier(model), images(2))


# -- the model comes back --------------------------------------------------------------------------


class Fails(nn.Module):
    """Passes its input on until told to fail, forward or backward."""

    def __init__(self) -> None:
        super().__init__()
        self.where = ""
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.where == "forward" and self.calls > 2:
            raise RuntimeError("forward failed")
        if self.where == "backward" and x.requires_grad:
            x = x.clone()
            x.register_hook(self.fail)
        return x

    def fail(self, _: Tensor) -> Tensor:
        raise RuntimeError("backward failed")


@pytest.mark.parametrize("where", ["", "forward", "backward", "first forward"])
@pytest.mark.parametrize("layer", [None, "0", "1", "1.1"])
@pytest.mark.parametrize("mode", ["train", "eval", "mixed"])
def test_the_model_comes_back_as_it_was(where: str, layer: str | None, mode: str) -> None:
    fails = Fails()
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.Sequential(nn.BatchNorm2d(4), Skip(4)),
        nn.AdaptiveAvgPool2d(1),
        fails,
        nn.Flatten(),
        nn.Linear(4, 3),
    )
    model(images(4)).sum().backward()  # parameters hold gradients of their own
    model[0].weight.requires_grad_(False)
    model.train(mode != "eval")
    model[1][0].train(mode == "train")
    model[0].register_forward_hook(lambda *_: None)
    fails.where = where.removeprefix("first ")
    fails.calls = 5 if where == "first forward" else 0
    with untouched(model):
        if where:
            with pytest.raises((AssayError, RuntimeError), match="failed"):
                GradCAM(layer=layer)(Classifier(model, batch_size=2), images(6))
        else:
            GradCAM(layer=layer)(Classifier(model, batch_size=2), images(6))
