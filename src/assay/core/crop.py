"""Where the middle square of a scaled image lies, as image processors have it.

What is kept of an image that is brought to a square is a number, `crop`: a share of its shorter
side, whose middle square is scaled (1: the largest, 0.875: seven eighths of it); with a minus sign
a share of the image once it is squashed to a square (DeiT's processor: -0.875); None: all of it,
squashed.
"""

from __future__ import annotations

import math

SCALED_FIRST = math.nextafter(1.0, 0.0)
"""The largest square of an image that is scaled before it is cropped, as CLIP's processor has it:
what lies beside the square comes into the pixels at its edges. With 1 it is cropped first."""


def middle_square(
    height: int, width: int, side: int, crop: float
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the height and width that an image is scaled to, and the top and left of the middle
    square of `side` pixels in it.

    The shorter side becomes `side` / `crop` pixels, rounded down, and the longer one keeps the
    proportions, rounded down (or is squashed to the same, of a negative `crop`): torchvision's,
    timm's and Hugging Face's order, first scaled, then cropped. The square's place is rounded down,
    as Hugging Face's processors do.

    >>> middle_square(300, 500, 224, 0.875)
    ((256, 426), (16, 101))
    """
    shorter = int(side / abs(crop) + 1e-6)
    scaled = [shorter, shorter]
    if crop > 0:
        shortest = min(height, width)
        scaled = [max(shorter, int(shorter * length / shortest)) for length in (height, width)]
    top, left = ((length - side) // 2 for length in scaled)
    return (scaled[0], scaled[1]), (top, left)
