"""Image sets in parquet and arrow files, read by pyarrow.

A row holds the bytes of an image, or names a file of the same folder: no other file is opened,
whatever a row or a README says.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.data.classes import by_name
from assay.data.decode import CHUNK, Encoded
from assay.data.opened import Asked, Opened, Part, split_of
from assay.data.walk import File, Listing, listed, printable
from assay.errors import AssayError, numbered_apart, one_line, told, unknown

SUFFIXES = frozenset({".parquet", ".arrow"})

MOST_ROWS = 20_000_000
"""More images fit into no memory."""
IMAGE_COLUMNS = ("image", "img", "images", "picture")
LABEL_COLUMNS = ("label", "fine_label", "labels", "class", "target")


def open_tables(listing: Listing, tables: list[File], asked: Asked) -> Opened:
    """Return the set that the parquet and arrow files of a folder make.

    The split of a file is the word train, validation, test (or a usual short form) in its path.
    Classes are those that the file declares; otherwise the sorted values seen in any split.

    Raises:
        AssayError: for files that cannot be read, that differ in their columns, or that hold no
            images, or no labels where they are needed.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise AssayError(
            f"reading {tables[0].suffix} files needs the package pyarrow: pip install 'assay[data]'"
        ) from error
    where = printable(str(listing.root))
    splits, notes = _splits(tables, where)
    files = {split: [Table(listing.root, file) for file in kept] for split, kept in splits.items()}
    every = [table for kept in files.values() for table in kept]
    schema = every[0].schema
    declared = declared_by(schema)
    image = column_of("image", asked.image_column, IMAGE_COLUMNS, schema, declared, where)
    label = None
    if asked.labelled:
        label = column_of("label", asked.label_column, LABEL_COLUMNS, schema, declared, where)
    for table in every[1:]:
        for name in filter(None, (image, label)):
            if _kind(table.schema, name) != _kind(schema, name):
                raise AssayError(
                    f"{table} differs from {every[0]} in column {name!r}: "
                    f"{_kind(table.schema, name)}, not {_kind(schema, name)}"
                )
    count = sum(table.rows for table in every if table.file.suffix == ".parquet")
    if count > MOST_ROWS:  # a file of a megabyte may say so
        raise AssayError(f"{where} has {count:,} rows: at most {MOST_ROWS:,} are read")
    values = {split: _values(kept, label or image, label is None) for split, kept in files.items()}
    classes, labels = _numbered(values, label, declared)
    known = {file.parts for file in listing.files}
    parts = {
        split: Part(
            labels[split],
            _images(kept, image, known),
            _title(where, split),
            f"{where} ({split}) was read without labels" if label is None else "",
            {name: _values(files[split], name, False) for name in _others(every, image, label)},
        )
        for split, kept in files.items()
    }
    origin = {"folder": where, "image_column": image, "label_column": label}
    card = _card(listing)
    return Opened(where, parts, classes, (*listing.notes, *notes, *card), origin)


def _splits(tables: list[File], where: str) -> tuple[dict[str, list[File]], list[str]]:
    found: dict[str | None, list[File]] = defaultdict(list)
    for file in tables:
        words = [word for part in file.parts for word in re.split(r"[^A-Za-z]+", part)]
        splits = {split for word in words if (split := split_of(word))}
        if len(splits) > 1:
            raise AssayError(
                f"{file} in {where} can be of the splits {' and '.join(sorted(splits))}"
            )
        found[splits.pop() if splits else None].append(file)
    rest = found.pop(None, [])
    notes = []
    if rest and found:
        notes.append(f"{listed([str(file) for file in rest])} in {where} names no split: not read")
    elif rest:
        notes.append(f"no file of {where} names a split (train.parquet, …): all of it is train")
        found["train"] = rest
    for split, kept in found.items():
        folders = sorted({"/".join(file.parts[:-1]) for file in kept})
        if len(folders) > 1:
            raise AssayError(
                f"{where} holds more than one set ({split} is in {listed(folders)}): give one of "
                "these folders"
            )
    return {str(split): kept for split, kept in found.items()}, notes


