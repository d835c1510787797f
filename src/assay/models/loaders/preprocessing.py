"""What happens to an image before a network sees it, as a differentiable function."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from assay.errors import AssayError


@dataclass(frozen=True)
class Preprocess:
    """From images in [0, 1] of any size to those that a network takes; differentiable.

    Attributes:
        side: height and width in pixels that images are brought to; None: as they are.
        crop: the middle square that is cut out before, as a share of the shorter side; None: the
            whole image is squashed to a square.
        mode: how pixels are interpolated, with antialiasing where the image shrinks.
        colour: whether grey images are made coloured, the same in each channel.
        blue_first: whether the order of colours is turned round.

    An image that already has the size is not touched: it was scaled when it was read.
    """

    side: int | None = None
    crop: float | None = 1.0
    mode: str = "bilinear"
    colour: bool = False
    blue_first: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """Return float32 (N, C', side, side) from float32 (N, C, H, W)."""
        if self.colour and x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1)
        if self.blue_first:
            if x.shape[1] != 3:
                raise AssayError(
                    f"--channels bgr goes with images of 3 channels, these have {x.shape[1]}"
                )
            x = x.flip(1)
        if self.side is None or x.shape[2:] == (self.side, self.side):
            return x
        if self.crop is not None:
            height, width = x.shape[2:]
            kept = max(1, round(min(height, width) * self.crop))
            top, left = (height - kept) // 2, (width - kept) // 2
            x = x[:, :, top : top + kept, left : left + kept]
        scaled = F.interpolate(
            x, (self.side, self.side), mode=self.mode, antialias=self.mode != "nearest"
        )
        # bicubic weights are negative in places, and pixels end at 0 and 1
        return scaled.clamp(0, 1) if self.mode == "bicubic" else scaled
