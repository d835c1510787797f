"""The pictures of an attack: one PNG per image, and all of them on a sheet."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from assay.report.pictures import amplify, pixels
from assay.report.style import Picture, picture, styled

ACROSS = 8
"""Images beside one another on a sheet."""
TILE = 0.98
"""Inches from one image to the next."""
SIDE = 0.92
"""Inches that an image is wide and high."""
GAP = 0.06
"""Inches between two bands."""
MARGIN = 0.35
"""Inches on the left, for the names of the rows."""
NARROWEST = 6.5
"""Inches that a sheet is wide at least: the head needs them."""
LETTERS = 16
"""Letters of a caption that fit above an image."""


def png_bytes(image: ArrayLike) -> bytes:
    """Return (C, H, W) in [0, 1] as a PNG of 8 bits, pixel by pixel; one channel is grey."""
    from PIL import Image

    shown = pixels(image)
    grey = np.asarray(image).shape[0] == 1
    buffer = io.BytesIO()
    Image.fromarray(shown[..., 0] if grey else shown).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def contact_sheet(
    images: ArrayLike,
    attacked: ArrayLike,
    *,
    title: str,
    notes: Sequence[str],
    captions: Sequence[tuple[str, str]],
    amplification: float,
) -> Picture:
    """Return images, attacked images and amplified differences, in bands of eight.

    Args:
        images, attacked: (N, C, H, W) in [0, 1], N at least 1.
        title: above all of it, in bold.
        notes: lines below the title.
        captions: per image, what the model said before and after.
        amplification: what differences are multiplied by.
    """
    clean, moved = np.asarray(images), np.asarray(attacked)
    shown = [clean, moved, amplify(clean, moved, amplification)]
    names = ("image", "attacked", f"difference × {amplification:g}")
    across = min(ACROSS, len(clean))
    bands = -(-len(clean) // across)
    width = max(MARGIN + TILE * across, NARROWEST)
    heading = textwrap.wrap(title, int(11 * width))
    below = [line for note in notes for line in textwrap.wrap(note, int(14 * width))]
    above = [_caption(before, after) for before, after in captions]
    head = 0.12 + 0.2 * len(heading) + 0.165 * len(below)
    label = 0.2 + 0.12 * max(caption.count("\n") for caption in above)
    height = head + bands * (label + 3 * TILE + GAP)
    with styled():
        figure = picture(width, height)
        figure.set_layout_engine("none")
        page = figure.add_axes((0, 0, 1, 1))  # all places on it are inches from the top left
        page.set_axis_off()
        page.text(0.08, 0.08, "\n".join(heading), va="top", fontsize=10, weight="bold")
        page.text(0.08, 0.08 + 0.2 * len(heading), "\n".join(below), va="top", fontsize=8.5)
        for i, caption in enumerate(above):
            band, column = divmod(i, across)
            left = MARGIN + TILE * column
            top = head + band * (label + 3 * TILE + GAP) + label
            page.text(left + SIDE / 2, top - 0.05, caption, ha="center", va="bottom", fontsize=7.5)
            for row, (name, kind) in enumerate(zip(names, shown, strict=True)):
                middle = top + TILE * row + SIDE / 2
                image = pixels(kind[i])
                high, wide = (SIDE / 2 * side / max(image.shape[:2]) for side in image.shape[:2])
                x = left + SIDE / 2
                place = (x - wide, x + wide, middle + high, middle - high)
                page.imshow(image, extent=place, aspect="auto", interpolation="none")
                if column == 0:
                    side = page.text(0.22, middle, name, ha="center", va="center", fontsize=7.5)
                    side.set_rotation(90)
        page.set_xlim(0, width)
        page.set_ylim(height, 0)
        return figure


def _caption(before: str, after: str) -> str:
    """Return "before → after", on two lines where one is too short for it."""
    line = f"{before} → {after}"
    if len(line) <= LETTERS:
        return line
    return f"{_short(before, LETTERS)}\n→ {_short(after, LETTERS - 2)}"


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def picture_bytes(figure: Picture) -> bytes:
    """Return a figure as a PNG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with styled():
        figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()
