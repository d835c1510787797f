"""Which layer is explained when none is named."""

from __future__ import annotations

import pytest
import torch
from contract.untouched import untouched
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.errors import AssayError
from assay.explain import GradCAM, Occlusion, ScoreCAM

from .nets import Functional, LeNet, Patches, images, plain, residual, seeded


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


def test_a_transformer_is_refused_rather_than_explained_by_its_patches() -> None:
    model = seeded(Patches)
    with untouched(model), pytest.raises(AssayError, match=r"after 'patch'.*tokens"):
        GradCAM()(Classifier(model), images(2))
    assert len(GradCAM(layer="patch")(Classifier(model), images(2))) == 2


def test_finding_it_takes_one_row_and_draws_nothing() -> None:
    model = seeded(residual)
    clf = Classifier(model)
    state = torch.random.get_rng_state()
    GradCAM()(clf, images(6))
    assert clf.queries == 7
    assert torch.equal(torch.random.get_rng_state(), state)