@dataclass(frozen=True)
class Table:
    """A parquet or arrow file."""

    root: Path
    file: File

    def __str__(self) -> str:
        return printable(str(self.file.path(self.root)))

    @property
    def schema(self) -> Any:
        """The pyarrow.Schema of its columns."""
        with self._opened() as table:
            return table.schema_arrow if self.file.suffix == ".parquet" else table.schema

    @property
    def rows(self) -> int:
        """How many rows it has; of an arrow file only reading it tells."""
        with self._opened() as table:
            if self.file.suffix == ".parquet":
                return int(table.metadata.num_rows)
            return sum(self._tried(lambda: [len(batch) for batch in table]))

    def batches(self, columns: list[str]) -> Iterator[Any]:
        """Yield the pyarrow.RecordBatches of some columns, of at most `CHUNK` rows."""
        with self._opened() as table:
            if self.file.suffix == ".parquet":
                rows = table.iter_batches(CHUNK, columns=columns)
            else:
                rows = (
                    batch.slice(start, CHUNK)
                    for batch in table
                    for start in range(0, len(batch), CHUNK)
                )
            while (batch := self._tried(lambda: next(rows, None))) is not None:
                chosen = batch.select(columns)
                if self.file.suffix == ".arrow":  # its offsets may lead to anywhere in memory
                    self._tried(partial(chosen.validate, full=True))
                yield chosen

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        read = pq.ParquetFile if self.file.suffix == ".parquet" else pa.ipc.open_stream
        # pyarrow takes no path that is not UTF-8
        with self._tried(lambda: self.file.path(self.root).open("rb")) as opened:
            yield self._tried(lambda: read(opened))

    def _tried(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except Exception as error:  # pyarrow raises its own, OSError, and what is below them
            raise AssayError(f"{self} cannot be read as an image set: {told(error)}") from error


def declared_by(schema: Any) -> dict[str, Any]:
    """Return what the file says of its columns, as `datasets` writes it; {} where it does not."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def names_of(declared: dict[str, Any], column: str) -> tuple[str, ...] | None:
    """Return the declared class names of a column, or None; labels are numbers, so that two of one
    name are two classes."""
    feature = declared.get(column)
    names = feature.get("names") if isinstance(feature, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return numbered_apart(names)


def column_of(
    kind: str, asked: str | None, usual: tuple[str, ...], schema: Any, declared: Any, where: str
) -> str:
    """Return the column to read: the one given, a usual name, or the only one that fits."""
    names = [str(name) for name in schema.names]
    fits = _holds_images if kind == "image" else _holds_labels
    if asked is not None:
        if asked not in names:
            raise unknown(f"{kind} column of {where}", asked, names)
        if not fits(schema.field(asked).type):
            raise AssayError(
                f"column {asked!r} of {where} holds no {kind}s: {schema.field(asked).type}"
            )
        return asked
    fitting = [name for name in names if names.count(name) == 1 and fits(schema.field(name).type)]
    for name in usual:
        if name in fitting:
            return name
    if kind == "label":  # another whole number may be anything, a class label is one
        fitting = [name for name in fitting if names_of(declared, name)]
    if len(fitting) == 1:
        return fitting[0]
    other = next((name for name in usual if names.count(name) == 1), None)
    if other is not None:
        wanted = "the bytes of images" if kind == "image" else "whole numbers or names"
        raise AssayError(
            f"column {other!r} of {where} holds no {kind}s: {schema.field(other).type}; {kind}s "
            f"are {wanted}"
        )
    shown = one_line(", ".join(names), 200)
    raise AssayError(
        f"{where} has no column of {kind}s (columns: {shown}; looked for {', '.join(usual)}); put "
        f"image files in one folder per class, or name it in Python by load_data({kind}_column=…)"
    )


def _holds_images(kind: Any) -> bool:
    import pyarrow.types as t

    if t.is_struct(kind):
        return any(field.name == "bytes" and _holds_images(field.type) for field in kind)
    return bool(t.is_binary(kind) or t.is_large_binary(kind) or t.is_binary_view(kind))


def _holds_labels(kind: Any) -> bool:
    return plain(kind) in ("number", "text", "bool")


def plain(kind: Any) -> str:
    """Return what a column's values are in Python, so that pandas' and polars' types are one."""
    import pyarrow.types as t

    if t.is_dictionary(kind):
        return plain(kind.value_type)
    if t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind):
        return "text"
    if t.is_integer(kind):
        return "number"
    return "bool" if t.is_boolean(kind) else str(kind)


