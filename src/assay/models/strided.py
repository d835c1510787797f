"""Convolutions with strides and fully connected layers. Torch-free until it builds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from assay.models.base import Architecture

if TYPE_CHECKING:
    from torch import nn

    from assay.core.random import Stream


class Strided(Architecture):
    """Convolutions, a ReLU after each, then linear layers: no skip, no norm, nothing pooled.

    What interval bounds are tightest on. The defaults are the small network of Gowal et al. 2018.

    >>> net = assay.models.Strided(widths=(4,), kernels=(3,), strides=(2,))
    >>> net = net.build((1, 8, 8), 3, assay.Stream(0))
    >>> net(x).shape
    torch.Size([12, 3])
    """

    name: Literal["strided"] = "strided"
    """The kind of network."""
    widths: tuple[PositiveInt, ...] = Field(default=(16, 32), min_length=1)
    """Channels of each convolution."""
    kernels: tuple[PositiveInt, ...] = (4, 4)
    """Side of each convolution's kernel, in pixels; edges are not padded."""
    strides: tuple[PositiveInt, ...] = (2, 1)
    """Stride of each convolution, in pixels."""
    hidden: tuple[PositiveInt, ...] = (100,)
    """Units of the linear layers between the convolutions and the logits."""
    init: Literal["default", "ibp"] = Field(
        default="default", exclude_if=lambda init: bool(init == "default")
    )
    """Initial weights: PyTorch's own (uniform, ±1/sqrt(fan in)); or, in all layers but the last,
    normal with a standard deviation of sqrt(2π) / fan in, by which the mean radius of a box stays
    as it is from ReLU to ReLU (Shi et al. 2021, "Fast certified robust training with short
    warmup")."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if not len(self.widths) == len(self.kernels) == len(self.strides):
            raise ValueError(
                "widths, kernels and strides say one number per convolution each, but there are "
                f"{len(self.widths)}, {len(self.kernels)} and {len(self.strides)}"
            )
        return self

    def build(self, in_shape: tuple[int, int, int], classes: int, stream: Stream) -> nn.Module:
        """Return the network, float32, from (N, C, H, W) to logits (N, classes).

        The initial weights depend on `stream` alone; torch's own generator is left as it was.

        Raises:
            AssayError: for images that a kernel does not fit in.
        """
        from assay.models.blocks import strided

        with stream.seeding():
            return strided(self, in_shape, classes)
