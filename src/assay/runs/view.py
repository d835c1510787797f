"""What a command says: plain data, and how it looks on a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Group

MISSING = "–"


@dataclass(frozen=True)
class Grid:
    """A table of texts."""

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
        lines: sentences that stand below the title.
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
                box=SIMPLE_HEAD, title=grid.title or None, title_justify="left", title_style="bold"
            )
            for name in grid.columns:
                table.add_column(name, overflow="fold")
            for row in grid.rows:
                table.add_row(*map(Text, row))
            parts.append(table)
        return Group(*parts)


def text_of(value: Any) -> str:
    """Return a value in a few characters: numbers to 4 digits, an estimate with its interval.

    >>> text_of({"value": 0.91234, "low": 0.9, "high": 0.92, "n": 100})
    '0.9123 [0.9, 0.92] n=100'
    """
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if is_estimate(value):
        number, low, high = (text_of(value[key]) for key in ("value", "low", "high"))
        return f"{number} [{low}, {high}] n={value['n']}"
    if isinstance(value, list):
        if len(value) > 8:
            return f"{len(value)} values, last {text_of(value[-1])}"
        return "[" + ", ".join(map(text_of, value)) + "]"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {text_of(item)}" for key, item in value.items()) or "none"
    return str(value)


def is_estimate(value: Any) -> bool:
    """Return whether a value is a `stats.Estimate` as JSON."""
    return isinstance(value, dict) and {"value", "low", "high", "n"} <= value.keys()


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Return the leaves of nested data by dotted path; estimates and flat lists are leaves."""
    if isinstance(value, dict) and value and not is_estimate(value):
        found: dict[str, Any] = {}
        for key, item in value.items():
            found |= flatten(item, f"{path}.{key}" if path else str(key))
        return found
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        found = {}
        for index, item in enumerate(value):
            found |= flatten(item, f"{path}[{index}]")
        return found
    return {path: value}
