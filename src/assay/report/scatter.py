"""A figure of what things cost and how good they are: a point each, with its interval and name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

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

LETTERS = 8.0
"""Size of a name, in points."""
WIDE = 0.6
"""Of a letter, at most as a mean over a name, in its size."""
MARK = 5.0
"""Points from the middle of a mark to its edge, and a little more."""


@dataclass(frozen=True)
class Point:
    """One thing.

    Attributes:
        label: its name, beside the point.
        x: what it costs, above 0.
        y: how good it is, with its interval, a fraction.
        colour: index into the palette; the marker goes with it.
        across: `x` with its interval, where that is a fraction too.
    """

    label: str
    x: float
    y: Doubtful
    colour: int = 0
    across: Doubtful | None = None


class Box(NamedTuple):
    """What takes up room: left, right, bottom and top, in points."""

    left: float
    right: float
    bottom: float
    top: float

    def beyond(self, other: Box) -> float:
        """How much of it lies outside the other, in points."""
        return (
            max(other.left - self.left, 0.0)
            + max(self.right - other.right, 0.0)
            + max(other.bottom - self.bottom, 0.0)
            + max(self.top - other.top, 0.0)
        )

    def shared(self, other: Box) -> float:
        """The area that both take up."""
        across = min(self.right, other.right) - max(self.left, other.left)
        up = min(self.top, other.top) - max(self.bottom, other.bottom)
        return across * up if across > 0 and up > 0 else 0.0


def scatter(
    points: Sequence[Point],
    x_label: str,
    y_label: str,
    *,
    width: float = 6.6,
    joined: Sequence[str] = (),
) -> Picture:
    """Return the points over a logarithmic axis, each with its interval and its name; over one of
    per cent, where `across` is there of each.

    A name stands beside its point, or above or below its interval, where nothing else is; one that
    has to stand further away is joined to it by a thin line.

    Args:
        points: what is shown.
        x_label, y_label: what the axes show.
        width: in inches; the height follows.
        joined: the labels of those that a line goes through, such as a Pareto front.
    """
    shares = all(point.across is not None for point in points)
    with styled():
        figure = picture(width, 4.0 if width > 5 else 3.6)
        axes = figure.add_subplot()
        axes.set_xscale("linear" if shares else "log")
        value, low, high = columns(point.y for point in points)
        shown = [k for k, point in enumerate(points) if point.x > 0 and np.isfinite(value[k])]
        front = sorted((points[k].x, value[k]) for k in shown if points[k].label in joined)
        if len(front) > 1:
            axes.plot(*zip(*front, strict=True), color=INK, linewidth=1.0, alpha=0.4)
        for k in shown:
            hue = SERIES[points[k].colour % len(SERIES)]
            across = points[k].across
            if across is not None:
                _, left, right = columns([across])[:, 0]
                axes.hlines(value[k], left, right, color=hue, linewidth=2.2, alpha=0.4)
            if np.isfinite(low[k]) and np.isfinite(high[k]):
                axes.vlines(points[k].x, low[k], high[k], color=hue, linewidth=2.2, alpha=0.4)
            marker = MARKERS[points[k].colour % len(MARKERS)]
            axes.plot(points[k].x, value[k], marker, color=hue, markersize=6)
        axes.margins(x=0.08, y=0.12)
        axes.set(xlabel=x_label, ylabel=y_label)
        if shares:
            percent_axis(axes, "x")
        else:
            _counts(axes, 9 if width > 5 else 4)
        percent_axis(axes, "y")
        grid(axes)
        if shown:
            figure.draw_without_rendering()  # only then the axes have their size
            ends = np.where(np.isfinite([low, high]), [low, high], value)[:, shown]
            named = [points[k] for k in shown]
            _name(axes, named, value[shown], ends, np.array([_sides(point) for point in named]).T)
        return figure


def _sides(point: Point) -> tuple[float, float]:
    """Return the ends of a point's interval across; without one, the point."""
    if point.across is None:
        return point.x, point.x
    _, low, high = columns([point.across])[:, 0]
    return (low, high) if np.isfinite([low, high]).all() else (point.x, point.x)


