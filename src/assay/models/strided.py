"""Convolutions with strides and fully connected layers. Torch-free until it builds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from assay.config import Number
from assay.models.base import Architecture

if TYPE_CHECKING:
    from torch import Tensor, nn

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
    ramp: tuple[Number, Number] | None = Field(
        default=None, exclude_if=lambda ramp: bool(ramp is None)
    )
    """Two levels of brightness, 0 that of the darkest training pixel and 1 that of the brightest:
    what is darker than the first is black to the first convolution, what is brighter than the
    second white, with a straight line between. On images that are nearly black and white, as digits
    are, a budget then moves edges alone. None: no such layer."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.ramp is not None and not 0 <= self.ramp[0] < self.ramp[1] <= 1:
            raise ValueError(
                f"ramp: {self.ramp[0]:g} and {self.ramp[1]:g} are no two levels of brightness that "
                "rise within 0 and 1, such as 0.4 and 0.6"
            )
        if not len(self.widths) == len(self.kernels) == len(self.strides):
            raise ValueError(
                "widths, kernels and strides say one number per convolution each, but there are "
                f"{len(self.widths)}, {len(self.kernels)} and {len(self.strides)}"
            )
        return self

    def build(self, in_shape: tuple[int, int, int], classes: int, stream: Stream) -> nn.Module:
        """Return the network, float32, from (N, C, H, W) to logits (N, classes).

        The initial weights depend on `stream` alone; torch's own generator is left as it was. A
        ramp is between levels of [0, 1] until `prepare` finds the brightness of training images.

        Raises:
            AssayError: for images that a kernel does not fit in.
        """
        from assay.models.blocks import strided

        with stream.seeding():
            return strided(self, in_shape, classes)

    def prepare(self, module: nn.Module, x: Tensor) -> None:
        """Set the levels of what `build` returned from training images; without a ramp, nothing.

        Args:
            module: the network, changed in place.
            x: float32 (N, C, H, W), as the network will be fed them; a few thousand suffice.
        """
        from assay.models.blocks import Ramp

        if self.ramp is not None:
            ramp = next(module.children())
            assert isinstance(ramp, Ramp)
            ramp.between(self.ramp, x.amin((0, 2, 3)), x.amax((0, 2, 3)))
