"""What a command says: plain data, and how it looks on a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from assay.report.terminal import Judged

WHOLE_NAME = 30
"""Letters of a name in the first column that are not broken, however narrow the terminal is."""


@dataclass(frozen=True)
class Grid:
    """A table of texts; without names of columns it has no head.

    Attributes:
        title, columns, rows: what stands in it.
        one_line: each row has one line, whose last column is cut where it is too long.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    one_line: bool = False


@dataclass(frozen=True)
class View:
    """An answer. `rich.print(view)` shows it; `data` is the same as JSON-like values.

    Attributes:
        title: what it is about.
        data: the content, for programs.
        grids: the tables.
        lines: sentences below the title.
        whole: paths and addresses below the sentences; they are never broken, so that they can be
            copied.
        judged: claims and checks, below the sentences.
    """

    title: str
    data: dict[str, Any]
    grids: tuple[Grid, ...] = ()
    lines: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    judged: tuple[Judged, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return self.data

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        from assay.report.terminal import Judged, Prose, block

        yield Text(printable(self.title), style="bold")
        yield from map(Prose, map(printable, self.lines))
        for path in self.whole:
            yield Text(printable(path), no_wrap=True, overflow="ignore")
        if self.judged:
            yield block([Judged(*map(printable, astuple(one))) for one in self.judged])
        for grid in self.grids:
            if grid.rows:
                rows = tuple(tuple(map(printable, row)) for row in grid.rows)
                yield from _shown(replace(grid, rows=rows), options.max_width)


def printable(text: str) -> str:
    """Return a text without what would command the terminal: a record may be another's.

    >>> printable("in \\x1b[31mred")
    'in [31mred'
    """
    if text.isprintable():
        return text
    return "".join(one for one in text if one in "\n\t" or unicodedata.category(one) != "Cc")


def _shown(grid: Grid, width: int) -> Iterator[RenderableType]:
    """Return a table; where it compares and is wider than the terminal, its rows one by one."""
    if len(grid.columns) > 2 and not grid.one_line and _natural_width(grid) > width:
        yield from _records(grid)
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=SIMPLE_HEAD if any(grid.columns) and not grid.one_line else None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        show_header=any(grid.columns),
        title=grid.title or None,
        title_justify="left",
        title_style="bold",
        expand=grid.one_line,
    )
    for place, name in enumerate(grid.columns, 1):
        if not grid.one_line:
            longest = max(len(row[place - 1]) for row in grid.rows)
            named = min(longest, WHOLE_NAME) if place == 1 else None
            table.add_column(name, overflow="fold", min_width=named)
        elif place < len(grid.columns):
            table.add_column(name, no_wrap=True)
        else:
            table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=1)
    for row in grid.rows:
        table.add_row(*map(Text, row))
    yield table


def _natural_width(grid: Grid) -> int:
    """Return how wide the table is where nothing in it is broken."""
    columns = zip(grid.columns, *grid.rows, strict=True)
    return sum(max(map(len, column)) + 3 for column in columns)


def _records(grid: Grid) -> Iterator[RenderableType]:
    """Return each row below its first cell: a line for each of the others, with its column."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    if grid.title:
        yield Text(f"\n{grid.title}", style="bold italic")
    before = None
    for first, *others in grid.rows:
        told = Table.grid(padding=(0, 2, 0, 0))
        told.add_column(no_wrap=True, style="dim")
        told.add_column(overflow="fold")
        for name, cell in zip(grid.columns[1:], others, strict=True):
            if cell:
                told.add_row(Text(name), Text(cell))
        if first != before:
            yield Text(first, style="bold")
        before = first
        yield Padding(told, (0, 0, 0, 2))
