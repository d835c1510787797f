"""Figures of lines, named at their ends: learning curves, gradient norms, robust accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator
from scipy.optimize import isotonic_regression

from assay.report.look import (
    DASHES,
    INK,
    MARKERS,
    SERIES,
    Picture,
    columns,
    grid,
    look,
    percent_axis,
    picture,
)
from assay.report.numerals import Doubtful, budget, norm_name
from assay.report.schema import RobustnessCurve

HEIGHT = 3.6
"""Inches, of every figure of lines."""
LABEL_GAP = 0.06
"""Least distance of two labels at line ends, as a share of the height of the axes."""


@dataclass(frozen=True)
class Series:
    """One line of a figure.

    Attributes:
        label: stands at its right end.
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
    with look():
        figure = picture(6.6, HEIGHT)
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
    x_label: str = "layer, from input to output",
    y_label: str = "gradient norm",
) -> Picture:
    """Return the gradient norm of each layer against its depth, on a logarithmic axis.

    Zero gradients cannot stand on it: they are left out, as gaps.
    """
    with look():
        figure = picture(6.6, HEIGHT)
        axes = figure.add_subplot()
        axes.set_yscale("log")
        _lines(axes, series)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        return figure


def accuracy_against_eps(
    curves: Sequence[RobustnessCurve], clean: Doubtful, *, chance: float | None = None
) -> Picture:
    """Return robust accuracy against the budget, a line with its intervals for each attack.

    Every line starts at eps = 0 from `clean`. Curves of different norms get panels of their own,
    since their budgets are not comparable. `chance` is drawn as a dotted line.
    """
    with look():
        norms = list(dict.fromkeys(curve.norm for curve in curves))
        figure = picture(6.6 if len(norms) == 1 else 7.6, HEIGHT)
        panels = figure.subplots(1, len(norms), sharey=True, squeeze=False)[0]
        for axes, norm in zip(panels, norms, strict=True):
            chosen = [curve for curve in curves if curve.norm == norm]
            _against_eps(axes, norm, chosen, clean)
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


def _lines(axes: Axes, series: Sequence[Series]) -> None:
    """Draw each series with its band, and its name at its right end."""
    ends: list[tuple[float, str, str]] = []
    for i, line in enumerate(series):
        colour = SERIES[(i if line.colour is None else line.colour) % len(SERIES)]
        x, y = np.asarray(line.x, dtype=float), np.asarray(line.y, dtype=float)
        if axes.get_yscale() == "log":
            y = np.where(y > 0, y, np.nan)
        axes.plot(x, y, color=colour, linestyle=DASHES[line.dash % len(DASHES)])
        if line.low is not None and line.high is not None:
            axes.fill_between(x, line.low, line.high, color=colour, alpha=0.16, linewidth=0)
        known = np.flatnonzero(np.isfinite(y))
        if len(known):
            ends.append((float(y[known[-1]]), line.label, colour))
    axes.margins(x=0.01)
    grid(axes)
    _name_ends(axes, ends)


def _name_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write labels right of the axes at the heights of (y, label, colour), none over another."""
    if not ends:
        return
    ordered = sorted(ends, key=lambda end: end[0])
    scaled = axes.transScale.transform([(1.0, end[0]) for end in ordered])
    height = axes.transLimits.transform(scaled)[:, 1]
    steps = LABEL_GAP * np.arange(len(ordered))
    # Least squares under "each a gap above the last" is isotonic regression of what remains.
    place = isotonic_regression(height - steps).x
    place = np.clip(place, 0.0, max(1.0 - steps[-1], 0.0)) + steps
    for (_, label, colour), y in zip(ordered, place, strict=True):
        axes.annotate(
            label,
            (1.0, y),
            (6, 0),
            "axes fraction",
            "offset points",
            color=colour,
            va="center",
            fontsize=8.5,
            weight="bold",
            annotation_clip=False,
        )


def _against_eps(axes: Axes, norm: str, curves: Sequence[RobustnessCurve], clean: Doubtful) -> None:
    ends: list[tuple[float, str, str]] = []
    ticks = {0.0}
    for i, curve in enumerate(curves):
        colour = SERIES[i % len(SERIES)]
        estimates: list[Doubtful] = [clean, *(point.robust_accuracy for point in curve.points)]
        eps = [0.0, *(point.eps for point in curve.points)]
        value, low, high = columns(estimates)
        axes.plot(eps, value, color=colour, marker=MARKERS[i % len(MARKERS)])
        axes.vlines(eps, low, high, color=colour, linewidth=2.4, alpha=0.4)
        ticks |= set(eps)
        ends.append((float(value[-1]), curve.attack, colour))
    shown = _far_apart(sorted(ticks))
    axes.set_xticks(shown, [budget(eps, norm) for eps in shown])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(ylim=(0, 1.02), xlabel=f"budget eps ({norm_name(norm)})")
    grid(axes)
    _name_ends(axes, ends)


def _far_apart(ticks: Sequence[float]) -> list[float]:
    """Return the ticks that leave their labels room, from the largest down."""
    kept: list[float] = []
    for tick in reversed(ticks):
        if not kept or kept[-1] - tick >= 0.09 * ticks[-1]:
            kept.append(tick)
    return kept[::-1]
