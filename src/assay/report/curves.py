"""Figures of lines, named at their ends: learning curves, gradient norms, robust accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from assay.report.numerals import Doubtful, budget, norm_name, power_of_ten
from assay.report.schema import RobustnessCurve
from assay.report.style import (
    DASHES,
    INK,
    MARKERS,
    SERIES,
    Picture,
    colour_of,
    columns,
    grid,
    percent_axis,
    picture,
    styled,
)

HEIGHT = 3.6
"""Inches, of every figure of lines."""
LABEL_GAP = 0.06
"""Least distance of two labels at line ends, as a share of the height of the axes."""


MOST_POINTS = 200
"""Of a line: more cannot be seen, and a page has many lines."""


class End(NamedTuple):
    """Where a line ends, and what it is called."""

    x: float
    y: float
    label: str
    colour: str
    dash: Any = "-"


@dataclass(frozen=True)
class Series:
    """One line of a figure.

    Attributes:
        label: at its right end.
        x, y: its points; a NaN breaks the line.
        low, high: its band over seeds, or None.
        colour: index into the palette; None takes the next one.
        dash: index of the line style, to tell apart lines that share a colour.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    colour: int | None = None
    dash: int = 0


def learning_curves(
    series: Sequence[Series],
    *,
    x_label: str = "epoch",
    y_label: str = "validation accuracy",
    fraction: bool = True,
) -> Picture:
    """Return a line for each series, with its band over seeds and its name at the end."""
    with styled():
        figure = picture(6.6, HEIGHT * max(1.0, len(series) * LABEL_GAP))
        axes = figure.add_subplot()
        _lines(axes, series)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        if fraction:
            percent_axis(axes, "y")
        return figure


