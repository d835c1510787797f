"""Which layer is explained when none is named."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from contract.untouched import untouched
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.classifier import Classifier
from assay.errors import AssayError
from assay.explain import EigenCAM, Explainer, GradCAM, HiResCAM, Occlusion, ScoreCAM
from assay.explain.layout import named

from .nets import (
    Functional,
    LeNet,
    Patches,
    TorchViT,
    hugging_face,
    images,
    plain,
    residual,
    seeded,
    swin,
    vit,
)


class Squeeze(nn.Module):
    """Ends in a convolution of one channel per class, a ReLU and a global average."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())
        self.classifier = nn.Sequential(nn.Conv2d(4, 3, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x)).flatten(1)


class Gated(nn.Module):
    """A block that ends in squeeze and excitation: a 1x1 convolution of one pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Sigmoid())
        self.mix = nn.Identity()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        out: Tensor = self.head(self.mix(x * self.gate(x)).mean((2, 3)))
        return out


class Wrapped(nn.Module):
    """Someone's wrapper: the network is an attribute, and returns an object with logits."""

    def __init__(self) -> None:
        super().__init__()
        self.net = seeded(residual)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


class Preactivated(nn.Module):
    """Blocks that normalise first, as in DenseNet: norm and ReLU come after the last block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(self.stem(x)).relu().mean((2, 3)))
        return out


class Beside(nn.Module):
    """Calls a decoder last, whose output is no part of the answer."""

    def __init__(self, frozen: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 3)
        self.decoder = nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.paint = nn.Conv2d(3, 3, 1)
        self.frozen = frozen

    def forward(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(not self.frozen):
            x = self.act(self.conv(x))
            out: Tensor = self.head(x.mean((2, 3)))
        self.painted = self.paint(self.decoder(x))
        return out


class OneWay(nn.Module):
    """Has no way back: its last module raises there."""

    def __init__(self) -> None:
        super().__init__()
        self.net = seeded(plain)
        self.last = self.Round()

    class Round(nn.Module):
        class Function(torch.autograd.Function):
            @staticmethod
            def forward(_: object, x: Tensor) -> Tensor:
                return x.round(decimals=3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.Function.apply(x)
            return out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.net(x))
        return out


class Linear(nn.Module):
    """Cuts patches by a view and a linear layer, after a module that returns the image's size; it
    changes what its last norm returned in place if asked to."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace
        self.scale = nn.Identity()
        self.embed = nn.Linear(48, 8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = F.unfold(self.scale(x), 4, stride=4).mT
        tokens = self.norm(self.embed(tokens))
        if self.inplace:
            tokens.mul_(2.0)
        out: Tensor = self.head(tokens.mean(1))
        return out


class Scattered(nn.Module):
    """Features in space, or the same as tokens behind a class token that counts for nothing."""

    def __init__(self, tokens: bool) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 6, 8, stride=8)
        self.norm = nn.Identity()
        self.head = nn.Linear(6 * 16, 3)
        self.tokens = tokens

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x)
        if self.tokens:
            x = x.flatten(2).mT
            x = self.norm(torch.cat([torch.ones_like(x[:, :1]), x], 1))[:, 1:].mT
        out: Tensor = self.head(x.flatten(1))
        return out


