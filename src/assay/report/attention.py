"""Saliency maps before and after an attack, as pictures: a row for each image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from numpy.typing import ArrayLike

from assay.report.pictures import pixels
from assay.report.style import INK, Picture, picture, styled

LOOKED, MOVED = "inferno", "RdBu_r"
"""Colours of a map, 0 to 1, and of the difference of two, -1 to 1."""
COLUMNS = ("image", "map", "attacked", "map", "difference of maps")
TILE = 1.15
"""Inches that a picture takes."""


def attention_rows(
    images: ArrayLike,
    attacked: ArrayLike,
    before: ArrayLike,
    after: ArrayLike,
    *,
    names: Sequence[str],
    captions: Sequence[tuple[str, str]],
    top: float = 0.2,
) -> Picture:
    """Return image, map, attacked image, map and the difference of the maps, a row for each image.

    A line on the images bounds the top part of the map. Colours mean the same in every row: a bar
    says what.

    Args:
        images, attacked: (N, C, H, W) in [0, 1].
        before, after: (N, H, W) in [0, 1], the maps of the images and of the attacked ones.
        names: for each row what is at its left.
        captions: for each row what is above the image and above the attacked image.
        top: the part of the pixels that is outlined, in (0, 1].
    """
    clean, moved = np.asarray(images), np.asarray(attacked)
    one, other = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    with styled():
        figure = picture(0.4 + TILE * len(COLUMNS) + 0.5, 0.25 + (TILE + 0.2) * len(clean) + 0.6)
        grid = _tiles(figure, len(clean), len(COLUMNS))
        for i, line in enumerate(grid):
            for axes, image, values in ((line[0], clean[i], one[i]), (line[2], moved[i], other[i])):
                shown = pixels(image)
                axes.imshow(shown, interpolation="none")
                _outline(axes, values, top)
            for axes, values in ((line[1], one[i]), (line[3], other[i])):
                axes.imshow(values, cmap=LOOKED, vmin=0, vmax=1, interpolation="none")
            line[4].imshow(other[i] - one[i], cmap=MOVED, vmin=-1, vmax=1, interpolation="none")
            for axes, caption in zip((line[0], line[2]), captions[i], strict=True):
                _above(axes, caption)
            line[0].set_ylabel(names[i], fontsize=7.5)
        _head(grid[0], COLUMNS)
        _bar(figure, grid[:, 0:4], LOOKED, 0, "evidence for the class, over the map's maximum")
        _bar(figure, grid[:, 4], MOVED, -1, "less · more")
        return figure


def attention_grid(
    images: ArrayLike,
    clean: ArrayLike,
    attacked: Sequence[ArrayLike],
    *,
    names: Sequence[str],
    headings: Sequence[str],
    captions: Sequence[Sequence[str]],
    top: float = 0.2,
) -> Picture:
    """Return images, their maps, and their maps under several attacks, a row for each image.

    A line on the image bounds the top part of its map, and stands on every map beside it, so that
    one sees what has left it.

    Args:
        images: (N, C, H, W) in [0, 1].
        clean: (N, H, W) in [0, 1], the maps of the images.
        attacked: for each attack the maps of the attacked images, likewise.
        names: for each row what is at its left.
        headings: what each attack is called.
        captions: for each row what is above its map and above that of each attack.
        top: the part of the pixels that is outlined, in (0, 1].
    """
    shown, first = np.asarray(images), np.asarray(clean, dtype=float)
    columns = [first, *(np.asarray(values, dtype=float) for values in attacked)]
    with styled():
        figure = picture(0.4 + TILE * (1 + len(columns)), 0.25 + (TILE + 0.25) * len(shown) + 0.6)
        grid = _tiles(figure, len(shown), 1 + len(columns))
        for i, line in enumerate(grid):
            line[0].imshow(pixels(shown[i]), interpolation="none")
            for axes, values, caption in zip(line[1:], columns, captions[i], strict=True):
                axes.imshow(values[i], cmap=LOOKED, vmin=0, vmax=1, interpolation="none")
                _above(axes, caption)
            for axes in line:
                _outline(axes, first[i], top)
            line[0].set_ylabel(names[i], fontsize=7.5)
        _head(grid[0], ("image", "map", *headings))
        _bar(figure, grid, LOOKED, 0, "evidence for the class, over the map's maximum")
        return figure


def _tiles(figure: Picture, rows: int, columns: int) -> np.ndarray:
    """Return axes (rows, columns) for pictures: without ticks and frames."""
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_visible(False)
    return np.asarray(grid)


def _above(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=7.5, weight="normal", loc="center", pad=3)


def _head(row: np.ndarray, names: Sequence[str]) -> None:
    """Put the columns' names above what stands above the first row's pictures."""
    for axes, name in zip(row, names, strict=True):
        below = axes.get_title(loc="center")
        _above(axes, f"{name}\n{below}" if below else name)


def _bar(figure: Picture, columns: np.ndarray, colours: str, low: int, label: str) -> None:
    """Draw below some columns what the colours of their maps mean, from `low` to 1."""
    bar = figure.colorbar(
        ScalarMappable(Normalize(low, 1), colours),
        ax=list(np.asarray(columns).flat),
        location="bottom",
        fraction=0.05,
        aspect=40 if low == 0 else 10,
        pad=0.02,
        ticks=[low, 0.5, 1] if low == 0 else [-1, 0, 1],
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2, labelsize=7, colors=INK, pad=2)
    bar.set_label(label, fontsize=7.5)


def _outline(axes: Axes, values: np.ndarray, top: float) -> None:
    """Draw a line around the top part of a map; none where the map is empty."""
    edge = float(np.quantile(values, 1 - top))
    if edge < float(values.max()):
        axes.contour(values, levels=[edge], colors="#000000", linewidths=1.8, alpha=0.6)
        axes.contour(values, levels=[edge], colors="#ffffff", linewidths=0.9)
