"""What happens to an image before a network sees it, as a differentiable function."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from assay.core.crop import middle_square
from assay.errors import AssayError


@dataclass(frozen=True)
class Preprocess:
    """From images in [0, 1] of any size to those that a network takes; differentiable.

    Attributes:
        side: height and width in pixels that images are brought to; None: as they are.
        crop: what is kept of an image, as in `core.crop`: the middle square, as a share of the
            shorter side; negative, of the image squashed to a square; None: all of it, squashed.
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
        size, (top, left) = (self.side, self.side), (0, 0)
        if self.crop == 1:
            shorter = min(x.shape[2:])
            above, before = ((length - shorter) // 2 for length in x.shape[2:])
            x = x[:, :, above : above + shorter, before : before + shorter]
        elif self.crop is not None:
            size, (top, left) = middle_square(x.shape[2], x.shape[3], self.side, self.crop)
        nearest = self.mode == "nearest"  # Pillow's: torch calls that one exact
        mode = "nearest-exact" if nearest else self.mode
        scaled = F.interpolate(x, size, mode=mode, antialias=not nearest)
        scaled = scaled[:, :, top : top + self.side, left : left + self.side]
        # bicubic weights are negative in places, and pixels end at 0 and 1
        return scaled.clamp(0, 1) if self.mode == "bicubic" else scaled
