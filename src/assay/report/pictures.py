"""Images for reports: pixels to PNG data URIs, differences to something one can see."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.report.schema import GalleryItem

LARGEST = 160
"""Longest side of an image in a page, in pixels; larger ones are averaged down to fit."""

Pixels = NDArray[np.uint8]
"""(H, W, 3), 0 to 255."""


def pixels(image: ArrayLike) -> Pixels:
    """Return (C, H, W) in [0, 1] as (H, W, 3) of 8 bits; one channel becomes grey.

    Two channels, or more than three, are shown as the mean of the channels.
    """
    array = np.asarray(image, dtype=np.float32)
    if array.shape[0] != 3:
        array = np.repeat(array.mean(0, keepdims=True), 3, axis=0)
    eight: Pixels = np.rint(array.clip(0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(eight.transpose(1, 2, 0))


def png(image: Pixels) -> str:
    """Return (H, W, 3) of 8 bits as a PNG data URI, at most `LARGEST` pixels on a side."""
    from PIL import Image

    picture = Image.fromarray(image)
    factor = -(-max(image.shape[:2]) // LARGEST)
    if factor > 1:
        picture = picture.reduce(factor)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def fit_amplification(images: ArrayLike, attacked: ArrayLike) -> float:
    """Return the factor that makes the largest difference fill half the range.

    Rounded down to 1, 2 or 5 times a power of ten, at least 1.
    """
    largest = float(np.abs(np.asarray(attacked) - np.asarray(images)).max(initial=0.0))
    if largest == 0:
        return 1.0
    exact = 0.5 / largest * (1 + 1e-6)
    power = 10.0 ** np.floor(np.log10(exact))
    step = max(s for s in (1, 2, 5) if s * power <= exact)
    return max(1.0, float(step * power))


def amplify(images: ArrayLike, attacked: ArrayLike, factor: float) -> NDArray[np.float32]:
    """Return the differences times `factor` around mid grey (0.5), clipped to [0, 1]."""
    moved = np.asarray(attacked, dtype=np.float32) - np.asarray(images, dtype=np.float32)
    shown: NDArray[np.float32] = (0.5 + factor * moved).clip(0, 1)
    return shown


def overlay(image: ArrayLike | None, values: ArrayLike) -> Pixels:
    """Return an attribution map (H, W) in [0, 1] in colour, over the grey of (C, H, W) if given.

    Where the map is low the image stays grey; the higher the map, the more of the colour shows.
    """
    from matplotlib import colormaps

    level = np.asarray(values, dtype=np.float32).clip(0, 1)
    colour = colormaps["inferno"](level)[..., :3].astype(np.float32)
    if image is not None:
        grey = np.asarray(image, dtype=np.float32).mean(0)[..., None]
        weight = (0.15 + 0.7 * level)[..., None]
        colour = (1 - weight) * grey + weight * colour
    eight: Pixels = np.rint(colour.clip(0, 1) * 255).astype(np.uint8)
    return eight


def gallery_items(
    images: ArrayLike,
    attacked: ArrayLike,
    rows: Sequence[dict[str, Any]],
    *,
    amplification: float,
    maps_before: ArrayLike | None = None,
    maps_after: ArrayLike | None = None,
) -> tuple[GalleryItem, ...]:
    """Return the items of a gallery.

    Args:
        images, attacked: (N, C, H, W) in [0, 1].
        rows: for each image, the fields of `GalleryItem` that are not pictures.
        amplification: what differences are multiplied by (`fit_amplification`).
        maps_before, maps_after: saliency maps (N, H, W) in [0, 1].
    """
    clean, moved = np.asarray(images), np.asarray(attacked)
    changed = amplify(clean, moved, amplification)
    before = None if maps_before is None else np.asarray(maps_before)
    after = None if maps_after is None else np.asarray(maps_after)
    return tuple(
        GalleryItem(
            image=png(pixels(clean[i])),
            attacked=png(pixels(moved[i])),
            difference=png(pixels(changed[i])),
            map_before=None if before is None else png(overlay(clean[i], before[i])),
            map_after=None if after is None else png(overlay(moved[i], after[i])),
            **row,
        )
        for i, row in enumerate(rows)
    )
