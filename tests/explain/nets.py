"""Small networks with what trips explainers up: in-place and reused modules, skips, containers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.random import Stream
from assay.models import ViT


class Skip(nn.Module):
    """A residual block; its ReLU is called twice, and works in place if asked to."""

    def __init__(self, channels: int, inplace: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace)

    def forward(self, x: Tensor) -> Tensor:
        inside = self.relu(self.norm1(self.conv1(x)))
        out: Tensor = self.relu(self.norm2(self.conv2(inside)) + x)
        return out


class LeNet(nn.Module):
    """One ReLU and one pooling layer for everything, the linear layers included."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 5)
        self.conv2 = nn.Conv2d(4, 6, 5)
        self.pool = nn.MaxPool2d(2)
        self.relu = nn.ReLU()
        self.fc1 = nn.Linear(6 * 5 * 5, 12)
        self.fc2 = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        out: Tensor = self.fc2(self.relu(self.fc1(x.flatten(1))))
        return out


class Patches(nn.Module):
    """A vision transformer in small: patches, tokens, attention, the mean token."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 8, stride=8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        out: Tensor = self.head(self.block(tokens).mean(1))
        return out


class TorchViT(nn.Module):
    """A vision transformer of torch's own layers, whose fast path hides everything; class token."""

    def __init__(self, norm_first: bool = True) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 8, stride=8)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.positions = nn.Parameter(torch.randn(1, 17, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), patches], 1) + self.positions
        out: Tensor = self.head(self.encoder(tokens)[:, 0])
        return out


class Functional(nn.Module):
    """No module of torch at all: convolution by a function, inside a module of its own."""

    class Filter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))

        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, self.weight)

    def __init__(self) -> None:
        super().__init__()
        self.filter = self.Filter()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.filter(x).mean((2, 3)))
        return out


def plain(inplace: bool = False) -> nn.Sequential:
    """Two convolutions, each with a ReLU and a pooling layer."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(inplace),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(inplace),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 8 * 8, 3),
    )


def residual(inplace: bool = False) -> nn.Sequential:
    """Two residual blocks in a container of their own, global average, linear."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Sequential(Skip(8, inplace), Skip(8, inplace)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


def seeded(make: type[nn.Module] | object, *args: object) -> nn.Module:
    """Make a network with the same weights each time; its norms have seen something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model: nn.Module = make(*args)  # type: ignore[operator]
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, 0, 0.2)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def vit(**settings: object) -> nn.Module:
    """assay's own vision transformer, small: 4x4 patches, as many places, 3 classes."""
    config = ViT.parse({"patch": 8, "width": 16, "depth": 3, "heads": 2} | settings)
    return config.build((3, 32, 32), 3, Stream(7))


def hugging_face(kind: str = "ViT", ending: str = "", **settings: object) -> nn.Module:
    """A classifier of Hugging Face with random weights, made from its config; 4x4 patches."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    sizes = {"image_size": 32, "patch_size": 8, "hidden_size": 16, "intermediate_size": 32}
    sizes |= {"num_hidden_layers": 3, "num_attention_heads": 2, "num_labels": 3}
    config = getattr(transformers, f"{kind}Config")(**sizes | {"initializer_range": 0.3} | settings)
    return seeded(getattr(transformers, f"{kind}ForImageClassification{ending}"), config)


def swin() -> nn.Module:
    """A Swin transformer of Hugging Face: 8x8 patches, of which four are merged into one."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.SwinConfig(
        image_size=32,
        patch_size=4,
        embed_dim=8,
        depths=[1, 1],
        num_heads=[2, 2],
        window_size=4,
        num_labels=3,
    )
    return seeded(transformers.SwinForImageClassification, config)


def images(n: int, size: int = 32) -> Tensor:
    """(n, 3, size, size) in [0, 1], the same each time."""
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(11))
