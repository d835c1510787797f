"""Outliers that are computed: flat colours, slopes of light, noise, letters, cut-up images.

Every image depends on its own index and the stream alone: fewer are the beginning of more.
"""

from __future__ import annotations

import string
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from assay.core.random import Rows
from assay.errors import AssayError

Shape = tuple[int, int, int]

FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-BoldItalic",
    "DejaVuSansMono",
    "STIXGeneral",
    "STIXGeneralItalic",
)
"""Fonts that matplotlib ships."""
LETTERS = string.ascii_letters + string.digits


def uniform(shape: Shape, rng: Rows) -> Tensor:
    """Every value uniform in [0, 1]."""
    return rng.uniform(shape)


def gaussian(shape: Shape, rng: Rows) -> Tensor:
    """Normal with mean 0.5 and standard deviation 0.25, clipped to [0, 1]."""
    return 0.5 + 0.25 * rng.normal(shape)


def fake(shape: Shape, rng: Rows) -> Tensor:
    """What the course called fake data (torchvision's `FakeData`): standard normal values times
    255, of which a byte keeps the remainder modulo 256. A normal distribution so wide, wrapped so
    often, is uniform within 1e-8: it is `uniform` under another name."""
    return (255 * rng.normal(shape)).trunc().remainder(256) / 255


def flat(shape: Shape, rng: Rows) -> Tensor:
    """One colour each, uniform in [0, 1]³."""
    return rng.uniform((shape[0], 1, 1)).expand(-1, *shape).clone()


def gradient(shape: Shape, rng: Rows) -> Tensor:
    """From one colour to another in a line across the image, at any angle."""
    channels, height, width = shape
    ends = rng.uniform((2, channels, 1, 1))
    angle = 2 * torch.pi * rng.uniform()[:, None, None]
    down = torch.linspace(-1, 1, height)[None, :, None]
    across = torch.linspace(-1, 1, width)[None, None, :]
    along = angle.cos() * across + angle.sin() * down
    reach = (angle.cos().abs() + angle.sin().abs()).clamp_min(1e-6)
    share = (0.5 + along / (2 * reach))[:, None]
    return ends[:, 0] + (ends[:, 1] - ends[:, 0]) * share


def letters(shape: Shape, rng: Rows) -> Tensor:
    """One letter or digit each, in a font, place, size and two colours of its own.

    After notMNIST (Bulatov 2011), which is of letters in many fonts, white on black.
    """
    channels, height, width = shape
    which = rng.integers(len(LETTERS)).tolist()
    font = rng.integers(len(FONTS)).tolist()
    size = (min(height, width) * rng.uniform(low=0.6, high=1.0)).round().int().tolist()
    place = rng.uniform((2,), -0.12, 0.12).numpy()
    colours = rng.uniform((2, channels, 1, 1))
    # apart by at least half of the range in every channel
    colours[:, 1] = (colours[:, 0] + 0.5 + 0.3 * colours[:, 1]).remainder(1)
    cover = np.zeros((len(rng), height, width), dtype=np.float32)
    for row, (dx, dy) in enumerate(place):
        canvas = Image.new("L", (width, height))
        ImageDraw.Draw(canvas).text(
            (width * (0.5 + dx), height * (0.5 + dy)),
            LETTERS[which[row]],
            fill=255,
            font=_font(FONTS[font[row]], size[row]),
            anchor="mm",
        )
        cover[row] = np.asarray(canvas, dtype=np.float32) / 255
    mix = torch.from_numpy(cover)[:, None]
    return colours[:, 0] + (colours[:, 1] - colours[:, 0]) * mix


@lru_cache(maxsize=512)
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    file = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf")
    try:
        return ImageFont.truetype(str(file), size)
    except OSError as error:
        raise AssayError(f"matplotlib's font {file} cannot be read: {error}") from error


def scrambled(images: Tensor, rng: Rows, cuts: int = 4) -> Tensor:
    """Return images (N, C, H, W) cut into `cuts` × `cuts` patches, which are put back in a random
    order: what is left of colours and textures without the objects.

    Sides that `cuts` does not divide keep the rest, at the right and below, as it is.
    """
    n, channels, height, width = images.shape
    high, wide = height // cuts, width // cuts
    if not high or not wide:
        raise AssayError(f"images of {height} × {width} pixels cannot be cut {cuts} times")
    order = rng.uniform((cuts * cuts,)).argsort(1)
    whole = images[:, :, : high * cuts, : wide * cuts]
    patches = (
        whole.reshape(n, channels, cuts, high, cuts, wide)
        .permute(0, 2, 4, 1, 3, 5)
        .reshape(n, cuts * cuts, channels, high, wide)
    )
    patches = patches[torch.arange(n)[:, None], order]
    made = images.clone()
    made[:, :, : high * cuts, : wide * cuts] = (
        patches.reshape(n, cuts, cuts, channels, high, wide)
        .permute(0, 3, 1, 4, 2, 5)
        .reshape(whole.shape)
    )
    return made
