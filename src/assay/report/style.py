"""The one style of all figures, and how a figure becomes SVG for a page.

Colours that must change between light and dark are CSS variables in the SVG (`--ink`, `--paper`,
`--series-0` ...), with the light ones as fallback. The series are the hues of Okabe &
Ito (2008), told apart by people with any of the common colour blindnesses, darkened where a line
on white paper would be too pale.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from assay.report.numerals import Doubtful

INK = "#1b1d21"
PAPER = "#fefefe"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#b0508c", "#c78500", "#3d9bd1", "#6e7580")
"""Blue, vermillion, green, purple, orange, sky, grey."""
ATTACKS = {
    "noise": 6,
    "fgsm": 4,
    "mifgsm": 4,
    "pgd": 0,
    "apgd": 0,
    "apgdt": 0,
    "auto": 1,
    "fab": 5,
    "square": 2,
    "hopskipjump": 2,
    "genetic": 3,
    "few-pixel": 0,
    "one-pixel": 1,
    "deepfool": 5,
    "carlini-wagner": 3,
}
"""The colour of each attack in all figures, into the palette: kin share one, in panels apart."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
FAINT = 0.13
"""Opacity of grid lines: drawn in ink, they suit light and dark."""

_STYLE: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.unicode_minus": True,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "#ffffff",
    "axes.facecolor": "#ffffff",
    "svg.fonttype": "none",
    "svg.hashsalt": "assay",
}

_STRAIGHT = re.compile(r"[MLz\d\s.-]+")
"""A path of nothing but straight lines."""


def colour_of(attack: str, otherwise: int) -> int:
    """Return the colour of an attack, "pgd" or "PGD, 20 steps" or "noise L0", into the palette.

    Args:
        otherwise: that of an attack of somebody else's.
    """
    return ATTACKS.get(attack.replace(",", " ").split()[0].lower(), otherwise)


@contextmanager
def styled() -> Iterator[None]:
    """Matplotlib's settings for our figures; the user's own come back at the end."""
    with matplotlib.rc_context(_STYLE):
        yield


class Picture(Figure):
    """A matplotlib figure that shows itself in a notebook, without pyplot."""

    def _repr_html_(self) -> str:
        return inline_svg(self)


def picture(
    width: float, height: float, layout: Literal["constrained"] | None = "constrained"
) -> Picture:
    """Return an empty figure, `width` by `height` inches; without a layout axes need places."""
    figure = Picture(figsize=(width, height), layout=layout)
    FigureCanvasSVG(figure)
    return figure


def grid(axes: Axes, axis: str = "both") -> None:
    """Draw light grid lines behind the data, and ticks without marks."""
    axes.tick_params(length=0, pad=5, labelsize=8.5, colors=INK)
    axes.grid(True, axis=axis, color=INK, alpha=FAINT, linewidth=0.7)  # type: ignore[arg-type]
    for spine in axes.spines.values():
        spine.set_alpha(0.45)


def percent_axis(axes: Axes, axis: str) -> None:
    """Show the fractions of an axis ("x" or "y") as percent."""
    chosen = axes.xaxis if axis == "x" else axes.yaxis
    chosen.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))


def points_axis(axes: Axes, axis: str) -> None:
    """Show the differences of fractions of an axis ("x" or "y") as points, each with its sign."""
    chosen = axes.xaxis if axis == "x" else axes.yaxis
    chosen.set_major_formatter(FuncFormatter(lambda value, _: _signed(100 * value)))


def _signed(points: float) -> str:
    return f"{points:+g}".replace("-", "−") if abs(points) > 1e-9 else "0"


def name_rows(axes: Axes, labels: Sequence[str]) -> None:
    """Name the rows of a horizontal chart, the first one on top."""
    grid(axes, "x")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.spines["left"].set_visible(False)


def columns(estimates: Iterable[Doubtful]) -> NDArray[np.float64]:
    """Return value, low and high of the estimates as rows: (3, N), NaN where there is none."""
    rows = [(estimate.value, estimate.low, estimate.high) for estimate in estimates]
    return np.array(rows, dtype=float).reshape(-1, 3).T


