"""The picture of an explanation: images, and beside each what every explainer says of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from numpy.typing import ArrayLike

from assay.report.maps import NO_VALUE
from assay.report.pictures import pixels
from assay.report.style import INK, SERIES, Picture, picture, styled

COLOURS = colormaps["inferno"]
TILE = 0.98
"""Inches that an image takes."""
BAR = 1.4
"""Inches that the bar of colours is high, or as much of them as there are."""
PALE = 0.35
"""Opacity of a map of an explainer without a rank."""
LETTERS = 14.5
"""Of the note, in an inch."""


def explained(
    images: ArrayLike,
    maps: Mapping[str, ArrayLike],
    *,
    title: str,
    note: str,
    captions: Sequence[str],
    unranked: Collection[str] = (),
) -> Picture:
    """Return a row for every image: itself, and the map of every explainer, on one scale.

    A map that is 0 everywhere is grey, and says so. Maps of explainers without a rank are pale.

    Args:
        images: (N, C, H, W) in [0, 1], N at least 1.
        maps: by the name of the explainer, (N, H, W) in [0, 1].
        title: above all of it, in bold.
        note: below the title.
        captions: one per image, above it.
        unranked: names of explainers that have no rank.
    """
    shown = np.asarray(images)
    columns = {name: np.asarray(values, dtype=np.float32) for name, values in maps.items()}
    height, width = shown.shape[2:]
    lines = 1 + max(caption.count("\n") for caption in captions)
    wide = max(0.9 + TILE * (1 + len(columns)), 6.5)  # with the bar
    said = fill(note, round(LETTERS * wide))
    head = 0.35 + 0.17 * (1 + said.count("\n"))
    rest = 0.3 + (TILE * height / width + 0.12 + 0.14 * lines) * len(shown)
    with styled():
        figure = picture(wide, head + rest)
        top, body = np.asarray(figure.subfigures(2, 1, height_ratios=(head, rest)))
        top.text(0.012, 0.92, title, ha="left", va="top", fontsize=10, weight="bold")
        top.text(0.012, 0.02, said, ha="left", va="bottom", fontsize=8.5)
        axes = body.subplots(len(shown), 1 + len(columns), squeeze=False)
        for place in axes.flat:
            place.set_axis_off()
        for row, image in enumerate(shown):
            axes[row, 0].imshow(pixels(image), interpolation="none")
            axes[row, 0].set_title(captions[row], fontsize=7.5, weight="normal", loc="center")
            for place, (name, values) in zip(axes[row, 1:], columns.items(), strict=True):
                pale = PALE if name in unranked else 1.0
                place.imshow(COLOURS(values[row].clip(0, 1)), interpolation="none", alpha=pale)
                if not values[row].any():
                    place.imshow(np.full((height, width, 4), NO_VALUE), interpolation="none")
                    middle = (0.5, 0.5)
                    place.annotate("empty", middle, xycoords="axes fraction", **CENTRED)
        for rank, (place, name) in enumerate(zip(axes[0, 1:], columns, strict=True), 1):
            text, colour = fill(name, 14, break_long_words=False), {"color": INK}
            if name in unranked:
                text, colour = f"{text}\nno rank", {"color": SERIES[6]}
            elif unranked:
                text = fill(f"{rank} {name}", 14, break_long_words=False)
            place.annotate(
                text, (0.5, 1), (0, 3), "axes fraction", "offset points", **ABOVE, **colour
            )
        bar = body.colorbar(
            ScalarMappable(Normalize(0, 1), COLOURS),
            ax=list(axes.flat),
            shrink=min(1.0, BAR / rest),
            anchor=(0, 1),
            aspect=12,
            fraction=0.03,
            pad=0.01,
            ticks=[0, 0.5, 1],
        )
        bar.set_label("share of the map's\nlargest value", fontsize=8)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=3, labelsize=8, colors=INK, width=0.6)
        return figure


CENTRED: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7.5}
ABOVE: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 7.5, "weight": "bold"}
