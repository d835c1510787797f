"""The torch side of the `Whitened` config."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.models.whitened import Whitened

Activation = Callable[[Tensor], Tensor]
ACTIVATIONS: Mapping[str, Activation] = {"gelu": F.gelu, "relu": F.relu}

FLOOR = 5e-4
"""Added to the variance of a component, so that one that hardly varies is not all noise."""

MOMENTUM = 0.4
"""How fast the running statistics of a norm follow: a training has few steps."""


class WhitenedNet(nn.Module):
    """The network of a `Whitened` config: (N, C, H, W) to logits (N, classes)."""

    def __init__(self, config: Whitened, channels: int, classes: int) -> None:
        super().__init__()
        patch, stride = config.patch, config.patch_stride
        before = 2 * channels * patch * patch
        padding = (patch - stride) // 2 if patch > stride else 0
        self.whiten = nn.Conv2d(channels, before, patch, stride, padding)
        self.whiten.weight.requires_grad_(False)
        assert self.whiten.bias is not None
        nn.init.zeros_(self.whiten.bias)
        self.activation = ACTIVATIONS[config.activation]
        stages = []
        for width in config.widths:
            stages.append(Stage(before, width, self.activation))
            before = width
        self.stages = nn.ModuleList(stages)
        self.head = nn.Linear(before, classes, bias=False)
        self.head_scale = config.head_scale

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.whiten(x))
        for k, stage in enumerate(self.stages):
            x = stage(F.max_pool2d(x, 2) if k else x)
        return self.head(x.amax((2, 3))) * self.head_scale  # type: ignore[no-any-return]


class Stage(nn.Module):
    """Two convolutions 3×3, each with its norm and activation."""

    def __init__(self, before: int, width: int, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self.conv1 = _convolution(before, width)
        self.norm1 = _norm(width)
        self.conv2 = _convolution(width, width)
        self.norm2 = _norm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.norm1(self.conv1(x)))
        return self.activation(self.norm2(self.conv2(x)))


def _convolution(before: int, width: int) -> nn.Conv2d:
    """Return a convolution that copies its input to its first channels, as far as they go."""
    conv = nn.Conv2d(before, width, 3, padding=1, bias=False)
    nn.init.dirac_(conv.weight.data[:before])
    return conv


def _norm(width: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(width, momentum=MOMENTUM)
    norm.weight.requires_grad_(False)
    return norm


def whitening(x: Tensor, patch: int, stride: int) -> Tensor:
    """Return filters whose answers to the patches of `x` are uncorrelated and of variance 1.

    Args:
        x: float32 (N, C, H, W).
        patch: side of a patch.
        stride: from one patch to the next.

    Returns:
        float32 (2 · C · patch², C, patch, patch): components from the one that varies most, about
        zero, to the one that varies least, then their negatives.
    """
    channels = x.shape[1]
    rows = F.unfold(x.contiguous(), patch, stride=stride).transpose(1, 2)
    rows = rows.reshape(-1, channels * patch * patch)
    variance, component = torch.linalg.eigh(rows.T @ rows / len(rows))  # smallest first
    filters = (component / torch.sqrt(variance.clamp_min(0) + FLOOR)).T.flip(0)
    return torch.cat([filters, -filters]).view(-1, channels, patch, patch)
