"""What to do about images that a network cannot take, by what torch or the network says of them."""

from __future__ import annotations

import re

from torch import Tensor

CHANNELS = re.compile(r"[Ee]xpected (?:input.{0,40} to have )?(\d+)(?: channels)?,? but got (\d+)")
"""What a convolution of torch says, and what networks of transformers do."""
SMALL = (
    "Kernel size can't be greater than actual input size",
    "Output size is too small",
    "should be less than the corresponding input dimension",
)
SHAPES = ("mat1 and mat2 shapes cannot be multiplied", "doesn't match model")

IN_COLOUR = 'save copies in colour (PIL\'s convert("RGB") repeats the one channel)'
IN_GREY = 'save copies in grey (PIL\'s convert("L"))'


def advice(said: str, x: Tensor) -> str:
    """Return what to do about images (N, C, H, W) of which a network says this; "" if that is not
    known.

    >>> advice("expected input[2, 1, 8, 8] to have 3 channels, but got 1 channels", x[:, :1])[:44]
    'the network takes 3 channels and all images '
    """
    if x.ndim != 4:
        return ""
    channels, size = x.shape[1], f"{x.shape[2]}×{x.shape[3]}"
    found = CHANNELS.search(said)
    if found is not None and int(found[2]) == channels != int(found[1]):
        return of_channels(int(found[1]), channels)
    if any(words in said for words in SMALL):
        return (
            f"images of {size} pixels are too small for the network: give those that it is meant "
            "for, or --size, to which they are scaled"
        )
    if any(words in said for words in SHAPES):
        return f"maybe images of {size} pixels are not of its size: --size scales them to another"
    return ""


def of_channels(taken: int, given: int) -> str:
    """Return what to do about images of another number of channels than a network takes."""
    if (taken, given) == (3, 1):
        return f"the network takes 3 channels and all images are grey: {IN_COLOUR}"
    if (taken, given) == (1, 3):
        return f"the network takes one channel and the images are coloured: {IN_GREY}"
    return f"the network takes {taken} channels and images have {given}"