def inline_svg(figure: Figure, title: str = "") -> str:
    """Return the figure as an SVG element to embed in a page.

    Text stays text. The same figure gives the same bytes; two different figures share no id.
    `title` is what a screen reader says.
    """
    buffer = io.StringIO()
    with styled():
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _for_page(buffer.getvalue(), title)


def _for_page(svg: str, title: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    # Matplotlib's style element would reach into the whole page: it goes to the root instead.
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*\n\s*", "\n", svg)
    svg = svg.replace("xlink:href", "href")
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    width = float(size.group(1)) if size else 480.0
    label = f' aria-label="{escape(title)}"' if title else ""
    box = f"0 0 {size.group(1)} {size.group(2)}" if size else "0 0 480 320"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" role="img"{label} '
        f'style="width: 100%; max-width: {width * 4 / 3:.0f}px; height: auto; '
        'stroke-linejoin: round; stroke-linecap: butt">'
    )
    svg = head + svg[svg.index(">") + 1 :]
    svg = re.sub(
        r'(\s(?:d|x|y|transform)=")([^"]*)"',
        lambda found: f'{found.group(1)}{_shorter(found.group(2))}"',
        svg,
    )
    svg = re.sub(r"(font(?:-family)?:[^;\"]*?)'DejaVu Sans'", r"\1var(--sans, sans-serif)", svg)
    svg = _name_colours(svg)
    svg = _own_ids(svg).strip()
    svg = re.sub(
        r'="[^"]*"', lambda found: found.group().replace("\n", " "), svg
    )  # as XML reads it
    return re.sub(r"<g/>\n|<g>\n(<(?:path|use) [^>]*/>)\n</g>", r"\1", svg)  # groups of one


def _shorter(numbers: str) -> str:
    """Round to hundredths of a point; what scales (a matrix, a scale) is left exact.

    The points of a path of straight lines become steps of tenths of a point from one to the next,
    a third as long.
    """
    if _STRAIGHT.fullmatch(numbers):
        return re.sub(r"M([^Mz]*)", lambda found: _steps(found.group(1)), numbers).rstrip()
    if "matrix" in numbers or "scale" in numbers:
        return numbers
    return re.sub(r"(\d+\.\d{2})\d+", r"\1", " ".join(numbers.split()))


def _steps(points: str) -> str:
    """Return "x y L x y L x y" as one point and the steps from it. Roundings do not add up."""
    place = np.round(10 * np.array(points.replace("L", " ").split(), dtype=float)).astype(int)
    x, y = place[0::2], place[1::2]
    steps = [_tenths(d) for pair in zip(np.diff(x), np.diff(y), strict=True) for d in pair]
    line = "l" + " ".join(steps).replace(" -", "-") if steps else ""
    return f"M{_tenths(x[0])} {_tenths(y[0])}{line}"


def _tenths(count: int) -> str:
    text = f"{count / 10:.1f}".removesuffix(".0")
    return text.replace("0.", ".", 1) if abs(count) < 10 else text


def _name_colours(svg: str) -> str:
    names = {INK: "var(--ink, currentColor)", PAPER: f"var(--paper, {PAPER})"}
    names |= {colour: f"var(--series-{i}, {colour})" for i, colour in enumerate(SERIES)}
    for colour, name in names.items():
        svg = re.sub(rf"(fill|stroke): {colour}\b", rf"\1: {name}", svg)
    return svg


def _own_ids(svg: str) -> str:
    """Keep the ids that something refers to, and make them this figure's own."""
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    tag = "f" + hashlib.sha256(svg.encode()).hexdigest()[:8]

    def rename(found: re.Match[str]) -> str:
        return f' id="{tag}{found.group(1)}"' if found.group(1) in used else ""

    svg = re.sub(r' id="([^"]*)"', rename, svg)
    return re.sub(r'(href="#|url\(#)([^")]+)', rf"\g<1>{tag}\g<2>", svg)
