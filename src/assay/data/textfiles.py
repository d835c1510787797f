"""Rows of texts and labels out of files: CSV, TSV, JSON lines, parquet and arrow."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from assay.data.tables import plain
from assay.data.walk import printable
from assay.errors import AssayError, one_line, repeated, told, unknown

SUFFIXES = frozenset({".parquet", ".arrow", ".csv", ".tsv", ".jsonl", ".ndjson"})
TEXT_COLUMNS = ("text", "sentence", "review", "content", "document", "comment", "tweet", "body")
LABEL_COLUMNS = ("label", "labels", "sentiment", "class", "category", "target", "rating")
LONGEST = 2**31 - 1
"""Characters of a field of a CSV file: Python's own limit is 131,072."""


@dataclass(frozen=True)
class Rows:
    """Texts and labels of a file, as they stand there.

    Attributes:
        texts: one per row.
        labels: one per row: numbers or strings.
        names: the names of labels that are numbers, where the file gives them.
        columns: the columns that were read: of the text, and of the label.
        metadata: all other columns, a value per row: text, a number, or None where there is none.
    """

    texts: list[str]
    labels: list[Any]
    names: tuple[str, ...]
    columns: tuple[str, str]
    metadata: dict[str, list[Any]]


def read_rows(path: Path, text: str | None, label: str | None) -> Rows:
    """Return the rows of a file.

    Args:
        path: the file; its suffix says what is in it.
        text, label: the columns to read; None finds them.

    Raises:
        AssayError: for a file that cannot be read, a column that is not there, a text that is none,
            or a row without a label; it names the row, the first being 1.
    """
    columns, names, more = _columns(path)
    shown = printable(str(path))
    own, texts = _texts(columns, text, shown)
    other = _chosen("label", label, LABEL_COLUMNS, [c for c in columns if c != own], shown)
    labels = columns[other]
    missing = [row for row, value in enumerate(labels, start=1) if is_missing(value)]
    if missing:
        raise AssayError(
            f"row {missing[0]} of {shown} has no label in column {other!r} ({len(missing):,} of "
            f"{len(labels):,} rows): give every row one"
        )
    for row, value in enumerate(labels, start=1):
        if not isinstance(value, str | int | float):  # of JSON lines
            raise AssayError(
                f"row {row} of {shown} has {one_line(repr(value), 40)} in column {other!r}: a "
                "label is a name or a number"
            )
    further = {
        name: [_single(value) for value in values]
        for name, values in (columns | more).items()
        if name not in (own, other)
    }
    metadata = {name: values for name, values in further.items() if set(values) != {None}}
    return Rows(texts, labels, names.get(other, ()), (own, other), metadata)


def plain_texts(path: Path) -> list[str]:
    """Return the texts of a file, whatever else is in it: of .txt one per line, empty lines left
    out; of the files of `read_rows` those of the column of texts.

    Raises:
        AssayError: likewise, or there are none.
    """
    shown = printable(str(path))
    suffix = path.suffix.lower()
    if not path.is_file() or suffix not in (*SUFFIXES, ".txt"):
        what = "is no file" if not path.is_file() else "holds no texts that can be read"
        raise AssayError(f"{shown} {what}: give {', '.join(sorted((*SUFFIXES, '.txt')))}")
    if suffix != ".txt":
        return _texts(_columns(path).columns, None, shown)[1]
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise AssayError(
            f"{shown} is not UTF-8 ({error.reason} at byte {error.start:,}): save it as UTF-8"
        ) from error
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise AssayError(f"{shown} is empty: give one text per line")
    return found


class Columns(NamedTuple):
    """The columns of a file that can hold texts or labels, the names of labels that it gives, and
    the columns of fractions, which hold neither."""

    columns: dict[str, list[Any]]
    names: dict[str, tuple[str, ...]]
    more: dict[str, list[Any]]


def _columns(path: Path) -> Columns:
    if path.suffix.lower() in (".parquet", ".arrow"):
        found = _from_table(path)
    else:
        found = Columns(columns_of_lines(path), {}, {})
    if not found.columns:
        raise AssayError(f"{printable(str(path))} is empty: it has no columns")
    return found


def is_missing(value: Any) -> bool:
    """Return whether a cell is empty: None, NaN, or blank.

    >>> is_missing(" "), is_missing(float("nan")), is_missing(0)
    (True, True, False)
    """
    return value is None or bool(value != value) or (isinstance(value, str) and not value.strip())


def headed_once(names: Sequence[Any], shown: str) -> None:
    """Refuse a header that has a name twice: whoever reads rows by name would see the last alone.

    Raises:
        AssayError: names it.
    """
    seen = [str(name).strip() for name in names if str(name).strip()]
    twice = repeated(seen)
    if twice is not None:
        raise AssayError(
            f"{shown} has two columns {one_line(repr(twice), 60)}: keep one, or rename the other"
        )


