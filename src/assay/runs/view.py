"""What a command says: plain data, and how it looks on a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True)
class Grid:
    """A table of texts; without names of columns it has no head."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class View:
    """An answer. `rich.print(view)` shows it; `data` is the same as JSON-like values.

    Attributes:
        title: what it is about.
        data: the content, for programs.
        grids: the tables.
        lines: sentences below the title.
    """

    title: str
    data: dict[str, Any]
    grids: tuple[Grid, ...] = ()
    lines: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return self.data

    def __rich__(self) -> Group:
        from rich.box import SIMPLE_HEAD
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        parts: list[Any] = [Text(self.title, style="bold"), *map(Text, self.lines)]
        for grid in self.grids:
            if not grid.rows:
                continue
            table = Table(
                box=SIMPLE_HEAD if any(grid.columns) else None,
                show_header=any(grid.columns),
                title=grid.title or None,
                title_justify="left",
                title_style="bold",
            )
            for name in grid.columns:
                table.add_column(name, overflow="fold")
            for row in grid.rows:
                table.add_row(*map(Text, row))
            parts.append(table)
        return Group(*parts)
