"""Small multiples: a grid of small axes that share their scales, for what would be too many lines
in one (Tufte 1983).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from assay.report.curves import Series, draw_series, log_axis, style_of
from assay.report.style import INK, Picture, percent_axis, picture, styled
from assay.report.style import grid as draw_grid

WIDTH = 8.5
"""Inches: that of a page's text."""

LEFT, GAP, ABOVE, BELOW, LEGEND = 0.75, 0.12, 0.3, 0.5, 0.2
"""Inches: for the numbers and the name of the y axis; between panels; for the title over each; for
the numbers and the name of the x axis; for a line of the legend."""

MOST_POINTS = 80
"""Of a line: more cannot be seen in so small a panel."""


@dataclass(frozen=True)
class Panel:
    """One of the small axes.

    Attributes:
        title: above it.
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
    whole: bool = False,
) -> Picture:
    """Return rows of panels that share both scales, with one legend of all labels below them.

    A row that is shorter than the longest one ends early; a panel without lines says so. Bands are
    drawn as in `learning_curves`.

    Args:
        grid: the panels, row by row.
        x_label, y_label: what the axes of all panels show.
        log_y: draw the values on a logarithmic axis; what is not positive is a gap.
        fraction: write the values as percent.
        whole: the axis of values runs from 0 to 1 (100 %), whatever the lines do.
    """
    wide = max((len(row) for row in grid), default=0)
    styles = _styles(grid)
    with styled():
        across = _columns(styles)
        below = BELOW + (LEGEND * -(-len(styles) // across) if len(styles) > 1 else 0.0)
        height = min(max(0.75 * WIDTH / max(wide, 1), 1.3), 2.6)
        tall = height * len(grid) + below
        # Places and scale are worked out here. Matplotlib's own layout draws all axes twice over to
        # measure them, and axes that share a scale tell all others of every line they get.
        figure = picture(WIDTH, tall, layout=None)
        if not wide:
            return figure
        scale = _scale(grid, log_y)
        if whole:
            scale = replace(scale, y=(-0.02, 1.02))
        longest = max((len(panel.title) for row in grid for panel in row), default=0)
        size = min(8.5, 72 * WIDTH / wide / (0.7 * max(longest, 1)))  # titles side by side
        step = (WIDTH - LEFT) / wide
        for r, row in enumerate(grid):
            bottom = tall - (r + 1) * height
            for c, panel in enumerate(row):
                box = (LEFT + c * step, bottom, step - GAP, height - ABOVE)
                axes = figure.add_axes(tuple(np.divide(box, (WIDTH, tall, WIDTH, tall))))
                _draw(axes, panel, styles, scale, size)
                if fraction:
                    percent_axis(axes, "y")
                lowest = r + 1 == len(grid) or len(grid[r + 1]) <= c
                axes.tick_params(labelbottom=lowest, labelleft=c == 0)
        middle = (below + tall) / 2 / tall
        figure.supylabel(y_label, x=0.08 / WIDTH, y=middle, fontsize=9, color=INK, ha="left")
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


@dataclass(frozen=True)
class _Scale:
    """What all panels of a figure have in common."""

    x: tuple[float, float]
    y: tuple[float, float]
    log_y: bool


def _scale(grid: Sequence[Sequence[Panel]], log_y: bool) -> _Scale:
    """Return the limits that hold every point of every line and band, with a margin."""
    xs: list[float] = []
    ys: list[float] = []
    for series in (series for row in grid for panel in row for series in panel.series):
        x = np.asarray(series.x, dtype=float)
        for edge in (series.y, series.low, series.high):
            y = np.asarray([] if edge is None else edge, dtype=float)
            known = np.flatnonzero(np.isfinite(y) & ((y > 0) if log_y else True))
            if len(known):
                xs += [x[known].min(), x[known].max()]
                ys += [y[known].min(), y[known].max()]
    if not xs:
        xs, ys = [0.0, 1.0], [1.0, 10.0] if log_y else [0.0, 1.0]
    ends = np.array([min(ys), max(ys)])
    low, high = _with_margin(*(np.log10(ends) if log_y else ends), share=0.05)
    return _Scale(
        x=_with_margin(min(xs), max(xs), share=0.02),
        y=(10**low, 10**high) if log_y else (low, high),
        log_y=log_y,
    )


def _with_margin(low: float, high: float, *, share: float) -> tuple[float, float]:
    width = (high - low) or max(abs(high), 1.0) / 10
    return low - share * width, high + share * width


def _draw(axes: Axes, panel: Panel, styles: dict[str, Series], scale: _Scale, size: float) -> None:
    axes.set_autoscale_on(False)
    axes.set(xlim=scale.x, ylim=scale.y)
    if scale.log_y:
        log_axis(axes)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    order = list(styles)
    for series in panel.series:
        draw_series(axes, series, order.index(series.label), width=1.2, tint=0.16, most=MOST_POINTS)
    if not panel.series:
        axes.text(0.5, 0.5, "no result", transform=axes.transAxes, ha="center", alpha=0.6)
    axes.set_title(panel.title, fontsize=size, pad=4, y=1.0)  # given, it is not searched for
    draw_grid(axes)
    axes.tick_params(labelsize=7.5, pad=3)


def _legend(figure: Picture, styles: dict[str, Series], across: int, title: str) -> None:
    """Write the name of the x axis below the panels, and below it what each line is."""
    handles = []
    for i, (label, series) in enumerate(styles.items()):
        colour, dash = style_of(series, i)
        handles.append(Line2D([], [], color=colour, linestyle=dash, label=label))
    figure.legend(
        handles=handles if len(handles) > 1 else [],
        loc="lower center",
        bbox_to_anchor=((1 + (LEFT - GAP) / WIDTH) / 2, 0.0),
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
