"""Small networks with what trips explainers up: in-place and reused modules, skips, containers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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


def images(n: int, size: int = 32) -> Tensor:
    """(n, 3, size, size) in [0, 1], the same each time."""
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(11))
