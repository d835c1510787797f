"""What a command says: plain data, and how it looks on a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Group

    from assay.report.terminal import Judged


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
        judged: claims and checks, below the sentences.
    """

    title: str
    data: dict[str, Any]
    grids: tuple[Grid, ...] = ()
    lines: tuple[str, ...] = ()
    judged: tuple[Judged, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return self.data

    def __rich__(self) -> Group:
        from rich.box import SIMPLE_HEAD
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        parts: list[Any] = [Text(self.title, style="bold"), *map(Text, self.lines)]
        if self.judged:
            from assay.report.terminal import block

            parts.append(block(self.judged))
        for grid in self.grids:
            if not grid.rows:
                continue
            table = Table(
                box=SIMPLE_HEAD if any(grid.columns) and not grid.one_line else None,
                pad_edge=not grid.one_line,
                padding=(0, 2, 0, 0) if grid.one_line else (0, 1),
                show_header=any(grid.columns),
                title=grid.title or None,
                title_justify="left",
                title_style="bold",
                expand=grid.one_line,
            )
            for place, name in enumerate(grid.columns, 1):
                if not grid.one_line:
                    table.add_column(name, overflow="fold")
                elif place < len(grid.columns):
                    table.add_column(name, no_wrap=True)
                else:
                    table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=1)
            for row in grid.rows:
                table.add_row(*map(Text, row))
            parts.append(table)
        return Group(*parts)
