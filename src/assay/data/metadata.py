"""What a metadata.csv, .jsonl or .parquet beside images says of them: further columns, and the
labels of those that lie in no folders of classes.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from assay.data.tables import LABEL_COLUMNS
from assay.data.textfiles import headed_once
from assay.data.walk import File, Listing, printable
from assay.disk import read_small
from assay.errors import AssayError, one_line, told

NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE = "file_name"
LONGEST = 256 * 2**20
"""Bytes of a metadata file, and of what a compressed one holds."""


def labels_beside(listing: Listing) -> tuple[dict[tuple[str, ...], str], list[str]]:
    """Return the class of each image that a metadata file names, by its path, and what was read.

    As the `imagefolder` of Hugging Face has them: a column `file_name`, relative to the file's own
    folder, and one of labels (`LABEL_COLUMNS`). A file without such columns says nothing.

    Raises:
        AssayError: it cannot be read, or names a file that is none of the folder's: nothing that
            lies elsewhere is opened.
    """
    known = {file.parts for file in listing.files}
    found: dict[tuple[str, ...], str] = {}
    notes = []
    for file in listing.files:
        if file.parts[-1] not in NAMES:
            continue
        before = len(found)
        for row in _rows(listing, file):
            column = next((name for name in LABEL_COLUMNS if row.get(name) not in (None, "")), None)
            if column is None or not isinstance(row.get(FILE), str):
                continue
            path = os.path.normpath("/".join((*file.parts[:-1], row[FILE])))
            parts = PurePosixPath(path).parts
            if parts not in known:
                shown = one_line(printable(row[FILE]), 80)
                raise AssayError(
                    f"{file} in {printable(str(listing.root))} names the file {shown!r}, which is "
                    "none of those in the folder: not opened"
                )
            found[parts] = str(row[column])
        if len(found) > before:
            notes.append(f"labels are those of {file} ({len(found) - before:,} images)")
    return found, notes


def columns_beside(listing: Listing, files: Sequence[File]) -> dict[str, list[Any]]:
    """Return the columns of metadata files but for names of files and labels: a value for each of
    `files`, None where nothing is said of it.

    Raises:
        AssayError: a metadata file cannot be read.
    """
    place = {file.parts: row for row, file in enumerate(files)}
    found: dict[str, list[Any]] = {}
    for file in listing.files:
        if file.parts[-1] not in NAMES:
            continue
        for row in _rows(listing, file):
            if not isinstance(row.get(FILE), str):
                continue
            path = os.path.normpath("/".join((*file.parts[:-1], row[FILE])))
            at = place.get(PurePosixPath(path).parts)
            if at is None:
                continue
            for name, value in row.items():
                known = isinstance(value, str | int | float) and value != ""
                if name in (FILE, *LABEL_COLUMNS) or not isinstance(name, str) or not known:
                    continue
                found.setdefault(name, [None] * len(files))[at] = value
    return found


def extend(
    columns: dict[str, list[Any]], more: Mapping[str, Sequence[Any]], before: int, count: int
) -> None:
    """Add the metadata of `count` more rows to columns of `before` rows; None where one has no
    such column."""
    for name in {**columns, **more}:
        columns.setdefault(name, [None] * before)
        columns[name] += more.get(name, [None] * count)


def _rows(listing: Listing, file: File) -> Iterator[dict[str, Any]]:
    content = read_small(file.path(listing.root), LONGEST)
    if file.suffix == ".parquet":
        yield from _table(printable(str(file.path(listing.root))), content)
        return
    try:
        text = content.decode("utf-8-sig")
        if file.suffix == ".csv":
            table = csv.DictReader(io.StringIO(text))
            headed_once(table.fieldnames or (), printable(str(file.path(listing.root))))
            yield from table
            return
        for line in text.split("\n"):  # not splitlines: a text may hold U+2028 or U+0085
            row = json.loads(line) if line.strip() else {}
            yield row if isinstance(row, dict) else {}
    except (csv.Error, ValueError, RecursionError) as error:
        raise AssayError(
            f"{printable(str(file.path(listing.root)))} cannot be read: {told(error)}"
        ) from error


def _table(shown: str, content: bytes) -> list[dict[str, Any]]:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise AssayError(
            f"reading {shown} needs the package pyarrow: pip install 'assay[data]'"
        ) from error
    try:
        table = pq.ParquetFile(io.BytesIO(content))
        groups = range(table.num_row_groups)
        held = sum(table.metadata.row_group(k).total_byte_size for k in groups)
        rows: list[dict[str, Any]] = [] if held > LONGEST else table.read().to_pylist()
    except Exception as error:  # pyarrow raises its own, OSError, and what is below them
        raise AssayError(f"{shown} cannot be read: {told(error)}") from error
    if held > LONGEST:
        raise AssayError(f"{shown} cannot be read: it holds more than {LONGEST / 1e6:.0f} MB")
    return rows
