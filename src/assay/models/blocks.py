"""What the networks are made of: the torch side of the configs in `mlp` and `cnn`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.errors import AssayError
from assay.models.cnn import CNN
from assay.models.mlp import MLP
from assay.models.strided import Strided

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
}


class Residual(nn.Module):
    """`x + body(x)`."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)  # type: ignore[no-any-return]


def mlp(config: MLP, in_shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Return the layers of an MLP from (N, C, H, W) to logits (N, classes)."""
    layers: list[nn.Module] = [nn.Flatten()]
    before = math.prod(in_shape)
    for width in config.widths:
        linear = nn.Linear(before, width)
        _initialise(linear, config.init)
        parts: list[nn.Module] = [linear, ACTIVATIONS[config.activation]()]
        if config.norm != "none":
            norm = nn.BatchNorm1d if config.norm == "batch" else nn.LayerNorm
            parts.append(norm(width))
        if config.dropout:
            parts.append(nn.Dropout(config.dropout))
        body = nn.Sequential(*parts)
        layers.append(Residual(body) if config.residual and before == width else body)
        before = width
    head = nn.Linear(before, classes)
    _initialise(head, config.init)
    return nn.Sequential(*layers, head)


def _initialise(linear: nn.Linear, init: str) -> None:
    if init == "he":
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
    elif init == "xavier":
        nn.init.xavier_uniform_(linear.weight)
    if init != "default":
        nn.init.zeros_(linear.bias)


def _relu(x: Tensor) -> Tensor:
    # In place: a tenth of the time on a CPU, where every tensor of this size is a new page.
    return F.relu(x, inplace=True)


BETWEEN: dict[str, Callable[[Tensor], Tensor]] = {"relu": _relu, "silu": F.silu}
"""What a CNN has after its norms."""


class Block(nn.Module):
    """Two convolutions 3×3 and, with a skip, the input added before the last ReLU."""

    def __init__(self, config: CNN, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = convolution(config, before, width, stride)
        self.norm1 = normalisation(config, width)
        self.conv2 = convolution(config, width, width, 1)
        self.norm2 = normalisation(config, width)
        same = before == width and stride == 1
        shortcut = "identity" if same else config.shortcut
        self.shortcut: nn.Module | None = None
        if config.skip and shortcut == "identity":
            self.shortcut = nn.Identity()
        elif config.skip and shortcut == "pad":
            self.shortcut = Pad(width - before, stride)
        elif config.skip and shortcut == "projection":
            self.shortcut = nn.Sequential(
                convolution(config, before, width, stride, kernel=1),
                normalisation(config, width),
            )

        self.activation = BETWEEN[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.shortcut is not None:
            y += self.shortcut(x)
        return self.activation(y)


class Pad(nn.Module):
    """Every `stride`-th pixel, with `channels` channels of zeros appended (He et al. 2016, A)."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels = channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.channels))


class ConvNet(nn.Module):
    """The network of a `CNN` config: (N, C, H, W) to logits (N, classes)."""

    def __init__(self, config: CNN, channels: int, classes: int) -> None:
        super().__init__()
        before = config.widths[0]
        self.stem = convolution(config, channels, before, config.stem_stride)
        self.norm = normalisation(config, before)
        self.activation = BETWEEN[config.activation]
        stages: list[nn.Module] = []
        for stage, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True)):
            blocks: list[nn.Module] = []
            for block in range(depth):
                stride = config.stage_stride if stage and not block else 1
                blocks.append(Block(config, before, width, stride))
                before = width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        self.head = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.norm(self.stem(x)))
        x = self.stages(x)
        return self.head(self.dropout(x.mean((2, 3))))  # type: ignore[no-any-return]


class Ramp(nn.Sequential):
    """Each channel from 0 at its first level to 1 at its second, and cut off there; not trained."""

    def __init__(self, channels: int, levels: tuple[float, float]) -> None:
        super().__init__(nn.Conv2d(channels, channels, 1, groups=channels), nn.Hardtanh(0, 1))
        self.requires_grad_(False)
        self.between(levels, torch.zeros(channels), torch.ones(channels))

    def between(self, levels: tuple[float, float], dark: Tensor, bright: Tensor) -> None:
        """Set the levels, where `dark` (C,) counts as 0 and `bright` (C,) as 1."""
        low, high = levels
        reach = (bright - dark).clamp_min(torch.finfo(dark.dtype).tiny)
        conv = self[0]
        assert isinstance(conv, nn.Conv2d)
        assert conv.bias is not None
        conv.weight.copy_((1 / (reach * (high - low))).view(-1, 1, 1, 1))
        conv.bias.copy_(-(dark / reach + low) / (high - low))


def strided(config: Strided, in_shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Return the layers of a `Strided` network from (N, C, H, W) to logits (N, classes)."""
    before, *sides = in_shape
    layers: list[nn.Module] = []
    for width, kernel, stride in zip(config.widths, config.kernels, config.strides, strict=True):
        if kernel > min(sides):
            raise AssayError(
                f"a kernel of {kernel}×{kernel} does not fit in {sides[0]}×{sides[1]} pixels: give "
                f"fewer convolutions, smaller kernels or smaller strides than {config.strides}"
            )
        layers += [nn.Conv2d(before, width, kernel, stride), nn.ReLU()]
        sides = [(side - kernel) // stride + 1 for side in sides]
        before = width
    layers.append(nn.Flatten())
    units = before * sides[0] * sides[1]
    for width in config.hidden:
        layers += [nn.Linear(units, width), nn.ReLU()]
        units = width
    if config.init == "ibp":
        for layer in layers:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                fan_in = layer.weight[0].numel()
                nn.init.normal_(layer.weight, std=math.sqrt(2 * math.pi) / fan_in)
    if config.ramp is not None:
        layers.insert(0, Ramp(in_shape[0], config.ramp))
    return nn.Sequential(*layers, nn.Linear(units, classes))


def convolution(config: CNN, before: int, width: int, stride: int, kernel: int = 3) -> nn.Conv2d:
    """Return a convolution; it has a bias where no norm follows that would cancel it."""
    conv = nn.Conv2d(before, width, kernel, stride, padding=kernel // 2, bias=config.norm == "none")
    if config.init == "he":
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
    return conv


def normalisation(config: CNN, width: int) -> nn.Module:
    return nn.BatchNorm2d(width) if config.norm == "batch" else nn.Identity()


def parameter_count(model: nn.Module) -> int:
    """Return how many numbers training may change."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
