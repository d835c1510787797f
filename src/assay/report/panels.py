"""Small multiples: a grid of small axes that share their scales, for what would be too many lines
in one (Tufte 1983).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from assay.report.curves import Series, draw_series, log_axis, style_of
from assay.report.look import INK, Picture, look, percent_axis, picture
from assay.report.look import grid as draw_grid

WIDTH = 8.5
"""Inches: that of a page's text."""

MOST_POINTS = 80
"""Of a line: more cannot be seen in so small a panel."""


@dataclass(frozen=True)
class Panel:
    """One of the small axes.

    Attributes:
        title: stands above it.
        series: its lines. Those with one label look alike in all panels.
    """

    title: str
    series: Sequence[Series]


def panels(
    grid: Sequence[Sequence[Panel]],
    *,
    x_label: str,
    y_label: str,
    log_y: bool = False,
    fraction: bool = False,
) -> Picture:
    """Return rows of panels that share both scales, with one legend of all labels below them.

    A row that is shorter than the longest one ends early; a panel without lines says so. Bands are
    drawn as in `learning_curves`.

    Args:
        grid: the panels, row by row.
        x_label, y_label: what the axes of all panels show.
        log_y: draw the values on a logarithmic axis; what is not positive is a gap.
        fraction: write the values as percent.
    """
    wide = max((len(row) for row in grid), default=0)
    styles = _styles(grid)
    with look():
        across = _columns(styles)
        legend = 0.22 * -(-len(styles) // across)
        height = min(max(0.75 * WIDTH / max(wide, 1), 1.3), 2.6)
        figure = picture(WIDTH, height * len(grid) + 0.45 + legend)
        if not wide:
            return figure
        axes = figure.subplots(len(grid), wide, sharex=True, sharey=True, squeeze=False)
        longest = max((len(panel.title) for row in grid for panel in row), default=0)
        size = min(8.5, 72 * WIDTH / wide / (0.7 * max(longest, 1)))  # titles side by side
        for row, places in zip(grid, axes, strict=True):
            for panel, place in zip(row, places, strict=False):
                _draw(place, panel, styles, log_y, size)
            for place in places[len(row) :]:
                place.set_visible(False)
        if fraction:
            percent_axis(axes[0, 0], "y")
        if log_y:
            log_axis(axes[0, 0])
        else:
            axes[0, 0].yaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]))
        axes[0, 0].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
        _label_edges(axes, grid)
        figure.supylabel(y_label, fontsize=9, color=INK)
        _legend(figure, styles, across, x_label)
        return figure


def _styles(grid: Sequence[Sequence[Panel]]) -> dict[str, Series]:
    """Return the first series of each label, which says how all of them look."""
    styles: dict[str, Series] = {}
    for row in grid:
        for panel in row:
            for series in panel.series:
                styles.setdefault(series.label, series)
    return styles


def _draw(axes: Axes, panel: Panel, styles: dict[str, Series], log_y: bool, size: float) -> None:
    if log_y:
        axes.set_yscale("log")
    order = list(styles)
    for series in panel.series:
        draw_series(axes, series, order.index(series.label), width=1.2, tint=0.16, most=MOST_POINTS)
    if not panel.series:
        axes.text(0.5, 0.5, "no result", transform=axes.transAxes, ha="center", alpha=0.6)
    axes.set_title(panel.title, fontsize=size, pad=4)
    axes.margins(x=0.02)
    draw_grid(axes)
    axes.tick_params(labelsize=7.5, pad=3)


def _label_edges(axes: Any, rows: Sequence[Sequence[Panel]]) -> None:
    """Write numbers at the left and below: also below a panel that has none under it."""
    for r, row in enumerate(rows):
        for c in range(len(row)):
            last = r + 1 == len(rows) or len(rows[r + 1]) <= c
            axes[r, c].tick_params(labelbottom=last, labelleft=c == 0)


def _legend(figure: Picture, styles: dict[str, Series], across: int, title: str) -> None:
    """Write the name of the x axis below the panels, and below it what each line is."""
    handles = []
    for i, (label, series) in enumerate(styles.items()):
        colour, dash = style_of(series, i)
        handles.append(Line2D([], [], color=colour, linestyle=dash, label=label))
    figure.legend(
        handles=handles if len(handles) > 1 else [],
        loc="outside lower center",
        ncols=across,
        frameon=False,
        labelcolor=INK,
        fontsize=8.5,
        title=title,
        title_fontsize=9,
        handlelength=2.2,
        columnspacing=1.6,
        borderpad=0.1,
    )


def _columns(labels: Iterable[str]) -> int:
    """Return how many entries of a legend fit beside one another in a page's width."""
    lengths = [len(label) for label in labels]
    return max(1, min(len(lengths), 120 // (max(lengths, default=0) + 8)))