def gradient_norms(
    series: Sequence[Series],
    *,
    y_label: str = "gradient norm",
    width: float = 6.6,
) -> Picture:
    """Return the gradient norm of each layer against its depth, on a logarithmic axis.

    `x` counts layers from the input. Zero gradients have no place on a logarithmic axis: they are
    left out, as gaps.
    """
    with styled():
        figure = picture(width, HEIGHT * max(1.0, len(series) * LABEL_GAP))
        axes = figure.add_subplot()
        axes.set_yscale("log")
        # Gradients vanish towards the input: that is where the lines are apart, and are named.
        axes.yaxis.tick_right()
        axes.yaxis.set_label_position("right")
        axes.spines["left"].set_visible(False)
        axes.spines["right"].set_visible(True)
        _lines(axes, series, "left")
        log_axis(axes)
        axes.set(xlabel="layer, from input to output", ylabel=y_label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        return figure


def accuracy_against_eps(
    curves: Sequence[RobustnessCurve],
    clean: Doubtful,
    *,
    chance: float | None = None,
    eps: float | None = None,
    threshold: float | None = None,
    width: float | None = None,
) -> Picture:
    """Return robust accuracy against the budget, a line with its intervals for each attack.

    Every line starts at eps = 0 from `clean`. Curves of different norms get panels of their own,
    since their budgets are not comparable.

    Args:
        curves: a line each.
        clean: accuracy without attack.
        chance: drawn as a dotted line.
        eps: the budget that is judged, drawn as an upright line.
        threshold: what is asked there; what passes lies above it.
        width: inches; None: what suits the number of norms.
    """
    with styled():
        norms = list(dict.fromkeys(curve.norm for curve in curves))
        figure = picture(width or (6.6 if len(norms) == 1 else 7.6), HEIGHT)
        panels = figure.subplots(1, len(norms), sharey=True, squeeze=False)[0]
        for axes, norm in zip(panels, norms, strict=True):
            chosen = [curve for curve in curves if curve.norm == norm]
            _against_eps(axes, norm, chosen, clean)
            _asked(axes, eps, threshold, _lines_of(chosen, clean))
            if chance is not None:
                axes.axhline(chance, color=INK, linewidth=1.0, linestyle=DASHES[2], alpha=0.6)
                axes.annotate(
                    "chance",
                    (1, chance),
                    (-2, 3),
                    axes.get_yaxis_transform(),
                    "offset points",
                    ha="right",
                    fontsize=8,
                    alpha=0.75,
                )
        panels[0].set(ylim=(0, 1.02), ylabel="accuracy under attack")
        percent_axis(panels[0], "y")
        return figure


Line = tuple[list[float], NDArray[np.float64]]
"""Budgets, and accuracy under each."""


def _lines_of(curves: Sequence[RobustnessCurve], clean: Doubtful) -> list[Line]:
    return [
        (
            [0.0, *(point.eps for point in curve.points)],
            columns([clean, *(point.robust_accuracy for point in curve.points)])[0],
        )
        for curve in curves
    ]


def _asked(axes: Axes, eps: float | None, threshold: float | None, lines: Sequence[Line]) -> None:
    """Draw what is judged: the budget, the threshold, and where the two meet. The threshold is
    named at the end of the axis where `lines` are further from it."""
    line: dict[str, Any] = {"color": INK, "linewidth": 1.0, "linestyle": DASHES[1], "alpha": 0.7}
    if eps is not None:
        axes.axvline(eps, **line, zorder=1)
    if threshold is not None:
        axes.axhline(threshold, **line, zorder=1)
        said = f"asked: at least {100 * threshold:g} %"
        left = _clearance(lines, threshold, 0.0) > _clearance(lines, threshold, 0.55)
        place = (0.01 if left else 0.99, threshold)
        beside, above = axes.get_yaxis_transform(), (0, 3)
        text: dict[str, Any] = {"fontsize": 8, "alpha": 0.85, "ha": "left" if left else "right"}
        axes.annotate(said, place, above, beside, "offset points", **text)
    if eps is not None and threshold is not None:
        axes.plot(eps, threshold, "o", markersize=7, color=INK, markerfacecolor="none", alpha=0.8)


def _clearance(lines: Sequence[Line], value: float, start: float) -> float:
    """Return how near to a value lines come within 0.45 of the axis, from a share of it on."""
    shares = np.linspace(start, start + 0.45, 10)
    found = [np.interp(shares * max(eps), eps, np.nan_to_num(line)) for eps, line in lines]
    return min((float(np.abs(line - value).min()) for line in found), default=1.0)


def style_of(series: Series, place: int) -> tuple[str, Any]:
    """Return colour and line style of a series, the `place`th of its figure.

    The palette has seven colours: the eighth line without a colour of its own is dashed.
    """
    index = place if series.colour is None else series.colour
    dash = series.dash + (place // len(SERIES) if series.colour is None else 0)
    return SERIES[index % len(SERIES)], DASHES[dash % len(DASHES)]


def draw_series(
    axes: Axes, series: Series, place: int, *, width: float, tint: float, most: int = MOST_POINTS
) -> None:
    """Draw a line with its band, thinned to what can be seen.

    Args:
        place: its number within the figure, from 0, which chooses its style.
        width: of the line, in points.
        tint: opacity of the band.
        most: points of the line, and of both edges of its band together.
    """
    colour, dash = style_of(series, place)
    x, y = _points(axes, series)
    kept = thinned(y, most)
    axes.plot(x[kept], y[kept], color=colour, linestyle=dash, linewidth=width)
    if series.low is not None and series.high is not None:
        low, high = np.asarray(series.low, dtype=float), np.asarray(series.high, dtype=float)
        kept = thinned(high - low, most // 2)
        axes.fill_between(
            x[kept], low[kept], high[kept], color=colour, alpha=tint, linewidth=0, zorder=1
        )


def thinned(y: NDArray[np.float64], most: int) -> NDArray[np.intp]:
    """Return the indices of at most `most` points that keep what one sees of a line.

    The line is cut into stretches of equal length; of each its least and its greatest point stay,
    and one that is not finite, which breaks it. Both ends stay. (N,) to (at most `most`,).
    """
    if len(y) <= most:
        return np.arange(len(y))
    kept = [0, len(y) - 1]
    for stretch in np.array_split(np.arange(len(y)), (most - 2) // 3):
        known = stretch[np.isfinite(y[stretch])]
        if len(known):
            kept += [known[y[known].argmin()], known[y[known].argmax()]]
        if len(known) < len(stretch):
            kept.append(np.setdiff1d(stretch, known)[0])
    return np.unique(kept)


def log_axis(axes: Axes) -> None:
    """Make the vertical axis logarithmic, with powers of ten that can be read."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value)))
    axes.yaxis.set_minor_locator(NullLocator())


def _points(axes: Axes, series: Series) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.asarray(series.x, dtype=float), np.asarray(series.y, dtype=float)
    return x, np.where(y > 0, y, np.nan) if axes.get_yscale() == "log" else y


def _lines(axes: Axes, series: Sequence[Series], side: Literal["left", "right"] = "right") -> None:
    """Draw each series with its band, and its name at one of its ends."""
    ends: list[End] = []
    for i, line in enumerate(series):
        draw_series(axes, line, i, width=1.6, tint=0.16 if len(series) <= 6 else 0.1)
        x, y = _points(axes, line)
        known = np.flatnonzero(np.isfinite(y))
        if len(known):
            k = known[-1] if side == "right" else known[0]
            ends.append(End(float(x[k]), float(y[k]), line.label, *style_of(line, i)))
    axes.margins(x=0.01)
    grid(axes)
    name_ends(axes, ends, side)


def name_ends(axes: Axes, ends: Sequence[End], side: Literal["left", "right"] = "right") -> None:
    """Write labels beside the axes at the heights of the ends, none over another.

    A label that is not where its line ends is joined to it by a thin line. Where lines are dashed,
    each label has a piece of its line before it.
    """
    from scipy.optimize import isotonic_regression

    if not ends:
        return
    ordered = sorted(ends, key=lambda end: end.y)
    axes.get_ylim()  # the limits follow the data only once they are read
    scaled = axes.transScale.transform([(end.x, end.y) for end in ordered])
    across, height = axes.transLimits.transform(scaled).T
    steps = min(LABEL_GAP, 1 / len(ordered)) * np.arange(len(ordered))
    # Least squares under "each a gap above the last" is isotonic regression of what remains.
    place = isotonic_regression(height - steps).x
    place = np.clip(place, 0.0, max(1.0 - steps[-1], 0.0)) + steps
    edge, sign = (1.0, 1) if side == "right" else (0.0, -1)
    sample = 20 if len({str(end.dash) for end in ends}) > 1 else 0  # points
    for end, x, y, at in zip(ordered, across, height, place, strict=True):
        if abs(x - edge) > 0.03 or abs(y - at) > 0.02:
            axes.plot(
                [x, edge + sign * 0.008],
                [y, at],
                transform=axes.transAxes,
                color=end.colour,
                linewidth=0.6,
                alpha=0.55,
                clip_on=False,
            )
        if sample:
            points = axes.figure.dpi_scale_trans + ScaledTranslation(edge, at, axes.transAxes)  # type: ignore[arg-type]
            span = [sign * 7 / 72, sign * (7 + sample) / 72]
            style = {"color": end.colour, "linestyle": end.dash, "clip_on": False}
            axes.add_artist(Line2D(span, [0, 0], transform=points, **style))
        axes.annotate(
            end.label,
            (edge, at),
            (sign * (7 + sample + 3 * bool(sample)), 0),
            "axes fraction",
            "offset points",
            color=end.colour,
            ha="left" if side == "right" else "right",
            va="center",
            fontsize=8.5,
            weight="bold",
        )


def _against_eps(axes: Axes, norm: str, curves: Sequence[RobustnessCurve], clean: Doubtful) -> None:
    ends: list[End] = []
    ticks = {0.0}
    for i, curve in enumerate(curves):
        colour = SERIES[colour_of(curve.attack, i) % len(SERIES)]
        estimates: list[Doubtful] = [clean, *(point.robust_accuracy for point in curve.points)]
        eps = [0.0, *(point.eps for point in curve.points)]
        value, low, high = columns(estimates)
        axes.plot(eps, value, color=colour, marker=MARKERS[i % len(MARKERS)])
        axes.vlines(eps, low, high, color=colour, linewidth=2.4, alpha=0.4)
        ticks |= set(eps)
        ends.append(End(eps[-1], float(value[-1]), curve.attack, colour))
    shown = _far_apart(sorted(ticks), 0.8 * axes.figure.dpi / axes.figure.bbox.width)
    axes.set_xticks(shown, [budget(eps, norm) for eps in shown])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(ylim=(0, 1.02), xlabel=f"budget eps ({norm_name(norm)})")
    grid(axes)
    name_ends(axes, ends)


def _far_apart(ticks: Sequence[float], room: float) -> list[float]:
    """Return the ticks that leave their labels room, a share of the axis: the first, the last, and
    what fits between them from the largest down."""
    first, least = ticks[0], room * (ticks[-1] - ticks[0])
    kept = [ticks[-1]]
    for tick in reversed(ticks[1:-1]):
        if kept[-1] - tick >= least and tick - first >= least:
            kept.append(tick)
    return [first, *kept[::-1]]