def _kind(schema: Any, column: str) -> str:
    """Return what a column holds, in words: the same in all files of a set."""
    if schema.names.count(column) != 1:
        return "not there" if column not in schema.names else "there twice"
    kind = schema.field(column).type
    return "images" if _holds_images(kind) else plain(kind)


def _others(tables: list[Table], image: str, label: str | None) -> list[str]:
    """Return the further columns of one value a row that all files have."""
    import pyarrow.types as t

    first = tables[0].schema
    return [
        name
        for name in map(str, first.names)
        if name not in (image, label, *LABEL_COLUMNS)
        and first.names.count(name) == 1
        and (_holds_labels(kind := first.field(name).type) or t.is_floating(kind))
        and all(_kind(table.schema, name) == _kind(first, name) for table in tables)
    ]


def _values(tables: Iterable[Table], column: str, count: bool) -> list[Any]:
    """Return the values of a column over several files; if only `count`, -1 for each."""
    values: list[Any] = []
    for table in tables:
        for batch in table.batches([column]):
            values += [-1] * len(batch) if count else batch.column(0).to_pylist()
    return values


def _numbered(
    values: dict[str, list[Any]], label: str | None, declared: dict[str, Any]
) -> tuple[tuple[str, ...], dict[str, NDArray[np.int64]]]:
    """Return the classes, and each split's labels; -1 for a row that has none."""
    names = None if label is None else names_of(declared, label)
    if label is None or names is not None:
        most = len(names or ())
        labels = {
            split: np.array(
                [v if isinstance(v, int) and 0 <= v < most else -1 for v in seen],
                dtype=np.int64,
            )
            for split, seen in values.items()
        }
        return names or (), labels
    known = {value for seen in values.values() for value in seen if value is not None}
    text = any(isinstance(value, str) for value in known)
    ordered: Sequence[Any] = by_name(known) if text else sorted(known)
    codes = {value: number for number, value in enumerate(ordered)} | {None: -1}
    return tuple(str(value) for value in ordered), {
        split: np.array([codes[value] for value in seen], dtype=np.int64)
        for split, seen in values.items()
    }


def _title(where: str, split: str) -> Callable[[int], str]:
    return lambda row: f"row {row} of {where} ({split})"


def _images(
    tables: list[Table], column: str, known: set[tuple[str, ...]]
) -> Callable[[], Iterator[list[Encoded]]]:
    def images() -> Iterator[list[Encoded]]:
        for table in tables:
            for batch in table.batches([column]):
                yield [encoded(value, table, known) for value in batch.column(0).to_pylist()]

    return images


def encoded(value: Any, table: Table, known: set[tuple[str, ...]]) -> Encoded:
    """Return the bytes of an image, or the path of a file that lies in the folder of the set.

    Raises:
        AssayError: for a path that leads to anything else: it is not opened.
    """
    if not isinstance(value, dict):
        return value or b""
    if value["bytes"] is not None:
        return bytes(value["bytes"])
    path = value.get("path")
    if not isinstance(path, str) or not path:
        return b""
    beside = os.path.normpath(table.root.joinpath(*table.file.parts[:-1], path))
    if Path(os.path.relpath(beside, table.root)).parts not in known:
        raise AssayError(
            f"a row of {table} names the file {one_line(printable(path), 80)!r}, which is none of "
            f"those in {printable(str(table.root))}: not opened; keep the images' bytes in the rows"
        )
    return beside


def _card(listing: Listing) -> list[str]:
    """Say where a README names files to read: it is not followed."""
    for file in listing.files:
        if len(file.parts) == 1 and file.parts[0].lower() == "readme.md":
            with file.path(listing.root).open("rb") as opened:
                head = opened.read(65536)
            front = re.match(rb"---\r?\n(.*?)\r?\n---", head, re.DOTALL)
            if front and b"data_files" in front[1]:
                return [f"{file} says which files to read (data_files): it is not followed"]
    return []
