"""The figures that lead a page: few series, named where they end, in two widths (for a page and for
a phone), from numbers that a result holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator

from assay.report.curves import End, name_ends
from assay.report.numerals import MISSING, Doubtful
from assay.report.result import Drawing
from assay.report.style import (
    DASHES,
    INK,
    SERIES,
    Picture,
    columns,
    grid,
    inline_svg,
    name_rows,
    percent_axis,
    picture,
    styled,
)

WIDE, NARROW = 8.5, 3.9
"""Inches: a page's text, and a phone's."""


@dataclass(frozen=True)
class Line:
    """Values over a few places, each with its interval.

    Attributes:
        label: at its end.
        x: the places.
        estimates: one for each place.
        colour: index into the palette.
        dash: index into the dashes.
    """

    label: str
    x: Sequence[float]
    estimates: Sequence[Doubtful]
    colour: int
    dash: int = 0


@dataclass(frozen=True)
class Dot:
    """A value in a row, with its interval.

    Attributes:
        label: what it is of; those of one label look alike.
        estimate: the value.
        colour: index into the palette.
    """

    label: str
    estimate: Doubtful
    colour: int


def hero(title: str, finding: str, caption: str, draw: Callable[[float], Picture]) -> Drawing:
    """Return the figure that leads a page, drawn in both widths.

    Args:
        title: what it is a figure of.
        finding: what is seen in it.
        caption: how to read it.
        draw: draws it so many inches wide.
    """
    return Drawing(
        title=title,
        caption=caption,
        svg=inline_svg(draw(WIDE), finding),
        narrow=inline_svg(draw(NARROW), finding),
        role="hero",
        finding=finding,
    )


def measured_lines(
    lines: Sequence[Line],
    ticks: Sequence[tuple[float, str]],
    *,
    width: float,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    from_zero: bool = True,
) -> Picture:
    """Return fractions over a few places: a mark where one was measured, its interval as a bar.

    Args:
        lines: each with its name at its right end.
        ticks: places of the x axis, and what is written there.
        width: in inches; the height follows.
        x_label, y_label: what the axes show.
        log_x: whether places are spaced by their logarithms.
        from_zero: whether the y axis goes from 0 to 100 %, or spans what is shown.
    """
    with styled():
        figure = picture(width, 4.0 if width > 5 else 3.4)
        axes = figure.add_subplot()
        if log_x:
            axes.set_xscale("log")
        ends = []
        for line in lines:
            hue = SERIES[line.colour % len(SERIES)]
            dash = DASHES[line.dash % len(DASHES)]
            value, low, high = columns(line.estimates)
            axes.plot(line.x, value, color=hue, linestyle=dash, marker="o", linewidth=2.0)
            axes.vlines(line.x, low, high, color=hue, linewidth=3.2, alpha=0.35)
            known = np.flatnonzero(np.isfinite(value))
            if len(known):
                ends.append(End(line.x[known[-1]], float(value[known[-1]]), line.label, hue, dash))
        axes.xaxis.set_major_locator(FixedLocator([place for place, _ in ticks]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([text for _, text in ticks])
        axes.set(xlabel=x_label, ylabel=y_label)
        if from_zero:
            axes.set_ylim(-0.02, 1.02)
        axes.margins(x=0.04)
        percent_axis(axes, "y")
        grid(axes, "y")
        name_ends(axes, ends)
        return figure


def dots(
    rows: Sequence[tuple[str, Sequence[Dot]]],
    *,
    width: float,
    x_label: str,
    references: Sequence[tuple[float, str]] = (),
) -> Picture:
    """Return a row for each name, with the shares of several things on one axis, joined.

    Args:
        rows: a name, and its dots; the first row on top.
        width: in inches.
        x_label: what the axis shows.
        references: values that the dots are compared with, and their names.
    """
    with styled():
        figure = picture(width, 0.95 + 0.34 * len(rows))
        axes = figure.add_subplot()
        for row, (_, own) in enumerate(rows):
            known = [dot for dot in own if dot.estimate.n and dot.estimate.value is not None]
            at = [float(dot.estimate.value or 0.0) for dot in known]
            if len(at) > 1:
                axes.hlines(row, min(at), max(at), color=INK, linewidth=1.0, alpha=0.3)
            for dot, x in zip(known, at, strict=True):
                hue = SERIES[dot.colour % len(SERIES)]
                _, low, high = columns([dot.estimate])[:, 0]
                if np.isfinite(low) and np.isfinite(high):
                    axes.hlines(row, low, high, color=hue, linewidth=3.4, alpha=0.4)
                axes.plot(x, row, "o", color=hue, markersize=7, clip_on=False)  # whole at 100 %
        for value, label in references:
            axes.axvline(value, color=INK, linewidth=1.0, linestyle=DASHES[1], alpha=0.6)
            axes.annotate(
                label,
                (value, 1),
                (0, 3),
                axes.get_xaxis_transform(),
                "offset points",
                ha="center",
                va="bottom",
                fontsize=8,
                alpha=0.8,
            )
        name_rows(axes, [name for name, _ in rows])
        axes.set_xlabel(x_label)
        axes.set_xlim(0, 1)
        percent_axis(axes, "x")
        _key(figure, rows)
        return figure


def _key(figure: Picture, rows: Sequence[tuple[str, Sequence[Dot]]]) -> None:
    """Say above the axes what each colour is, in that colour."""
    labels = {dot.label: dot.colour for _, own in rows for dot in own if dot.label}
    if len(labels) < 2:
        return
    handles = [
        figure.axes[0].plot([], [], "o", color=SERIES[colour % len(SERIES)], label=label)[0]
        for label, colour in labels.items()
    ]
    legend = figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=4 if figure.get_figwidth() > 5 else 2,
        frameon=False,
        handlelength=0.8,
        handletextpad=0.4,
        columnspacing=1.4,
    )
    for text, colour in zip(legend.get_texts(), labels.values(), strict=True):
        text.set_color(SERIES[colour % len(SERIES)])
        text.set_fontweight("bold")


def said(estimate: Doubtful) -> str:
    """Return a fraction as findings say it, to whole percent: 74 %."""
    return MISSING if estimate.value is None else f"{100 * estimate.value:.0f} %"


def seen(
    figure: Drawing | None,
    finding: str = "",
    *,
    role: Literal["hero", "why", "data"] = "why",
    beside: str = "",
) -> list[Drawing]:
    """Return a figure with what is seen in it and where it stands; nothing where there is none."""
    if figure is None:
        return []
    return [figure.model_copy(update={"finding": finding, "role": role, "beside": beside})]
