"""Channels that stand last: maps are those of the same network with channels first."""

from __future__ import annotations

import pytest
import torch
from contract.untouched import untouched
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.core.oracle import Encoded
from assay.errors import AssayError
from assay.explain import EigenCAM, Explainer, GradCAM, HiResCAM, ScoreCAM
from assay.explain.layout import channels_last

from .nets import images, seeded


class First(nn.Module):
    """A module that works on (N, H, W, C), for (N, C, H, W)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out


class Merged(nn.Module):
    """Patches, of which four are merged into one, as Swin does: channels last, or the same with
    channels first."""

    def __init__(self, last: bool) -> None:
        super().__init__()

        def placed(module: nn.Module) -> nn.Module:
            return module if last else First(module)

        self.last = last
        self.patch = nn.Conv2d(3, 6, 4, stride=4)
        self.begin = placed(nn.LayerNorm(6))
        parts = (nn.Linear(6, 12), nn.GELU(), nn.Linear(12, 12))
        self.mix = nn.Sequential(*(placed(part) for part in parts))
        self.norm = placed(nn.LayerNorm(12))
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x)
        rows, columns = (1, 2) if self.last else (2, 3)
        x = self.begin(x.permute(0, 2, 3, 1) if self.last else x)
        for axis in (rows, columns):
            x = x.unflatten(axis, (-1, 2)).mean(axis + 1)
        out: Tensor = self.head(self.norm(self.mix(x)).square().mean((rows, columns)))
        return out


class Cube(nn.Module):
    """As many channels as rows and columns, after a convolution and in a block that puts them
    last."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, stride=4)
        self.block = nn.Sequential(nn.LayerNorm(8), nn.GELU())
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.block(self.patch(x).permute(0, 2, 3, 1)).mean((1, 2)))
        return out


@pytest.mark.parametrize("kind", [GradCAM, HiResCAM, EigenCAM, ScoreCAM])
@pytest.mark.parametrize("layer", ["patch", "mix.0", "mix.1", "mix", "norm", None])
def test_maps_are_those_of_the_same_network_with_channels_first(
    kind: type[Explainer], layer: str | None
) -> None:
    last, first = seeded(Merged, True), seeded(Merged, False)
    x, y = images(3)[:, :, :24], torch.tensor([0, 1, 2])
    settings = {"layer": layer}
    with untouched(last):
        found = kind.parse(settings)(Classifier(last), x, y)
    expected = kind.parse(settings)(Classifier(first), x, y)
    assert found.layer == expected.layer == (layer or "norm")
    assert tuple(found.raw.shape) == (3, *((6, 8) if layer == "patch" else (3, 4)))
    torch.testing.assert_close(found.raw, expected.raw)


def test_a_layer_inside_of_a_convnext_of_hugging_face() -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.ConvNextConfig(
        num_stages=2, hidden_sizes=[6, 12], depths=[1, 1], num_labels=3, layer_scale_init_value=0.5
    )
    model = seeded(transformers.ConvNextForImageClassification, config)
    x = images(2, size=64)
    layer = "convnext.encoder.stages.1.layers.0.layernorm"
    with untouched(model):
        found = GradCAM(layer=layer)(Classifier(model), x, 1)
    assert GradCAM()(Classifier(model), x, 1).layer == "convnext.encoder.stages.1"
    kept: list[Tensor] = []
    model.get_submodule(layer).register_forward_hook(lambda *seen: kept.append(seen[2]))
    score = Classifier(model).logits(Encoded(x))[:, 1].sum()
    (slope,) = torch.autograd.grad(score, kept)
    assert tuple(slope.shape) == (2, 8, 8, 12)
    torch.testing.assert_close(found.raw, (slope.mean((1, 2), keepdim=True) * kept[0]).sum(3))


def test_as_many_channels_as_rows_and_columns() -> None:
    model, x = seeded(Cube), images(2)
    clf = Classifier(model)
    with (
        untouched(model),
        pytest.raises(AssayError, match=r"\(2, 8, 8, 8\), and it cannot be told"),
    ):
        GradCAM(layer="block")(clf, x, 1)
    norm, patch = (HiResCAM(layer=layer)(clf, x, 1).raw for layer in ("block.0", "patch"))
    kept: list[Tensor] = []
    for layer in (model.patch, model.block[0]):
        layer.register_forward_hook(lambda *seen: kept.append(seen[2]))
    score = clf.logits(Encoded(x))[:, 1].sum()
    slopes = torch.autograd.grad(score, kept)
    torch.testing.assert_close(patch, (slopes[0] * kept[0]).sum(1))
    torch.testing.assert_close(norm, (slopes[1] * kept[1]).sum(3))


class LayerNorm2d(nn.LayerNorm):
    """As torchvision has it: for (N, C, H, W)."""


class Scale(nn.Module):
    def __init__(self, weights: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(weights))


@pytest.mark.parametrize(
    ("module", "shape", "last"),
    [
        (nn.Conv2d(3, 8, 1), (2, 8, 4, 8), False),
        (nn.BatchNorm2d(8), (2, 4, 4, 8), False),
        (nn.LayerNorm(8), (2, 8, 8, 8), True),
        (nn.LayerNorm(8, elementwise_affine=False), (2, 4, 4, 8), True),
        (nn.LayerNorm((8, 4, 4)), (2, 8, 4, 4), None),
        (LayerNorm2d(8), (2, 8, 4, 4), False),
        (LayerNorm2d(8), (2, 4, 4, 8), True),
        (LayerNorm2d(8), (2, 8, 8, 8), None),
        (Scale(1), (2, 8, 4, 1), None),  # a number for all channels
        (nn.Linear(3, 8), (2, 4, 4, 8), True),
        (nn.Linear(3, 8), (2, 8, 8, 8), True),
        (nn.Linear(3, 4), (2, 8, 4, 4), False),  # mixes columns
        (nn.Linear(3, 7), (2, 7, 6, 7), True),  # what is left over at a border is cut off
        (nn.GELU(), (2, 4, 4, 8), None),
    ],
)
def test_what_a_layer_itself_says(
    module: nn.Module, shape: tuple[int, ...], last: bool | None
) -> None:
    assert channels_last(module, shape, (32, 32)) is last
