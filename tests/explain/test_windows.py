"""The layer found is in image layout, whatever layouts a model works in: a bright patch on a grey
image shows in the map's cell at its place."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from assay.core.classifier import Classifier
from assay.errors import AssayError
from assay.explain import EigenCAM, GradCAM
from assay.explain.base import held
from assay.explain.layers import cut, find_layer, output_of, spatial
from assay.explain.tokens import measured
from explain.nets import hugging_face, images, seeded, swin, vit

SIZE = 32


class Windows(nn.Module):
    """Attention within windows of P × P pixels, or among pixels P apart (a grid), as in MaxViT.

    Windows stand in the batch, (N · n, P, P, C), or on an axis of their own, (N, n, P², C).
    """

    def __init__(self, width: int, window: int, grid: bool, apart: bool) -> None:
        super().__init__()
        self.window, self.grid, self.apart = window, grid, apart
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:  # (N, H, W, C)
        n, high, wide, c = x.shape
        p = self.window
        cut = (high // p, p, wide // p, p)
        x = x.unflatten(2, cut[2:]).unflatten(1, cut[:2])  # (N, a, P, b, P, C)
        x = x.permute(0, 2, 4, 1, 3, 5) if self.grid else x.permute(0, 1, 3, 2, 4, 5)
        shape = x.shape
        x = x.reshape(-1, p, p, c) if self.apart else x.reshape(n, -1, p * p, c)
        read = self.norm1(x).view(*x.shape[: -3 if self.apart else -2], -1, c)
        weights = (read @ read.mT / c**0.5).softmax(-1)
        x = x + 0.1 * self.mix(weights @ read).view_as(x)  # layer scale, as timm has it
        x = (x + 0.1 * self.mlp(self.norm2(x))).view(shape)
        x = x.permute(0, 3, 1, 4, 2, 5) if self.grid else x.permute(0, 1, 3, 2, 4, 5)
        return x.reshape(n, high, wide, c)


class MaxViT(nn.Module):
    """A MaxViT in small (Tu et al. 2022): convolutions, then windows, then a grid, twice."""

    def __init__(self, window: int = 4, apart: bool = False, norm: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 2, 2)
        self.stages = nn.ModuleList()
        for before, width in ((8, 8), (8, 12)):
            convolve = nn.Sequential(nn.Conv2d(before, width, 2, 2), nn.GELU())
            parts = (Windows(width, window, grid, apart) for grid in (False, True))
            self.stages.append(nn.ModuleList([convolve, *parts]))
        self.norm = nn.LayerNorm(12) if norm else None
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for convolve, *parts in self.stages:
            x = convolve(x).permute(0, 2, 3, 1)
            for part in parts:
                x = part(x)
            x = x.permute(0, 3, 1, 2)
        x = x.mean((2, 3))
        return self.head(x if self.norm is None else self.norm(x))


def hierarchical(kind: str) -> nn.Module:
    """Swin v2 or ConvNeXt of Hugging Face."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    settings = {
        "Swinv2": {"embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4},
        "Swin": {"embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4},
        "ConvNext": {"hidden_sizes": [8, 12], "depths": [1, 1], "num_stages": 2},
    }[kind]
    config = getattr(transformers, f"{kind}Config")(
        image_size=SIZE, patch_size=4, num_labels=3, **settings
    )
    return seeded(getattr(transformers, f"{kind}ForImageClassification"), config)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "swin": partial(hierarchical, "Swin"),
    "swin, one stage": swin,
    "swin v2": partial(hierarchical, "Swinv2"),
    "convnext": partial(hierarchical, "ConvNext"),
    "deit": partial(hugging_face, "DeiT"),
    "deit, distilled": partial(hugging_face, "DeiT", "WithTeacher"),
    "beit": partial(hugging_face, "Beit"),
    "dinov2, registers": partial(hugging_face, "Dinov2WithRegisters"),
    "vit": hugging_face,
    "our vit": vit,
    "maxvit, windows apart": partial(seeded, MaxViT, 4, True),
    "maxvit, windows in rows": partial(seeded, MaxViT, 4, False),
    "maxvit, no last norm": partial(seeded, MaxViT, 4, False, False),
    "maxvit, windows of 2": partial(seeded, MaxViT, 2, False),
    "maxvit, windows of 2 apart": partial(seeded, MaxViT, 2, True),
}


def spots() -> tuple[Tensor, list[tuple[int, int]]]:
    """A grey image, and the same with a bright patch of 8 × 8 pixels at each of 16 places."""
    places = [(row, column) for row in range(0, SIZE, 8) for column in range(0, SIZE, 8)]
    x = torch.full((1 + len(places), 3, SIZE, SIZE), 0.4)
    for image, (row, column) in zip(x[1:], places, strict=True):
        image[:, row : row + 8, column : column + 8] = torch.tensor([1.0, 0.9, 0.8])[:, None, None]
    return x, places


@pytest.mark.parametrize("name", MODELS)
def test_a_bright_patch_shows_at_its_place(name: str) -> None:
    clf = Classifier(MODELS[name]())
    x, places = spots()
    with held(clf):
        layer = find_layer(clf, x[:1])
        with cut(clf.model, (layer,)) as outputs, measured(clf.model) as sizes:
            clf.logits(clf.encode(x))
            seen = spatial(output_of(outputs, layer, sizes).detach(), layer, sizes)
    change = (seen[1:] - seen[:1]).norm(dim=1)
    high, wide = change.shape[1:]
    assert high == wide >= 4
    found = change.flatten(1).argmax(1)
    at = torch.stack([found // wide, found % wide], 1) * SIZE // high
    inside = [
        (r <= a < r + 8) and (c <= b < c + 8)
        for (a, b), (r, c) in zip(at.tolist(), places, strict=True)
    ]
    assert sum(inside) >= 15, (layer, tuple(seen.shape), inside)


@pytest.mark.parametrize("name", MODELS)
def test_maps_are_of_the_images_they_are_asked_for(name: str) -> None:
    clf, x = Classifier(MODELS[name]()), images(3)
    for kind in (GradCAM(), EigenCAM()):
        maps = kind(clf, x)
        assert tuple(maps.values.shape) == (3, SIZE, SIZE)
        alone = kind(clf, x[1:2])
        torch.testing.assert_close(maps.raw[1:2], alone.raw, rtol=1e-3, atol=1e-5)


def test_a_layer_inside_of_windows_is_refused_by_name() -> None:
    model = seeded(MaxViT, 2, True)
    match = r"'stages.1.1.norm2' returns shape \(12, 2, 2, 12\) for 3 images: it works on parts"
    with pytest.raises(AssayError, match=match):
        GradCAM(layer="stages.1.1.norm2")(Classifier(model), images(3))
