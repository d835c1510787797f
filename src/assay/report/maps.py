"""Figures of numbers over a plane: heat maps of layer by step, and surfaces of a loss.

Maps side by side have one scale, so that a colour means one number throughout a figure.
Cells are pixels of a small image inside the SVG: a map of a thousand cells takes a few kilobytes.
More than a hundred columns cannot be told apart on a page: give every n-th.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from assay.errors import AssayError
from assay.report.numerals import power_of_ten
from assay.report.style import INK, Picture, picture, styled

COLOURS = colormaps["viridis"]
"""Even to the eye, and to people with any of the common colour blindnesses."""
NO_VALUE = (0.5, 0.5, 0.5, 0.4)
"""Grey, which is not among the colours, and is seen on light and dark."""
DECADES = 12
"""A logarithmic scale that is not given goes at most so far down from the greatest value."""
LEVELS = 16
"""Steps of the contours of a surface."""
ACROSS = 3
"""Maps in one row of a figure."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """What the colours of a figure mean.

    Attributes:
        low, high: the ends of the bar.
        log: whether it is logarithmic.
        below, above: whether there are values beyond an end, which have its colour.
        missing: whether there are cells without a value.
    """

    low: float
    high: float
    log: bool
    below: bool
    above: bool
    missing: bool

    @property
    def norm(self) -> Normalize:
        return (LogNorm if self.log else Normalize)(self.low, self.high)

    @property
    def extend(self) -> Literal["neither", "min", "max", "both"]:
        """Which ends of the bar are arrows."""
        if self.below and self.above:
            return "both"
        return "min" if self.below else "max" if self.above else "neither"

    def clip(self, values: Values) -> Values:
        """Return the values with those beyond an end set to it; NaN stays."""
        return np.clip(values, self.low, self.high)


def heat_map(
    values: ArrayLike,
    *,
    x: Sequence[float],
    y: Sequence[str],
    x_label: str = "step",
    y_label: str = "layer, from input to output",
    bar_label: str = "gradient norm",
    log: bool = True,
    limits: tuple[float, float] | None = None,
) -> Picture:
    """Return one map, (len(y), len(x)); see `heat_maps`."""
    return heat_maps(
        [""],
        [values],
        x=x,
        y=[y],
        x_label=x_label,
        y_label=y_label,
        bar_label=bar_label,
        log=log,
        limits=limits,
    )


def heat_maps(
    titles: Sequence[str],
    arrays: Sequence[ArrayLike],
    *,
    x: Sequence[float],
    y: Sequence[Sequence[str]],
    x_label: str = "step",
    y_label: str = "layer, from input to output",
    bar_label: str = "gradient norm",
    log: bool = True,
    limits: tuple[float, float] | None = None,
    square: bool = False,
) -> Picture:
    """Return maps side by side, on one scale: a cell for every row and column, the first on top.

    A cell that is NaN is grey, and a key says so. Columns are equally wide, whatever `x` is.

    Args:
        titles: one per map.
        arrays: one per map, (len(y[i]), len(x)).
        x: what each column is.
        y: for each map the names of its rows.
        log: whether the scale is logarithmic; zero then has the colour of the lower end.
        limits: the ends of the scale; None: those of the values, a logarithmic one at most 12
            decades long. Values beyond have the colour of the end, which is then an arrow.
        square: cells are as wide as they are high, as the pixels of an image are.

    Raises:
        AssayError: for a map that is not as large as its names say.
    """
    shown = [np.asarray(values, dtype=float) for values in arrays]
    for title, values, names in zip(titles, shown, y, strict=True):
        if values.shape != (len(names), len(x)):
            raise AssayError(
                f"the map {title!r} has shape {values.shape}, but {len(names)} rows and {len(x)} "
                "columns are named"
            )
    scale = scale_of(shown, log, limits)
    with styled():
        tallest = max(len(names) for names in y)
        height = float(np.clip(0.22 * tallest, 1.3, 2.6))
        figure, panels = _panels(len(shown), 2.1 if len(shown) > 1 else 4.6, height, scale)
        for i, (axes, title, values, names) in enumerate(
            zip(panels, titles, shown, y, strict=True)
        ):
            cells = np.asarray(COLOURS(scale.norm(scale.clip(values))))
            cells[np.isnan(values)] = NO_VALUE
            axes.imshow(cells, aspect="equal" if square else "auto", interpolation="none")
            columns, rows = _spread(len(x), 4), _spread(len(names), 8)
            axes.set_xticks(columns, [f"{x[k]:,g}" for k in columns])
            beside = i % ACROSS > 0 and names == y[i - 1]  # named on the left already
            axes.set_yticks(rows, [] if beside else [names[k] for k in rows])
            axes.set_title(title)
        _finish(figure, panels, scale, x_label, y_label, bar_label)
        return figure


def surfaces(
    titles: Sequence[str],
    arrays: Sequence[ArrayLike],
    alphas: Sequence[float],
) -> Picture:
    """Return surfaces as filled contours side by side, on one logarithmic scale.

    The circle marks the centre: the trained weights. What is NaN is grey; an infinite loss has the
    colour of the upper end.

    Args:
        titles: one per surface.
        arrays: one per surface, (len(alphas), len(alphas)); rows go along the second direction.
        alphas: the grid, rising, the same in both directions.
    """
    shown = [np.asarray(values, dtype=float) for values in arrays]
    scale = scale_of(shown, True)
    levels = np.geomspace(scale.low, scale.high, LEVELS)
    levels[[0, -1]] = scale.low, scale.high  # geomspace may miss them by rounding
    with styled():
        figure, panels = _panels(len(shown), 2.1, 1.75, scale)
        figure.set_layout_engine("compressed")  # the bar is as tall as the squares
        first, last = alphas[0], alphas[-1]
        for i, (axes, title, values) in enumerate(zip(panels, titles, shown, strict=True)):
            around = Rectangle((first, first), last - first, last - first, facecolor=NO_VALUE)
            axes.add_patch(around).set(linewidth=0, zorder=0)
            if np.isfinite(values).any():
                grid = (alphas, alphas, np.ma.masked_invalid(scale.clip(values)))
                axes.contourf(*grid, levels=levels, norm=scale.norm, cmap=COLOURS, zorder=1)
                axes.contour(*grid, levels=levels, colors="#ffffff", linewidths=0.5, alpha=0.35)
            axes.plot(0, 0, "o", markersize=4.5, color="#ffffff", markeredgecolor="#000000")
            axes.set(xlim=(first, last), ylim=(first, last), aspect="equal", title=title)
            names = [_plain(tick) for tick in (first, 0, last)]
            axes.set_xticks([first, 0, last], names)
            axes.set_yticks([first, 0, last], [] if i % ACROSS else names)
        _finish(figure, panels, scale, "first direction", "second direction", "training loss")
        return figure


def scale_of(
    arrays: Sequence[Values], log: bool, limits: tuple[float, float] | None = None
) -> Scale:
    """Return the one scale of several arrays; see `heat_maps` for its ends."""
    every = np.concatenate([values.ravel() for values in arrays])
    told = every[~np.isnan(every)]
    usable = told[np.isfinite(told) & ((told > 0) | (not log))]
    if limits is not None:
        low, high = limits
    elif len(usable):
        low, high = float(usable.min()), float(usable.max())
        low = max(low, high / 10.0**DECADES) if log else low
    else:
        low, high = (1.0, 1.0) if log else (0.0, 0.0)
    if low == high:  # a bar needs a length
        low, high = (low / 2, high * 2) if log else (low - 0.5, high + 0.5)
    return Scale(
        low,
        high,
        log,
        below=bool((told < low).any()),
        above=bool((told > high).any()),
        missing=len(told) < len(every),
    )


def _panels(count: int, width: float, height: float, scale: Scale) -> tuple[Picture, list[Axes]]:
    """Return a figure and axes for `count` maps, `width` by `height` inches each."""
    across = min(count, ACROSS)
    down = -(-count // across)
    room = 0.75 if scale.missing else 0.45  # for the key
    figure = picture(1.3 + width * across, room + (height + 0.45) * down)
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.set_axis_off()
    return figure, list(grid[:count])


def _finish(
    figure: Picture,
    panels: Sequence[Axes],
    scale: Scale,
    x_label: str,
    y_label: str,
    bar_label: str,
) -> None:
    """Label the outer axes, and add the bar, and a key where there are cells without a value."""
    for i, axes in enumerate(panels):
        axes.tick_params(length=0, pad=4, labelsize=8, colors=INK)
        for spine in axes.spines.values():
            spine.set_visible(False)
        if i % ACROSS == 0:
            axes.set_ylabel(y_label)
        if i + ACROSS >= len(panels):
            axes.set_xlabel(x_label)
    every: Any = figure.axes
    bar = figure.colorbar(
        ScalarMappable(scale.norm, COLOURS),
        ax=every,
        extend=scale.extend,
        label=bar_label,
        aspect=28,
        pad=0.02,
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=3, labelsize=8, colors=INK, width=0.6)
    bar.ax.yaxis.set_major_locator(FixedLocator(_ticks(scale)))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    written = power_of_ten if scale.log else _plain
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: written(value)))
    if scale.missing:
        figure.legend(
            handles=[Patch(facecolor=NO_VALUE, label="no value")],
            loc="outside lower right",
            frameon=False,
            labelcolor=INK,
            fontsize=8,
            handlelength=1.2,
        )


def _ticks(scale: Scale) -> list[float]:
    """Return where the bar has numbers: within its ends, at most eight."""
    low, high = scale.low - 1e-9 * abs(scale.low), scale.high + 1e-9 * abs(scale.high)
    if not scale.log:
        found = MaxNLocator(nbins=6).tick_values(scale.low, scale.high)
        return [float(tick) for tick in found if low <= tick <= high]
    first, last = np.floor(np.log10(scale.low)), np.ceil(np.log10(scale.high))
    decades = 10.0 ** np.arange(first, last + 1, max(1, -(-(last - first) // 6)))
    for parts in ((1,), (1, 3), (1, 2, 5), tuple(range(1, 10))):
        ticks = np.outer(decades, parts).ravel()
        inside = [float(tick) for tick in ticks if low <= tick <= high]
        if len(inside) >= 3:
            return inside
    return [scale.low, scale.high]


def _plain(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _spread(count: int, most: int) -> list[int]:
    """Return at most `most` of `count` places, evenly spread from the first on."""
    return list(range(0, count, max(1, -(-count // most))))
