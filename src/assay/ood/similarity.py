"""How alike two images are, as people see it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from assay.errors import AssayError

WINDOW, SIGMA = 11, 1.5
LUMINANCE, CONTRAST = 0.01**2, 0.03**2  # K₁ and K₂ of the paper, for values in [0, 1]


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the structural similarity of pairs of images: (N,), 1 for equal ones, -1 at the least.

    Means, variances and covariance under a Gaussian window of 11 × 11 pixels (σ 1.5), wherever it
    fits whole, averaged over places and channels (Wang et al. 2004, "Image quality assessment: from
    error visibility to structural similarity"). Images with a side of less than 11 pixels are seen
    through the largest odd window that fits.

    Args:
        a, b: float (N, C, H, W) in [0, 1].

    Raises:
        AssayError: for images of other shapes.

    >>> bool((ssim(x, x) == 1).all())
    True
    >>> bool((ssim(x, 1 - x) < 0).all())
    True
    """
    if a.shape != b.shape:
        raise AssayError(
            f"images of one shape are compared, not {tuple(a.shape)} with {tuple(b.shape)}"
        )
    n, channels, height, width = a.shape
    side = min(WINDOW, height - (height + 1) % 2, width - (width + 1) % 2)
    at = torch.arange(side, dtype=a.dtype, device=a.device) - side // 2
    line = (-at.square() / (2 * SIGMA**2)).exp()
    window = (line[:, None] * line / line.sum().square()).expand(5 * channels, 1, -1, -1)
    parts = torch.cat([a, b, a * a, b * b, a * b], dim=1)
    seen = F.conv2d(parts, window, groups=5 * channels)
    mean_a, mean_b, aa, bb, ab = seen.reshape(n, 5, channels, *seen.shape[2:]).unbind(1)
    both = mean_a * mean_b
    squares = mean_a.square() + mean_b.square()
    structure = (2 * (ab - both) + CONTRAST) / (aa + bb - squares + CONTRAST)
    return ((2 * both + LUMINANCE) / (squares + LUMINANCE) * structure).mean((1, 2, 3))
