"""From a name to a set of labelled texts."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.data.called_texts import called_texts
from assay.data.classes import by_name
from assay.data.hub import fetched
from assay.data.metadata import extend
from assay.data.opened import split_of
from assay.data.splits import content_key, held_out
from assay.data.textfiles import SUFFIXES, Rows, read_rows
from assay.data.textset import TextSet, in_memory
from assay.data.walk import printable, walk
from assay.disk import data_folders
from assay.errors import AssayError, NoSplit, expanded, one_line, unknown
from assay.usercode import names_function

HUB = {"rotten_tomatoes": "cornell-movie-review-data/rotten_tomatoes"}
CLASSES = {"rotten_tomatoes": ("negative", "positive")}
"""What the classes are called where the file's own names say less."""
SPLITS = ("train", "validation", "test", "all")


def load_texts(
    name: str | Path,
    *,
    split: str = "test",
    text_column: str | None = None,
    label_column: str | None = None,
    at_most: int | None = None,
) -> TextSet:
    """Return a set of labelled texts.

    Args:
        name: `rotten_tomatoes` (movie reviews, Pang & Lee 2005); a file .csv, .tsv, .jsonl,
            .parquet or .arrow; a folder of such files, each of which names its split (train.csv);
            or an id on the Hugging Face hub. A name or id is looked for as a folder first, by its
            last part, in the folders of `$ASSAY_DATA` and in `./data`. Or `file.py:function` or
            `package.module:function`, which is run: it gives batches (see `assay.data.called`).
        split: train, validation, test, or all. Without a validation split a tenth of train is held
            out for it. A file that names no split is parted by content, 8:1:1.
        text_column, label_column: which columns to read; None finds them by usual names.
        at_most: how many texts a function is asked for; None: all that it gives.

    Raises:
        AssayError: says what is wrong with the name, the split, the columns or a row.

    >>> from pathlib import Path
    >>> _ = Path("mine.csv").write_text("review,label\\nfine,good\\nawful,bad\\nok,good\\n")
    >>> load_texts("mine.csv", split="all").classes
    ('bad', 'good')
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if not str(name):
        raise AssayError("the name of the data set is empty: give a file or a folder of texts")
    if names_function(str(name)):
        return called_texts(str(name), split, text_column, label_column, at_most)
    short, files = _files(name)
    found = {
        part: [read_rows(path, text_column, label_column) for path in paths]
        for part, paths in files.items()
    }
    classes, notes = _classes(short, found)
    codes = {value: code for code, value in enumerate(_values(found))}
    if any(rows.names for parts in found.values() for rows in parts):
        codes = {code: code for code in range(len(classes))}
    whole: dict[str, Part] = {}
    for part, parts in found.items():
        values = [value for rows in parts for value in rows.labels]
        odd = next((value for value in values if value not in codes), None)
        if odd is not None:
            raise AssayError(
                f"{short} ({part}) has the label {odd!r}, but its classes are "
                f"{one_line(', '.join(classes), 80)}"
            )
        texts = [text for rows in parts for text in rows.texts]
        whole[part] = Part(texts, [codes[value] for value in values], _joined(parts))
    chosen, more = _split(short, split, whole)
    empty = sum(not text.strip() for text in chosen.texts)
    if empty:
        are = "text of {} is empty" if empty == 1 else "texts of {} are empty"
        notes.append(f"{empty:,} {are.format(f'{short} ({split})')}")
    if not chosen.texts:
        raise AssayError(f"{short} ({split}) has no texts")
    notes += more
    return in_memory(short, split, classes, chosen.texts, chosen.labels, notes, chosen.metadata)


@dataclass(frozen=True)
class Part:
    """The rows of a split: texts, their labels, and what else is known of each, by column."""

    texts: list[str]
    labels: list[int]
    metadata: dict[str, list[Any]]

    def rows(self, chosen: Sequence[int]) -> Part:
        """Return some of its rows, by their places."""
        return Part(
            [self.texts[row] for row in chosen],
            [self.labels[row] for row in chosen],
            {name: [values[row] for row in chosen] for name, values in self.metadata.items()},
        )


def _joined(parts: Sequence[Rows] | Sequence[Part]) -> dict[str, list[Any]]:
    """Return the columns of parts as those of one; None where a part has no such column."""
    columns: dict[str, list[Any]] = {}
    before = 0
    for part in parts:
        extend(columns, part.metadata, before, len(part.texts))
        before += len(part.texts)
    return columns


def _files(name: str | Path) -> tuple[str, dict[str, list[Path]]]:
    """Return what a set is called, and its files by split; "" where a file names none."""
    path = expanded(name)
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise AssayError(
                f"{printable(str(path))} holds no texts that can be read: give "
                f"{', '.join(sorted(SUFFIXES))}"
            )
        return path.stem, {_split_in(path.stem): [path]}
    folder = path if path.is_dir() else None
    short = path.name
    if folder is None and not path.is_absolute() and not str(name).startswith((".", "~")):
        folder = next((place / short for place in data_folders() if (place / short).is_dir()), None)
    if folder is None:
        hub_id = HUB.get(str(name), str(name))
        if isinstance(name, Path) or not re.fullmatch(r"[\w.-]+/[\w.-]+", hub_id):
            raise AssayError(
                f"there is no file or folder of texts {one_line(printable(str(path)), 120)!r}; "
                f"known by name: {', '.join(HUB)}"
            )
        folder, _ = fetched(hub_id, SUFFIXES)
    listing = walk(folder, SUFFIXES)
    parts: dict[str, list[Path]] = defaultdict(list)
    for file in listing.files:
        if file.suffix in SUFFIXES:
            parts[_split_in(str(file))].append(file.path(folder))
    if not parts:
        raise AssayError(
            f"{printable(str(folder))} holds no texts: looked for {', '.join(sorted(SUFFIXES))}"
        )
    if set(parts) != {""}:
        parts.pop("", None)  # a README's table, an index
    return short, dict(parts)


def _split_in(path: str) -> str:
    """Return the split that the words of a path name; "" where they name none."""
    splits = {split for word in re.split(r"[^A-Za-z]+", path) if (split := split_of(word))}
    if len(splits) > 1:
        raise AssayError(
            f"{one_line(path, 120)} can be of the splits {' and '.join(sorted(splits))}"
        )
    return splits.pop() if splits else ""


def _values(found: dict[str, list[Rows]]) -> list[object]:
    """Return the labels that there are, in order: numbers by size, strings as `by_name` does."""
    values = {value for parts in found.values() for rows in parts for value in rows.labels}
    names = by_name(value for value in values if isinstance(value, str))
    return [*sorted(value for value in values if not isinstance(value, str)), *names]


def _classes(short: str, found: dict[str, list[Rows]]) -> tuple[tuple[str, ...], list[str]]:
    first = next(rows for parts in found.values() for rows in parts)
    kinds = {rows.columns for parts in found.values() for rows in parts}
    if len(kinds) > 1:
        raise AssayError(f"the files of {short} differ in their columns: {sorted(kinds)}")
    names = first.names or tuple(str(value) for value in _values(found))
    given = CLASSES.get(short, names)
    classes = given if len(given) == len(names) else names
    if len(classes) < 2:
        raise AssayError(f"{short} has {len(classes)} class; a classifier needs two or more")
    if len(classes) > 1000:
        raise AssayError(
            f"column {first.columns[1]!r} of {short} has {len(classes):,} different values: it is "
            "no label; rename the column of labels to label, or name it in Python by "
            "load_texts(label_column=…)"
        )
    return classes, []


def _split(short: str, split: str, parts: dict[str, Part]) -> tuple[Part, list[str]]:
    """Return the rows of a split, and what was held out for it."""
    if split == "all":
        every = list(parts.values())
        texts = [text for part in every for text in part.texts]
        return Part(texts, [y for part in every for y in part.labels], _joined(every)), []
    if "" in parts:
        keys = [content_key(text.encode("utf-8", "surrogatepass")) % 10 for text in parts[""].texts]
        wanted = {"test": (0,), "validation": (1,), "train": range(2, 10)}[split]
        rows = [row for row, key in enumerate(keys) if key in wanted]
        note = f"{short} names no splits: parted by content, 8:1:1 (--split all takes all of it)"
        return parts[""].rows(rows), [note]
    if split in parts and (split != "train" or "validation" in parts):
        return parts[split], []
    if split == "test" or "train" not in parts:
        raise NoSplit(
            f"{short} has no split {split!r}, but {' and '.join(sorted(parts))}; files name their "
            "split, test.csv"
        )
    train = parts["train"]
    keys = [content_key(text.encode("utf-8", "surrogatepass")) for text in train.texts]
    out = held_out(np.array(keys, dtype=np.int64), np.array(train.labels, dtype=np.int64))
    rows = np.flatnonzero(out if split == "validation" else ~out).tolist()
    note = f"{short} has no validation split: {int(out.sum()):,} texts of train are held out for it"
    return train.rows(rows), [note]