def _single(value: Any) -> Any:
    """Return a value of metadata; None where it is none, or no single one."""
    return value if isinstance(value, str | int | float) and value != "" else None


def _texts(columns: dict[str, list[Any]], asked: str | None, shown: str) -> tuple[str, list[str]]:
    """Return the column of texts, by its name, and what it holds."""
    own = _chosen("text", asked, TEXT_COLUMNS, columns, shown)
    texts = columns[own]
    for row, value in enumerate(texts, start=1):
        if not isinstance(value, str):
            raise AssayError(
                f"row {row} of {shown} has no text in column {own!r}, but "
                f"{'nothing' if value is None else one_line(repr(value), 40)}"
            )
    return own, texts


def _chosen(kind: str, asked: str | None, usual: Sequence[str], columns: Any, shown: str) -> str:
    names = list(columns)
    if asked is not None:
        if asked not in names:
            raise unknown(f"{kind} column of {shown}", asked, names)
        return asked
    lower = {str(name).strip().lower(): name for name in reversed(names)}
    for name in usual:
        if name in lower:
            return str(lower[name])
    if kind == "label" and len(names) == 1:
        return str(names[0])
    raise AssayError(
        f"{shown} has no column that is called {kind} (columns: "
        f"{one_line(', '.join(map(str, names)), 160)}; looked for {', '.join(usual)}): rename "
        f"it to {kind}, or name it in Python by load_texts({kind}_column=…)"
    )


def _from_table(path: Path) -> Columns:
    """Return the columns of a parquet or arrow file."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise AssayError(
            f"reading {path.suffix} files needs the package pyarrow: pip install 'assay[data]'"
        ) from error
    try:
        with path.open("rb") as opened:  # pyarrow takes no path that is not UTF-8
            if path.suffix.lower() == ".parquet":
                whole = pq.read_table(opened)
            else:
                whole = pa.ipc.open_stream(opened).read_all()
                whole.validate(full=True)  # its offsets may lead to anywhere in memory
    except Exception as error:  # pyarrow raises its own, OSError, and what is below them
        raise AssayError(f"{printable(str(path))} cannot be read: {told(error)}") from error
    try:
        declared = json.loads((whole.schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = {
            column: tuple(str(name) for name in feature["names"])
            for column, feature in declared.items()
            if isinstance(feature, dict) and isinstance(feature.get("names"), list)
        }
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        names = {}
    columns, more = {}, {}
    for field in whole.schema:
        if plain(field.type) in ("text", "number", "bool"):
            columns[field.name] = whole.column(field.name).to_pylist()
        elif pa.types.is_floating(field.type):
            more[field.name] = whole.column(field.name).to_pylist()
    return Columns(columns, names, more)


def columns_of_lines(path: Path) -> dict[str, list[Any]]:
    """Return the columns of a file of lines.

    Raises:
        AssayError: it is not UTF-8, or a line is not what its suffix says; it names the line.
    """
    shown = printable(str(path))
    kind = path.suffix.lower()
    try:
        with path.open(encoding="utf-8-sig", newline="") as opened:
            lines = (
                _json_lines(opened, shown) if "json" in kind else _separated(opened, kind, shown)
            )
            rows = list(lines)
    except UnicodeDecodeError as error:
        raise AssayError(
            f"{shown} is not UTF-8 ({error.reason} at byte {error.start:,}): save it as UTF-8"
        ) from error
    except (OSError, csv.Error) as error:
        raise AssayError(f"{shown} cannot be read: {told(error)}") from error
    if not rows:
        with path.open("rb") as opened:
            if b"\0" in opened.read(4096):
                raise AssayError(
                    f"{shown} is no text but binary: give the file that was packed in it"
                )
        raise AssayError(f"{shown} is empty: it has no rows below its header")
    names = dict.fromkeys(name for row in rows for name in row)
    for number, row in enumerate(rows, start=1):
        if None in row or None in row.values():
            raise AssayError(
                f"row {number} of {shown} has not as many fields as the header: quote fields that "
                'hold the separator, "like, this"'
            )
    return {str(name): [row.get(name) for row in rows] for name in names}


def _separated(lines: Any, kind: str, shown: str) -> Iterator[dict[Any, Any]]:
    csv.field_size_limit(LONGEST)
    delimiter = "\t" if kind == ".tsv" else ","
    rows = csv.DictReader(lines, delimiter=delimiter, strict=True)
    headed_once(rows.fieldnames or (), shown)
    yield from rows


def _json_lines(lines: Any, shown: str) -> Iterator[dict[Any, Any]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise AssayError(f"line {number} of {shown} is not JSON: {told(error)}") from error
        if not isinstance(row, dict):
            raise AssayError(f'line {number} of {shown} is no object {{"text": …, "label": …}}')
        yield {name: "" if value is None else value for name, value in row.items()}
