"""The pages of texts: what `assay attack` and `assay explain` show of sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from assay.report.page import rendered
from assay.report.record import Provenance
from assay.report.style import Picture, inline_svg
from assay.report.words import STYLE


@dataclass(frozen=True)
class TextTable:
    """A table of plain words and numbers; the first cell of a row names it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Drawn:
    """A figure as SVG."""

    title: str
    svg: Markup
    caption: str


@dataclass(frozen=True)
class Example:
    """One text, in several lines: each what it is, and the text as HTML that `report.words` made,
    which has escaped it."""

    title: str
    rows: tuple[tuple[str, Markup], ...]


@dataclass(frozen=True)
class TextPage:
    """What a page of texts shows."""

    kicker: str
    title: str
    lead: str
    tables: Sequence[TextTable]
    heading: str
    note: str
    examples: Sequence[Example]
    figures: Sequence[Drawn] = ()
    cautions: Sequence[str] = ()
    style: Markup = field(default=Markup(STYLE))


def drawn(title: str, figure: Picture, caption: str) -> Drawn:
    """Return a figure for a page."""
    return Drawn(title, Markup(inline_svg(figure, title=title)), caption)


def line(name: str, html: str) -> tuple[str, Markup]:
    """Return a line of an example; `html` is what `report.words` made."""
    return name, Markup(html)


def render_texts(page: TextPage, made: Provenance) -> str:
    """Return a page of texts as one HTML file."""
    return rendered("texts.html.j2", page=page, made=made)
