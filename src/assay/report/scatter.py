"""A figure of what things cost and how good they are: a point each, with its interval and name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from assay.report.numerals import Doubtful
from assay.report.style import (
    INK,
    MARKERS,
    SERIES,
    Picture,
    columns,
    grid,
    percent_axis,
    picture,
    styled,
)

MARK = 0.012
"""Half of what a point takes of the width of the axes."""


@dataclass(frozen=True)
class Point:
    """One thing.

    Attributes:
        label: its name, beside the point.
        x: what it costs, above 0.
        y: how good it is, with its interval, a fraction.
        colour: index into the palette; the marker goes with it.
    """

    label: str
    x: float
    y: Doubtful
    colour: int = 0


def scatter(points: Sequence[Point], x_label: str, y_label: str) -> Picture:
    """Return the points over a logarithmic axis, each with its interval and its name.

    Names that would lie on one another are moved apart, up and down.
    """
    with styled():
        figure = picture(6.6, 3.6)
        axes = figure.add_subplot()
        axes.set_xscale("log")
        value, low, high = columns(point.y for point in points)
        shown = [p for p, y in zip(points, value, strict=True) if p.x > 0 and np.isfinite(y)]
        for point, y, least, most in zip(points, value, low, high, strict=True):
            if point not in shown:
                continue
            hue = SERIES[point.colour % len(SERIES)]
            if np.isfinite(least) and np.isfinite(most):
                axes.vlines(point.x, least, most, color=hue, linewidth=2.2, alpha=0.4)
            marker = MARKERS[point.colour % len(MARKERS)]
            axes.plot(point.x, y, marker, color=hue, markersize=6)
        if shown:
            axes.margins(x=0.08, y=0.12)
            bottom, top = axes.get_ylim()
            _name(axes, shown, (top - bottom) / 16)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
        )
        percent_axis(axes, "y")
        grid(axes)
        return figure


def _name(axes: Axes, points: Sequence[Point], gap: float) -> None:
    """Write each name beside its point; those of points at one place stand below one another."""
    least, most = (float(np.log10(v)) for v in axes.get_xlim())
    places = [(np.log10(p.x) - least) / (most - least) for p in points]
    marks = [
        (place - MARK, place + MARK, float(point.y.value or 0.0))
        for place, point in zip(places, points, strict=True)
    ]
    taken: list[tuple[float, float, float]] = []
    for own in sorted(range(len(points)), key=lambda k: -marks[k][2]):
        point, place = points[own], places[own]
        left = place > 0.6
        width = 0.016 * len(point.label) + MARK
        start, end = (place - width, place) if left else (place, place + width)
        y = marks[own][2]
        others = [mark for k, mark in enumerate(marks) if k != own]
        while any(abs(y - other) < gap and start < b and a < end for a, b, other in taken + others):
            y -= gap / 4
        taken.append((start, end, y))
        axes.annotate(
            point.label,
            (point.x, y),
            (-8 if left else 8, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontsize=8,
            color=INK,
        )
