"""Figures of images side by side: attribution maps, images before and after an attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from assay.report.pictures import Pixels, amplify, fit_amplification, overlay, pixels
from assay.report.style import Picture, picture, styled


def maps(values: ArrayLike, images: ArrayLike | None = None, *, columns: int = 8) -> Picture:
    """Return attribution maps (N, H, W) in [0, 1] side by side, over `images` (N, C, H, W).

    Maps of tokens, (N, T), are drawn as one row of cells each.
    """
    shown = np.asarray(values, dtype=np.float32)
    if shown.ndim == 2:
        shown = shown[:, None, :]
    under = [None] * len(shown) if images is None else list(np.asarray(images))
    tiles = [overlay(image, m) for image, m in zip(under, shown, strict=True)]
    return _tiles([tiles], columns, [])


def rows(images: Mapping[str, ArrayLike]) -> Picture:
    """Return rows of images (N, C, H, W) in [0, 1], each with its name at the left."""
    tiles = [[pixels(image) for image in np.asarray(row)] for row in images.values()]
    return _tiles(tiles, max(map(len, tiles), default=1), list(images))


def before_after(
    images: ArrayLike,
    attacked: ArrayLike,
    *,
    captions: Sequence[str] = (),
    amplifications: Sequence[float] = (),
    columns: int = 8,
) -> Picture:
    """Return images, attacked images and amplified differences, a column for each image.

    `images` and `attacked` are (N, C, H, W) in [0, 1]. There is a row of differences for each of
    `amplifications`; without any the factor is chosen so that the largest difference is seen at
    full strength. The figure says it.
    """
    clean, moved = np.asarray(images)[:columns], np.asarray(attacked)[:columns]
    factors = amplifications or (fit_amplification(clean, moved),)
    rows = [
        [pixels(image) for image in clean],
        [pixels(image) for image in moved],
        *([pixels(image) for image in amplify(clean, moved, factor)] for factor in factors),
    ]
    names = [f"difference × {factor:g}" if factor != 1 else "difference" for factor in factors]
    return _tiles(rows, columns, ["image", "attacked", *names], captions)


def _tiles(
    rows: Sequence[Sequence[Pixels]],
    columns: int,
    names: Sequence[str],
    captions: Sequence[str] = (),
) -> Picture:
    """Draw images side by side; a single row that is longer than `columns` is wrapped."""
    if len(rows) == 1:
        (row,) = rows
        rows = [row[start : start + columns] for start in range(0, len(row), columns)]
    across = max((len(row) for row in rows), default=1)
    with styled():
        figure = picture(0.3 + 0.95 * across, 0.98 * max(len(rows), 1) + 0.25 * bool(captions))
        panels = figure.subplots(max(len(rows), 1), across, squeeze=False)
        for r, line in enumerate(panels):
            for c, axes in enumerate(line):
                axes.set_axis_off()
                if r < len(rows) and c < len(rows[r]):
                    axes.imshow(rows[r][c], interpolation="none")
        for axes, name in zip(panels[:, 0], names, strict=False):
            axes.annotate(
                name,
                (0, 0.5),
                (-6, 0),
                "axes fraction",
                "offset points",
                rotation=90,
                ha="right",
                va="center",
                fontsize=8,
            )
        for axes, caption in zip(panels[0], captions, strict=False):
            axes.set_title(caption, fontsize=7.5, weight="normal", loc="center")
        return figure
