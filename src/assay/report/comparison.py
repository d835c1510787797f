"""Two results of a study side by side: what both say, how far apart they are, and what cannot be
compared.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from assay.report.leaves import differing, settings_differing
from assay.report.numerals import bare, with_unit
from assay.report.record import EstimateModel, Unit
from assay.report.result import Cell, Claim, Drawing, StudyResult, Table
from assay.report.schema import Check

Item = TypeVar("Item", Table, Drawing)


@dataclass(frozen=True)
class Change:
    """How far the second of two numbers lies above the first.

    Attributes:
        value: B minus A.
        low, high: its interval; None where one of the two has none, or their levels differ.
        unit: differences of fractions are points.
    """

    value: float
    low: float | None
    high: float | None
    unit: Unit

    @property
    def clear(self) -> bool:
        """Whether the whole interval lies on one side of zero."""
        return self.low is not None and self.high is not None and self.low * self.high > 0


def change_text(change: Change | None) -> str:
    """Return a change with its unit and its interval; "" where there is none."""
    if change is None:
        return ""
    value = with_unit(change.value, change.unit)
    if change.low is None:
        return value
    return f"{value} ({bare(change.low, change.unit)} to {bare(change.high, change.unit)})"


@dataclass(frozen=True)
class ClaimPair:
    """A claim in both results; None where one of them does not judge it."""

    code: str
    a: Claim | None
    b: Claim | None
    change: Change | None


@dataclass(frozen=True)
class CellPair:
    """A cell of a table in both results; None where one of them has no such row or column."""

    column: str
    a: Cell | None
    b: Cell | None
    change: Change | None


@dataclass(frozen=True)
class RowPair:
    """The cells of a row beside those of the row of that name."""

    name: str
    cells: tuple[CellPair, ...]


@dataclass(frozen=True)
class TablePair:
    """A table of both results, row by row, without the words that are the same in both."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[RowPair, ...]


@dataclass(frozen=True)
class Comparison:
    """Two results of studies, side by side.

    Attributes:
        names: what people call the two: ids of runs, or paths.
        a, b: the results.
        cautions: what cannot be compared, or not without care; a sentence each.
        claims, tables: what one of them has or both have.
        figures: title, the drawing of A, the drawing of B.
        settings: (setting, in A, in B) of those that differ.
        shared: addresses of the trials that both rest on.
    """

    names: tuple[str, str]
    a: StudyResult
    b: StudyResult
    cautions: tuple[str, ...]
    claims: tuple[ClaimPair, ...] = ()
    tables: tuple[TablePair, ...] = ()
    figures: tuple[tuple[str, Drawing | None, Drawing | None], ...] = ()
    settings: tuple[tuple[str, Any, Any], ...] = ()
    shared: tuple[str, ...] = field(default=())

    @property
    def comparable(self) -> bool:
        """Whether they are results of one study."""
        return self.a.study == self.b.study

    @property
    def same_numbers(self) -> bool:
        """Whether there are numbers in both, and no two of them differ."""
        changes = [pair.change for pair in self.claims]
        changes += [
            cell.change for table in self.tables for row in table.rows for cell in row.cells
        ]
        there = [change.value for change in changes if change is not None]
        return bool(there) and not any(there)

    def to_dict(self) -> dict[str, Any]:
        """Return what was found as JSON-like values; the results themselves are in their files."""
        return {
            "names": list(self.names),
            "cautions": list(self.cautions),
            "claims": [
                {
                    "code": pair.code,
                    "a": _as_dict(pair.a),
                    "b": _as_dict(pair.b),
                    "change": _as_dict(pair.change),
                }
                for pair in self.claims
            ],
            "tables": [
                {
                    "title": table.title,
                    "row": row.name,
                    "column": cell.column,
                    "a": _as_dict(cell.a),
                    "b": _as_dict(cell.b),
                    "change": _as_dict(cell.change),
                }
                for table in self.tables
                for row in table.rows
                for cell in row.cells
            ],
            "settings": [
                {"setting": path, "a": one, "b": other} for path, one, other in self.settings
            ],
            "shared_trials": list(self.shared),
        }


def compare_results(a: StudyResult, b: StudyResult, names: tuple[str, str]) -> Comparison:
    """Put two results side by side.

    Claims are matched by code, tables and figures by title (tables also by their columns), rows by
    their first cell. Results of two different studies have nothing in common: each of their claims
    is shown alone, and nothing else is compared.
    """
    if a.study != b.study:
        sentence = (
            f"A is of the study {a.study!r} and B of {b.study!r}: their claims, tables and figures "
            "are about different things, and nothing of them is compared here."
        )
        alone = [ClaimPair(claim.code, claim, None, None) for claim in a.claims]
        alone += [ClaimPair(claim.code, None, claim, None) for claim in b.claims]
        return Comparison(names, a, b, (sentence,), tuple(alone))
    theirs = {trial.address for trial in b.trials}
    return Comparison(
        names,
        a,
        b,
        tuple(_cautions(a, b)),
        tuple(_claims(a, b)),
        tuple(_table(one, other) for one, other in _matched(a.tables, b.tables) if one and other),
        tuple(
            ((one or other).title, one, other)  # type: ignore[union-attr]
            for one, other in _matched(a.figures, b.figures)
        ),
        tuple(settings_differing(a.made.config, b.made.config)),
        tuple(trial.address for trial in a.trials if trial.address in theirs),
    )