def _counts(axes: Axes, most: int) -> None:
    """Write at most so many numbers along the logarithmic x axis."""
    axes.xaxis.set_major_locator(LogLocator(numticks=most))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    )


def _name(
    axes: Axes,
    points: Sequence[Point],
    value: NDArray[np.float64],
    ends: NDArray[np.float64],
    sides: NDArray[np.float64],
) -> None:
    """Write each name where it is seen whose it is; `ends` (2, N) are those of the intervals, and
    `sides` (2, N) of those across."""
    inches = axes.figure.dpi_scale_trans.inverted()

    at_x = np.array([point.x for point in points])

    def places(y: NDArray[np.float64], x: NDArray[np.float64] = at_x) -> NDArray[np.float64]:
        at = np.column_stack([x, y])
        found: NDArray[np.float64] = 72 * inches.transform(axes.transData.transform(at))
        return found

    middle, bottom, top = places(value), places(ends[0])[:, 1], places(ends[1])[:, 1]
    frame = axes.bbox.transformed(inches)
    whole = Box(*(72 * edge for edge in (frame.x0, frame.x1, frame.y0, frame.y1)))
    marks = [Box(x - MARK, x + MARK, y - MARK, y + MARK) for x, y in middle]
    bars = [Box(x - 2, x + 2, *e) for (x, _), *e in zip(middle, bottom, top, strict=True)]
    left, right = (places(value, side)[:, 0] for side in sides)
    taken = [Box(a, b, y - 2, y + 2) for (_, y), a, b in zip(middle, left, right, strict=True)]
    for k in sorted(range(len(points)), key=lambda k: (-middle[k][1], points[k].label)):
        x, y = middle[k]
        others = taken + [box for j in range(len(points)) if j != k for box in (marks[j], bars[j])]
        found = _candidates(points[k].label, x, y, (bottom[k], top[k]))
        costs = [_cost(box, far, marks[k], others, whole) for box, far in found]
        box, far = found[int(np.argmin(costs))]
        taken.append(box)
        hue = SERIES[points[k].colour % len(SERIES)]
        where = ((box.left + box.right) / 2 - x, (box.bottom + box.top) / 2 - y)
        axes.annotate(
            points[k].label,
            (points[k].x, value[k]),
            where,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=LETTERS,
            color=hue,
            weight="bold",
            arrowprops={"arrowstyle": "-", "color": hue, "linewidth": 0.6, "alpha": 0.55,
                        "shrinkA": 0, "shrinkB": MARK} if far else None,
        )  # fmt: skip


def _candidates(
    label: str, x: float, y: float, interval: tuple[float, float]
) -> list[tuple[Box, float]]:
    """Return where a name may stand, each with how far that is from where it is looked for."""
    long, half = WIDE * LETTERS * len(label), 0.62 * LETTERS
    found = []
    for start in (x + MARK + 2, x - MARK - 2 - long):
        for step in range(-24, 25):
            at = y + step * half / 2
            found.append((Box(start, start + long, at - half, at + half), abs(step) * half / 2))
    for at in (interval[1] + half + 1, interval[0] - half - 1):
        for share in (0.5, 0.1, 0.3, 0.7, 0.9):
            start = x - share * long
            found.append((Box(start, start + long, at - half, at + half), 0.0))
    return found


def _cost(box: Box, far: float, own: Box, others: Sequence[Box], whole: Box) -> float:
    hidden = sum(box.shared(other) for other in (*others, own))
    aside = 3.0 * (box.right < own.left) + 4.0 * (box.bottom > own.top or box.top < own.bottom)
    return 1000.0 * box.beyond(whole) + 100.0 * hidden + far + aside
