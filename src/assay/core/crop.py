"""Where the middle square of a scaled image lies, as image processors have it."""

from __future__ import annotations


def middle_square(
    height: int, width: int, side: int, crop: float
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the height and width that an image is scaled to, and the top and left of the middle
    square of `side` pixels in it.

    The shorter side becomes `side` / `crop` pixels, rounded down, and the longer one keeps the
    proportions, rounded down: torchvision's, timm's and Hugging Face's order, first scaled, then
    cropped. The square's place is rounded down, as Hugging Face's processors do.

    >>> middle_square(300, 500, 224, 0.875)
    ((256, 426), (16, 101))
    """
    shorter = int(side / crop + 1e-6)
    scaled = [
        max(shorter, int(shorter * length / min(height, width))) for length in (height, width)
    ]
    top, left = ((length - side) // 2 for length in scaled)
    return (scaled[0], scaled[1]), (top, left)