def change(a: EstimateModel | None, b: EstimateModel | None, unit: Unit) -> Change | None:
    """Return how far `b` lies above `a`, or None where either is not there.

    The interval is that of independent estimates, from their own intervals (MOVER, Zou & Donner
    2008, Statistics in Medicine 27): where both rest on the same seeds it is, if anything, too
    wide.
    """
    if a is None or b is None or a.value is None or b.value is None:
        return None
    shown: Unit = "points" if unit == "fraction" else unit
    value = b.value - a.value
    if a == b:
        return Change(value, None, None, shown)
    ends = (a.low, a.high, b.low, b.high)
    if a.level != b.level or None in ends:
        return Change(value, None, None, shown)
    a_low, a_high, b_low, b_high = (end for end in ends if end is not None)
    low = value - math.hypot(b.value - b_low, a_high - a.value)
    high = value + math.hypot(b_high - b.value, a.value - a_low)
    return Change(value, low, high, shown)


def _cautions(a: StudyResult, b: StudyResult) -> Iterator[str]:
    data = [name for name, *_ in differing(a.made.data, b.made.data)]
    if data:
        yield (
            f"They were run on different data ({', '.join(data)}): a difference may be that of the "
            "data."
        )
    packages = ("assay", "torch")
    versions = [
        f"{name} {a.made.versions.get(name, 'unknown')} and {b.made.versions.get(name, 'unknown')}"
        for name in packages
        if a.made.versions.get(name) != b.made.versions.get(name)
    ]
    if versions:
        yield f"They were made by different versions: {'; '.join(versions)}."
    for one, other in by_code(a.claims, b.claims):
        if one is None or other is None:
            continue
        if one.delta != other.delta:
            yield (
                f"{one.code} was judged against different effects that matter: its verdicts do not "
                "answer the same question."
            )
        elif one.text != other.text:
            yield f"{one.code} is worded differently: it may not be the same claim."
    for kind, pairs in (
        ("table", _matched(a.tables, b.tables)),
        ("figure", _matched(a.figures, b.figures)),
    ):
        for side, titles in (
            ("A", [one.title for one, other in pairs if one and not other]),
            ("B", [other.title for one, other in pairs if other and not one]),
        ):
            for title in titles:
                yield f"The {kind} “{title}” is in {side} alone."


Judged = TypeVar("Judged", Claim, Check)


def by_code(a: Iterable[Judged], b: Iterable[Judged]) -> list[tuple[Judged | None, Judged | None]]:
    """Pair claims, or checks, of one code: in the order of the first, then what only the second
    has; None: the other has no such code."""
    ours: dict[str, Judged] = {one.code: one for one in a}
    theirs: dict[str, Judged] = {one.code: one for one in b}
    return [(ours.get(code), theirs.get(code)) for code in dict.fromkeys([*ours, *theirs])]


def _claims(a: StudyResult, b: StudyResult) -> Iterator[ClaimPair]:
    for one, other in by_code(a.claims, b.claims):
        either = one or other
        assert either is not None
        yield ClaimPair(either.code, one, other, _moved(one, other))


def _moved(one: Claim | Cell | None, other: Claim | Cell | None) -> Change | None:
    if one is None or other is None or one.unit != other.unit:
        return None
    return change(one.estimate, other.estimate, one.unit)


def _matched(ours: Sequence[Item], theirs: Sequence[Item]) -> list[tuple[Item | None, Item | None]]:
    """Pair what has the same title, then tables of the same columns; None: nothing answers."""
    titles = {one.title for one in ours}
    left: list[Item] = list(theirs)
    pairs: list[tuple[Item | None, Item | None]] = []
    for one in ours:
        found = next((other for other in left if other.title == one.title), None)
        if found is None and isinstance(one, Table):
            free = [t for t in left if isinstance(t, Table) and t.title not in titles]
            found = next((t for t in free if t.columns == one.columns), None)
        pairs.append((one, found))
        left = [other for other in left if other is not found]
    pairs += [(None, other) for other in left]
    return pairs


def _table(a: Table, b: Table) -> TablePair:
    columns = [*a.columns[1:], *(name for name in b.columns[1:] if name not in a.columns)]
    ours, theirs = _rows(a), _rows(b)
    rows = []
    for name in dict.fromkeys([*ours, *theirs]):
        cells = []
        for column in columns:
            one, other = ours.get(name, {}).get(column), theirs.get(name, {}).get(column)
            if one is not None and one == other and one.estimate is None:
                continue
            cells.append(CellPair(column, one, other, _moved(one, other)))
        if cells:
            rows.append(RowPair(name, tuple(cells)))
    return TablePair(a.title, tuple(columns), tuple(rows))


def _rows(table: Table) -> dict[str, dict[str, Cell]]:
    """Return the cells by row and column; a name that comes again is numbered."""
    seen: Counter[str] = Counter()
    rows: dict[str, dict[str, Cell]] = {}
    for first, *cells in table.rows:
        seen[first.text] += 1
        name = first.text if seen[first.text] == 1 else f"{first.text} ({seen[first.text]})"
        rows[name] = dict(zip(table.columns[1:], cells, strict=True))
    return rows


def _as_dict(found: Claim | Cell | Change | None) -> dict[str, Any] | None:
    if found is None:
        return None
    if isinstance(found, Change):
        return {"value": found.value, "low": found.low, "high": found.high, "unit": found.unit}
    return found.model_dump(mode="json", exclude_defaults=True)
