"""What an attack leaves to be looked at: one PNG per image, and all of them on a sheet."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from assay.report.look import Picture, look, picture
from assay.report.pictures import amplify, pixels

ACROSS = 8
"""Images beside one another on a sheet."""
TILE = 0.98
"""Inches that an image takes."""
MARGIN = 0.35
"""Inches on the left, for the names of the rows."""
NARROWEST = 6.5
"""Inches that a sheet is wide at least: the head needs them."""
LETTERS = 15
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
        title: stands above all of it, in bold.
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
    band = 3 * TILE + 0.2 + 0.12 * (1 + max(caption.count("\n") for caption in above))
    with look():
        figure = picture(width, head + bands * band)
        top, body = np.asarray(figure.subfigures(2, 1, height_ratios=(head, bands * band)))
        edge = 0.08 / width
        at = 1 - 0.08 / head
        top.text(edge, at, "\n".join(heading), va="top", fontsize=10, weight="bold")
        at -= 0.2 * len(heading) / head
        top.text(edge, at, "\n".join(below), va="top", fontsize=8.5)
        # A sheet that is narrower than its head keeps its images at their size, on the left.
        share = (MARGIN + TILE * across) / width
        for number, strip in enumerate(np.atleast_1d(body.subfigures(bands, 1))):
            if share < 1:
                strip = strip.subfigures(1, 2, width_ratios=(share, 1 - share))[0]
            axes = strip.subplots(3, across, squeeze=False)
            for place in axes.flat:
                place.set_axis_off()
            for column, i in enumerate(range(number * across, len(clean))[:across]):
                for row, kind in enumerate(shown):
                    axes[row, column].imshow(pixels(kind[i]), interpolation="none")
                axes[0, column].set_title(above[i], fontsize=7.5, weight="normal", loc="center")
            for place, name in zip(axes[:, 0], names, strict=True):
                place.annotate(
                    name,
                    (0, 0.5),
                    (-5, 0),
                    "axes fraction",
                    "offset points",
                    rotation=90,
                    ha="right",
                    va="center",
                    fontsize=7.5,
                )
        return figure


def _caption(before: str, after: str) -> str:
    """Return "before → after", on two lines where one is too short for it."""
    line = f"{before} → {after}"
    if len(line) <= LETTERS:
        return line
    return f"{_short(before)}\n→ {_short(after)}"


def _short(name: str) -> str:
    return name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"


def picture_bytes(figure: Picture) -> bytes:
    """Return a figure as a PNG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with look():
        figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()
