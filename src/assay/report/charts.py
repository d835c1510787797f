"""Figures of estimates and distributions: intervals, bars, reliability, confusion, scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from assay.report.numerals import Doubtful, with_unit
from assay.report.record import Unit
from assay.report.schema import Bin, Histogram
from assay.report.style import (
    DASHES,
    INK,
    SERIES,
    Picture,
    columns,
    grid,
    name_rows,
    percent_axis,
    picture,
    points_axis,
    styled,
)

NARROWEST = 0.01
"""The axis of a forest plot spans at least this much: values are written to three digits, and what
differs by less is not to look as if it did."""


def intervals(
    rows: Sequence[tuple[str, Doubtful, int]],
    x_label: str,
    reference: float | None = None,
    *,
    unit: Unit = "fraction",
    rule: int | None = None,
    width: float = 6.6,
) -> Picture:
    """Return a dot and its interval for each row, its value beside it: a forest plot.

    An end of an interval that is not finite is drawn to the edge of the axes.

    Args:
        rows: label, estimate and index into the palette, the first row on top.
        x_label: what the estimates are.
        reference: a value that they are compared with, drawn as a dashed line.
        unit: how the values are written.
        rule: how many rows stand above a rule; None: there is none.
        width: inches.
    """
    with styled():
        figure = picture(width, 0.75 + 0.27 * len(rows))
        axes = figure.add_subplot()
        value, low, high = columns(estimate for _, estimate, _ in rows)
        shown = np.concatenate([value, low, high, [np.nan if reference is None else reference]])
        shown = shown[np.isfinite(shown)]
        least, most = (shown.min(), shown.max()) if len(shown) else (0.0, 1.0)
        if unit == "fraction" and least == most:
            least, most = min(least, 0.0), max(most, 1.0)
        room = 0.04 * ((most - least) or 1.0)
        if 0 < most - least < NARROWEST:
            room = (NARROWEST - (most - least)) / 2
        axes.set_xlim(least - room, most + room)
        if reference is not None:
            axes.axvline(reference, color=INK, linewidth=1.0, linestyle=DASHES[1], alpha=0.7)
        for row, (_, estimate, colour) in enumerate(rows):
            hue = SERIES[colour % len(SERIES)]
            if np.isfinite(value[row]):
                start = low[row] if np.isfinite(low[row]) else least - room
                end = high[row] if np.isfinite(high[row]) else most + room
                axes.hlines(row, start, end, color=hue, linewidth=2.4, alpha=0.5)
                axes.plot(value[row], row, "o", color=hue, markersize=6)
            _beside(axes, row, with_unit(estimate.value, unit))
        name_rows(axes, [label for label, _, _ in rows])
        if rule is not None:
            axes.axhline(rule - 0.5, color=INK, linewidth=1.2)
        axes.set_xlabel(f"{x_label}, points" if unit == "points" else x_label)
        if unit == "fraction":
            percent_axis(axes, "x")
        elif unit == "points":
            points_axis(axes, "x")
        return figure


def reliability(bins: Sequence[Bin], kind: str = "images") -> Picture:
    """Return the reliability diagram: accuracy against confidence, and where the images are.

    Dots on the diagonal: a confidence of 80 % is right 80 % of the time. Below it: overconfident.
    """
    with styled():
        figure = picture(4.4, 4.9)
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        filled = [b for b in bins if b.count and b.accuracy is not None]
        confidence = np.array([b.confidence for b in filled], dtype=float)
        value, low, high = columns(b.accuracy for b in filled if b.accuracy is not None)
        axes.plot([0, 1], [0, 1], color=INK, linewidth=1.0, linestyle=DASHES[2], alpha=0.6)
        axes.annotate(
            "perfectly calibrated",
            (0.02, 0.02),
            (0, 4),
            textcoords="offset points",
            rotation=45,
            rotation_mode="anchor",
            transform_rotates_text=True,
            fontsize=8,
            alpha=0.75,
        )
        axes.vlines(confidence, low, high, color=SERIES[0], linewidth=2.2, alpha=0.5)
        axes.plot(confidence, value, "o", color=SERIES[0], markersize=5.5, clip_on=False)
        axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
        below.bar(
            [b.low for b in bins],
            [b.count for b in bins],
            align="edge",
            width=[0.94 * (b.high - b.low) for b in bins],
            color=SERIES[6],
            alpha=0.8,
        )
        below.set(xlabel="confidence", ylabel=kind)
        below.yaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))
        for panel in (axes, below):
            grid(panel)
            percent_axis(panel, "x")
        percent_axis(axes, "y")
        figure.align_ylabels()
        return figure


def confusion(matrix: ArrayLike, classes: Sequence[str]) -> Picture:
    """Return the confusion matrix, each row as a share of its true class.

    Up to 12 classes every cell says its count; beyond 40 the names are left out as well.
    """
    with styled():
        counts = np.asarray(matrix, dtype=np.int64)
        share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        k = len(classes)
        side = min(6.6, 1.3 + (0.29 if counts.max(initial=0) < 1000 else 0.42) * k)
        figure = picture(side, side)
        axes = figure.add_subplot()
        # One hue for right, one for wrong, and the share as opacity: this suits light and dark.
        shown = np.zeros((k, k, 4))
        shown[...] = (*to_rgb(SERIES[1]), 0)
        shown[np.arange(k), np.arange(k)] = (*to_rgb(SERIES[0]), 0)
        shown[..., 3] = np.where(counts > 0, 0.08 + 0.84 * share, 0.0)
        axes.imshow(shown, interpolation="none")
        axes.set(xlabel="predicted class", ylabel="true class")
        if k <= 12:
            for row, column in np.argwhere(counts > 0):
                axes.text(
                    column,
                    row,
                    f"{counts[row, column]:,}",
                    ha="center",
                    va="center",
                    color="#ffffff" if share[row, column] > 0.55 else INK,
                    fontsize=8,
                )
        axes.tick_params(length=0, labelsize=8.5, colors=INK)
        for spine in axes.spines.values():
            spine.set_visible(False)
        if k <= 40:
            names = [name if len(name) <= 14 else name[:13] + "…" for name in classes]
            slant = 0 if max(map(len, names), default=0) <= 2 else 45
            axes.set_xticks(
                range(k),
                names,
                rotation=slant,
                ha="right" if slant else "center",
                rotation_mode="anchor" if slant else "default",
            )
            axes.set_yticks(range(k), names)
        return figure


CROWDED = 0.5
"""Share of a set in one bin, from which on shares are drawn on a logarithmic axis."""


def histograms(
    histogram: Histogram, *, threshold: float | None = None, x_label: str = "score"
) -> Picture:
    """Return the scores of inliers and outliers, each as a share of its own set.

    Where most scores of a set crowd into one bin the shares are on a logarithmic axis: what lies
    elsewhere would not be seen beside them.
    """
    with styled():
        figure = picture(4.4, 2.5)
        axes = figure.add_subplot()
        edges = np.asarray(histogram.edges)
        middle = (edges[:-1] + edges[1:]) / 2
        sets = [
            (np.asarray(counts) / max(sum(counts), 1), colour, label)
            for counts, colour, label in (
                (histogram.inliers, SERIES[0], "test data"),
                (histogram.outliers, SERIES[1], "outliers"),
            )
        ]
        sets.sort(key=lambda one: float(one[0] @ middle))  # the name on the left lies on the left
        for (share, colour, label), side in zip(sets, ("left", "right"), strict=True):
            axes.stairs(share, edges, fill=True, color=colour, alpha=0.35, linewidth=0)
            axes.stairs(share, edges, color=colour, linewidth=1.3)
            axes.annotate(
                label,
                (float(side == "right"), 1),
                (0, 3),
                "axes fraction",
                "offset points",
                color=colour,
                ha=side,
                va="bottom",
                weight="bold",
            )
        if threshold is not None:
            axes.axvline(threshold, color=INK, linewidth=1.0, linestyle=DASHES[1], alpha=0.7)
        axes.set(xlabel=x_label, ylim=(0, None))
        axes.set_xlim(edges[0], edges[-1])
        if max(float(share.max()) for share, _, _ in sets) > CROWDED:
            least = min(float(share[share > 0].min(initial=1.0)) for share, _, _ in sets)
            axes.set_yscale("log")
            axes.set(ylim=(least / 2, 1.5), ylabel="share, log scale")
            axes.yaxis.set_minor_locator(NullLocator())
        else:
            axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
        percent_axis(axes, "y")
        grid(axes, "y")
        return figure


def roc(curves: Mapping[str, Sequence[tuple[float, float]]]) -> Picture:
    """Return (false-positive rate, true-positive rate) for each detector, with a key."""
    with styled():
        figure = picture(4.4, 4.4)
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=INK, linewidth=1.0, linestyle=DASHES[2], alpha=0.6)
        for i, (label, points) in enumerate(curves.items()):
            fpr, tpr = np.asarray(points, dtype=float).reshape(-1, 2).T
            axes.plot(fpr, tpr, color=SERIES[i % 7], linestyle=DASHES[i // 7 % 4], label=label)
        axes.set(
            xlim=(-0.01, 1.01),
            ylim=(-0.01, 1.01),
            aspect="equal",
            xlabel="inliers called outliers",
            ylabel="outliers found",
        )
        percent_axis(axes, "x")
        percent_axis(axes, "y")
        grid(axes)
        # Good curves share the upper left corner: labels at the lines would lie on one another.
        # Curves of detectors that take outliers for inliers share the lower right one.
        good = sum(y - x for points in curves.values() for x, y in points) >= 0
        if curves:
            axes.legend(
                loc="lower right" if good else "upper left",
                frameon=False,
                labelcolor=INK,
                handlelength=1.6,
            )
        return figure


def _beside(axes: Axes, row: int, text: str) -> None:
    """Write `text` right of the axes at the height of a row."""
    place = axes.get_yaxis_transform()
    axes.annotate(text, (1.0, row), (6, 0), place, "offset points", va="center", fontsize=8.5)