class Summaries(nn.Module):
    """Goes on with thirty summaries of its patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 8, stride=8)
        self.mix = nn.Conv1d(16, 30, 1)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).mT
        out: Tensor = self.head(self.norm(self.mix(tokens)).mean(1))
        return out


@pytest.mark.parametrize(
    ("make", "layer"),
    [
        (plain, "4"),  # the ReLU after the last convolution, before its pooling
        (residual, "1"),  # the container whose output is that of the last block
        (LeNet, "conv2"),  # its ReLU is called again without spatial extent
        (Squeeze, "classifier.1"),  # before the global average
        (Gated, "mix"),  # after the gate, whose own convolution has a single pixel
        (Functional, "filter"),  # no convolution module: the last spatial output
        (Wrapped, "net.1"),
        (Preactivated, "norm"),
    ],
)
def test_the_layer_found(make: object, layer: str) -> None:
    model = seeded(make)
    with untouched(model):
        assert GradCAM()(Classifier(model), images(2)).layer == layer


@pytest.mark.parametrize("kind", [GradCAM, EigenCAM, ScoreCAM])
def test_what_the_answer_does_not_rest_on_is_no_layer(kind: type[Explainer]) -> None:
    model = seeded(Beside)
    nn.init.zeros_(model.head.weight)  # a gradient of 0 is one
    with untouched(model):
        assert kind.parse({})(Classifier(model), images(2)).layer == "act"


@pytest.mark.parametrize("kind", [EigenCAM, ScoreCAM])
@pytest.mark.parametrize(
    ("make", "layer"), [(partial(Beside, frozen=True), "paint"), (OneWay, "net.4")]
)
def test_without_any_gradient_it_is_the_last_block(
    kind: type[Explainer], make: object, layer: str
) -> None:
    model = seeded(make)
    with untouched(model):
        assert kind.parse({})(Classifier(model), images(2)).layer == layer


@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
def test_the_last_stage_of_a_resnet_of_hugging_face(kind: str) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8], depths=[1, 2], layer_type=kind, num_labels=3
    )
    model = seeded(transformers.ResNetForImageClassification, config)
    x, y = images(3), torch.tensor([0, 1, 2])
    with untouched(model):
        found = GradCAM()(Classifier(model), x, y)
        others = [of(Classifier(model), x, y) for of in (ScoreCAM(), Occlusion(window=16))]
    assert found.layer == "resnet.encoder.stages.1"
    assert [maps.layer for maps in others] == [found.layer, ""]
    assert tuple(found.raw.shape) == (3, 4, 4)
    # its head is a global average and a linear layer: the weights are the head's rows over 4 · 4
    kept: list[Tensor] = []
    model.get_submodule(found.layer).register_forward_hook(lambda *seen: kept.append(seen[2]))
    logits = Classifier(model).query(x)
    head = model.classifier[1]
    expected = torch.einsum("nc,nchw->nhw", head.weight / 16, kept[-1]).detach()
    torch.testing.assert_close(found.raw, expected)
    total = found.raw.sum((1, 2)) + head.bias.detach()
    torch.testing.assert_close(total, logits.diagonal())


def test_a_network_without_spatial_layers_is_refused() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 3))
    with untouched(model), pytest.raises(AssayError, match="no module of Sequential returns"):
        GradCAM()(Classifier(model), images(2, size=8))


@pytest.mark.parametrize(
    ("make", "layer"),
    [
        (vit, "blocks.2.norm1"),  # after it, the head reads none of the patches
        (partial(vit, pool="mean"), "norm"),
        (partial(vit, fused=False), "blocks.2.norm1"),
        (hugging_face, "vit.layers.2.layernorm_before"),
        (partial(hugging_face, "Beit"), "beit.layernorm"),
        (partial(hugging_face, "Dinov2WithRegisters"), "dinov2_with_registers.layernorm"),
        (swin, "swin.layernorm"),
        (TorchViT, "encoder.layers.1.norm1"),
        (partial(TorchViT, norm_first=False), "encoder.layers.0"),  # what the last attention reads
        (Patches, "block"),
        (Linear, "norm"),
        (partial(Linear, inplace=True), "norm"),
    ],
)
def test_the_layer_found_where_a_model_goes_on_with_tokens(make: object, layer: str) -> None:
    model = seeded(make)
    x, y = images(3), torch.tensor([0, 1, 2])
    with untouched(model):
        found = GradCAM()(Classifier(model), x, y)
        named = GradCAM(layer=layer)(Classifier(model), x, y)
    assert found.layer == layer
    assert tuple(found.raw.shape) == (3, *((8, 8) if model.__class__ is Linear else (4, 4)))
    assert torch.equal(found.raw, named.raw)
    assert float(found.raw.flatten(1).std(1).min()) > 1e-6


@pytest.mark.parametrize("kind", [GradCAM, HiResCAM, EigenCAM, ScoreCAM])
def test_maps_of_tokens_are_those_of_the_same_features_in_space(kind: type[Explainer]) -> None:
    spread, tokens = seeded(Scattered, False), seeded(Scattered, True)
    x, y = images(3), torch.tensor([0, 1, 2])
    with untouched(tokens):
        found = kind.parse({"layer": "norm"})(Classifier(tokens), x, y)
    expected = kind.parse({"layer": "patch"})(Classifier(spread), x, y)
    torch.testing.assert_close(found.raw, expected.raw)
    torch.testing.assert_close(found.values, expected.values)


def test_several_layers_of_tokens_and_of_space_from_one_pass() -> None:
    model, x = vit(), images(3)
    layers = ["patches", "blocks.0", "blocks.2.norm1"]
    with untouched(model):
        found = GradCAM().by_layer(Classifier(model), x, layers, 1)
    for layer in layers:
        alone = GradCAM(layer=layer)(Classifier(model), x, 1)
        torch.testing.assert_close(found[layer].raw, alone.raw)
        assert tuple(alone.raw.shape) == (3, 4, 4)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_layer_of_a_compiled_model_by_its_own_name() -> None:
    model, x = seeded(plain), images(2)
    expected = GradCAM(layer="3")(Classifier(model), x, 1).raw
    compiled = torch.compile(model, backend="eager")
    with untouched(compiled):
        for layer in ("3", "_orig_mod.3"):
            found = GradCAM(layer=layer)(Classifier(compiled), x, 1)
            torch.testing.assert_close(found.raw, expected)
        with pytest.raises(
            AssayError, match=r"unknown layer '33': did you mean '3'\? Known: 0, 1,"
        ):
            GradCAM(layer="33")(Classifier(compiled), x, 1)


def test_what_is_inside_of_a_compiled_part_has_two_names() -> None:
    model = nn.Sequential(nn.Identity(), torch.compile(seeded(plain), backend="eager"))
    modules = named(model)
    assert modules["1.3"] is modules["1._orig_mod.3"] is model[1]._orig_mod[3]


def test_tokens_that_are_no_patches_of_the_image_are_refused_by_name() -> None:
    model = seeded(Summaries)
    match = "layer 'norm' has 30 tokens, which are no grid of patches of an image of 32 × 32"
    for settings in ({"layer": "norm"}, {}):
        with untouched(model), pytest.raises(AssayError, match=match):
            GradCAM.parse(settings)(Classifier(model), images(2))


def test_tokens_that_the_answer_does_not_rest_on_are_none_either() -> None:
    model = vit()
    nn.init.zeros_(model.head.weight)
    match = "up to 'norm', and the logits depend on the patches of none by a gradient"
    with untouched(model), pytest.raises(AssayError, match=match):
        GradCAM()(Classifier(model), images(2))


def test_finding_it_takes_one_row_and_draws_nothing() -> None:
    model = seeded(residual)
    clf = Classifier(model)
    state = torch.random.get_rng_state()
    GradCAM()(clf, images(6))
    assert clf.queries == 7
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("channels", [64, 70, 128])
def test_channels_whose_pixels_stand_in_a_row_are_no_tokens(channels: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, channels, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(2),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(channels, 5),
    )
    clf, x = Classifier(model), torch.rand(2, 3, 32, 32)
    found = GradCAM()(clf, x)
    assert found.layer == "3"
    assert torch.equal(found.values, GradCAM(layer="3")(clf, x).values)


class Weighs(nn.Module):
    """Attention whose weights pass through modules, as in vit-pytorch; patches without one."""

    def __init__(self, head: str) -> None:
        super().__init__()
        self.head, self.embed, self.norm = head, nn.Linear(48, 16), nn.LayerNorm(16)
        self.softmax, self.dropout, self.end = nn.Softmax(dim=-1), nn.Dropout(0.1), nn.Linear(16, 5)
        self.last = nn.LayerNorm(16)
        self.token = nn.Parameter(torch.randn(1, 1, 16))

    def forward(self, x: Tensor) -> Tensor:
        patches = (
            x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)
        )
        tokens = torch.cat([self.token.expand(len(x), -1, -1), self.embed(patches)], 1)
        read = self.norm(tokens).unflatten(-1, (4, 4)).transpose(1, 2)
        weights = self.dropout(self.softmax(read @ read.mT))
        tokens = self.last(tokens + (weights @ read).transpose(1, 2).flatten(2))
        return self.end(tokens[:, 0] if self.head == "class" else tokens.mean(1))


@pytest.mark.parametrize(("head", "layer"), [("class", "norm"), ("mean", "last")])
def test_weights_of_attention_are_no_image(head: str, layer: str) -> None:
    torch.manual_seed(0)
    found = GradCAM()(Classifier(Weighs(head)), torch.rand(2, 3, 32, 32))
    assert (found.layer, tuple(found.raw.shape)) == (layer, (2, 8, 8))
