"""Vision transformers. The config is torch-free until it builds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from assay.config import Number
from assay.errors import AssayError
from assay.models.base import Architecture

if TYPE_CHECKING:
    from torch import nn

    from assay.core.random import Stream


class ViT(Architecture):
    """A vision transformer (Dosovitskiy et al. 2021, "An image is worth 16×16 words").

    The image is cut into patches, each a token by one linear map; learned position embeddings are
    added; then come blocks that normalise first: norm, self-attention, skip, norm, two linear
    layers with a GELU between them, skip. A last norm, and a linear layer on the class token, or on
    the mean of all tokens. Weights start as in the authors' code, Xavier's in the blocks, position
    embeddings normal with 0.02, but for the head: there it is 0, here normal with 0.02 (Touvron et
    al. 2021), so that an untrained network has gradients.

    >>> net = assay.models.ViT(patch=4, width=16, depth=1, heads=2)
    >>> net = net.build((1, 8, 8), 3, assay.Stream(0))
    >>> net(x).shape
    torch.Size([12, 3])
    """

    name: Literal["vit"] = "vit"
    """The kind of network."""
    patch: int = Field(default=4, ge=1)
    """Side of a patch, in pixels; it divides the image's."""
    stem: tuple[int, ...] = ()
    """Channels of 3×3 convolutions before the patches are cut, each of which halves the image, with
    batch norm and ReLU (Xiao et al. 2021, "Early convolutions help transformers see better"); none
    in the paper's network. It learns from far fewer images with them."""
    width: int = Field(default=64, ge=1)
    """Numbers in a token."""
    depth: int = Field(default=4, ge=1)
    """Blocks."""
    heads: int = Field(default=4, ge=1)
    """Attention heads of a block, which share the width evenly."""
    mlp_ratio: Annotated[Number, Field(gt=0)] = 4.0
    """Units between the two linear layers of a block, over the width."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Probability of zeroing a number in training: after the embedding and every linear layer of
    the blocks but those that make queries, keys and values."""
    pool: Literal["class", "mean"] = "class"
    """What the head reads: a class token of its own, or the mean of the patches' tokens."""
    fused: bool = True
    """Attention by PyTorch's fused kernel, which keeps no weights; false: step by step, with equal
    results but for rounding."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if any(channels < 1 for channels in self.stem):
            raise ValueError("every convolution of the stem must have at least 1 channel")
        if self.patch % 2 ** len(self.stem):
            raise ValueError(
                f"a stem of {len(self.stem)} convolutions halves as often, which a patch of "
                f"{self.patch} pixels does not take"
            )
        if self.width % self.heads:
            raise ValueError(f"heads={self.heads} do not share width={self.width} evenly")
        return self

    def build(self, in_shape: tuple[int, int, int], classes: int, stream: Stream) -> nn.Module:
        """Return the network, float32, from (N, C, H, W) to logits (N, classes).

        The initial weights depend on `stream` alone; torch's own generator is left as it was.

        Raises:
            AssayError: for images that are not whole patches.
        """
        from assay.models.transformer import VisionTransformer

        if in_shape[1] % self.patch or in_shape[2] % self.patch:
            raise AssayError(
                f"images of {in_shape[1]} × {in_shape[2]} pixels are not whole patches of "
                f"{self.patch} × {self.patch}; give a patch that divides both sides"
            )
        with stream.seeding():
            return VisionTransformer(self, in_shape, classes)
