"""Plain and residual convolutional networks. The config is torch-free until it builds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from assay.models.base import Architecture

if TYPE_CHECKING:
    from torch import nn

    from assay.core.random import Stream


class CNN(Architecture):
    """A stem, stages of two-convolution blocks, a global average and a linear layer.

    A block is conv3×3, norm, ReLU, conv3×3, norm, then its input is added where there is a skip,
    then ReLU (He et al. 2016). With the defaults this is the course's network: no norm, no stride,
    no pooling before the global average, and no skip in a block that widens.

    >>> net = assay.models.CNN(depths=(1, 1), widths=(4, 8), skip=True)
    >>> net = net.build((1, 8, 8), 3, assay.Stream(0))
    >>> net(x).shape
    torch.Size([12, 3])
    """

    name: Literal["cnn"] = "cnn"
    """The kind of network."""
    depths: tuple[int, ...] = Field(default=(2, 2), min_length=1)
    """Blocks in each stage."""
    widths: tuple[int, ...] = Field(default=(16, 32), min_length=1)
    """Channels in each stage; the stem has those of the first."""
    skip: bool = False
    """Add a block's input to its output where their shapes agree."""
    shortcut: Literal["none", "pad", "projection"] = "none"
    """With `skip`, what a block that changes shape adds: nothing (the course), its input
    subsampled and padded with zero channels (He et al. 2016, option A), or a strided 1×1
    convolution of it (option B)."""
    norm: Literal["none", "batch"] = "none"
    """Normalisation after each convolution."""
    stem_stride: int = Field(default=1, ge=1)
    """Stride of the first convolution, in pixels."""
    stage_stride: int = Field(default=1, ge=1)
    """Stride of the first block of each stage but the first."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Probability of zeroing a feature before the linear layer in training."""
    activation: Literal["relu", "silu"] = Field(
        default="relu", exclude_if=lambda activation: bool(activation == "relu")
    )
    """What follows each norm and sum: ReLU; or SiLU, x · sigmoid(x), whose gradient is smooth, for
    adversarial training (Xie et al. 2020; Gowal et al. 2020)."""
    init: Literal["default", "he"] = "default"
    """Initial weights: PyTorch's own (uniform, ±1/sqrt(fan in)), or He et al. 2015 (fan out)."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if len(self.depths) != len(self.widths):
            raise ValueError(
                f"depths and widths say one number per stage each, but there are "
                f"{len(self.depths)} depths and {len(self.widths)} widths"
            )
        if min(*self.depths, *self.widths) < 1:
            raise ValueError("every depth and width must be at least 1")
        if self.shortcut != "none" and not self.skip:
            raise ValueError(f"shortcut={self.shortcut!r} needs skip=true")
        return self

    def build(self, in_shape: tuple[int, int, int], classes: int, stream: Stream) -> nn.Module:
        """Return the network, float32, from (N, C, H, W) to logits (N, classes).

        The initial weights depend on `stream` alone; torch's own generator is left as it was.
        """
        from assay.models.blocks import ConvNet

        with stream.seeding():
            return ConvNet(self, in_shape[0], classes)
