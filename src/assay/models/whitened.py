"""A small network that learns in few epochs: its first layer is computed, not trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field

from assay.config import Number
from assay.errors import AssayError
from assay.models.base import Architecture
from assay.models.mlp import parse_widths

if TYPE_CHECKING:
    from torch import Tensor, nn

    from assay.core.random import Stream


class Whitened(Architecture):
    """A layer that whitens patches, then stages of two convolutions, after airbench (Jordan 2024).

    The first layer is frozen: it holds the principal components of patches of the training images,
    each divided by its standard deviation, and their negatives (Jordan 2024, "94% on CIFAR-10 in
    3.29 seconds on a single GPU", section 3.1). `prepare` computes it. A convolution starts as the
    identity on its first channels, norms have biases but no scales, and the greatest value of each
    channel feeds the linear layer.

    Where airbench whitens 2×2 patches at every pixel and pools after the first convolution of each
    stage, this one whitens 4×4 patches at every other pixel and pools between stages, for less
    arithmetic (docs/log.md).

    >>> net = assay.models.Whitened(widths=(8, 8, 8)).build((3, 32, 32), 3, assay.Stream(0))
    >>> net(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 3])
    """

    name: Literal["whitened"] = "whitened"
    """The kind of network."""
    widths: Annotated[tuple[int, ...], BeforeValidator(parse_widths)] = Field(
        default=(64, 128, 256), min_length=1
    )
    """Channels of each stage; images are halved from one to the next."""
    patch: int = Field(default=4, ge=1)
    """Side of a whitened patch, in pixels."""
    patch_stride: int = Field(default=2, ge=1)
    """From one patch to the next, in pixels."""
    activation: Literal["gelu", "relu"] = Field(
        default="gelu", exclude_if=lambda activation: bool(activation == "gelu")
    )
    """What follows each norm: gelu, as in airbench; or relu, whose features are never negative, as
    detectors that prune or rescale them (ASH, SCALE) assume."""
    head_scale: Annotated[Number, Field(gt=0)] = 1 / 9
    """Factor on the logits."""

    def build(self, in_shape: tuple[int, int, int], classes: int, stream: Stream) -> nn.Module:
        """Return the network, float32, from (N, C, H, W) to logits (N, classes).

        The initial weights depend on `stream` alone; torch's own generator is left as it was. The
        first layer is random until `prepare` computes it.

        Raises:
            AssayError: for images that are smaller than what the stages halve.
        """
        from assay.models.whitening import WhitenedNet

        least = self.patch_stride * (2 ** (len(self.widths) - 1) - 1) + self.patch
        if min(in_shape[1:]) < least:
            raise AssayError(
                f"images of {in_shape[1]} × {in_shape[2]} pixels are too small for "
                f"{len(self.widths)} stages, which need {least}; give fewer widths"
            )
        with stream.seeding():
            return WhitenedNet(self, in_shape[0], classes)

    def prepare(self, module: nn.Module, x: Tensor) -> None:
        """Compute the first layer of what `build` returned from training images.

        Args:
            module: the network, changed in place.
            x: float32 (N, C, H, W), as the network will be fed them; a few thousand suffice.
        """
        from assay.models.whitening import WhitenedNet, whitening

        assert isinstance(module, WhitenedNet)
        module.whiten.weight.data.copy_(whitening(x, self.patch, self.patch_stride))
