"""What an attack leaves to be looked at: one PNG per image, and all of them on a sheet."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from assay.report.look import Picture, look, picture
from assay.report.pictures import amplify, pixels

ACROSS = 8
"""Images beside one another on a sheet."""
ROWS = ("image", "attacked")
TILE = 0.98
"""Inches that an image takes."""


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
    note: str,
    captions: Sequence[str],
    amplification: float,
) -> Picture:
    """Return images, attacked images and amplified differences, in bands of eight.

    Args:
        images, attacked: (N, C, H, W) in [0, 1], N at least 1.
        title: stands above all of it, in bold.
        note: stands below the title; lines are kept.
        captions: one per image.
        amplification: what differences are multiplied by.
    """
    clean, moved = np.asarray(images), np.asarray(attacked)
    shown = [clean, moved, amplify(clean, moved, amplification)]
    names = (*ROWS, f"difference × {amplification:g}")
    across = min(ACROSS, len(clean))
    bands = -(-len(clean) // across)
    head = 0.3 + 0.17 * (1 + note.count("\n"))
    width = max(0.35 + TILE * across, 6.5)
    with look():
        figure = picture(width, head + bands * (3 * TILE + 0.32))
        figure.suptitle(title, x=0.012, ha="left", fontsize=10, weight="bold")
        heights = (head, bands * (3 * TILE + 0.32))
        top, body = np.asarray(figure.subfigures(2, 1, height_ratios=heights))
        top.text(0.012, 0.02, note, ha="left", va="bottom", fontsize=8.5)
        for number, band in enumerate(np.atleast_1d(body.subfigures(bands, 1))):
            axes = band.subplots(3, across, squeeze=False)
            for place in axes.flat:
                place.set_axis_off()
            for column, i in enumerate(range(number * across, len(clean))[:across]):
                for row, kind in enumerate(shown):
                    axes[row, column].imshow(pixels(kind[i]), interpolation="none")
                axes[0, column].set_title(captions[i], fontsize=7.5, weight="normal", loc="center")
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


def picture_bytes(figure: Picture) -> bytes:
    """Return a figure as a PNG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with look():
        figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()
