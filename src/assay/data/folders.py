"""A folder of images: first level the split, second the class; or the classes alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from assay.data.classes import by_name
from assay.data.decode import CHUNK, Encoded
from assay.data.metadata import columns_beside, labels_beside
from assay.data.opened import Opened, Part, split_of
from assay.data.walk import File, Listing, listed, printable
from assay.errors import AssayError

WANTED = (
    "wanted is one folder per class (cat/1.png), or these in train/ and test/ (train/cat/1.png)"
)


def open_images(listing: Listing, images: list[File], labelled: bool) -> Opened:
    """Return the set that the image files of a folder make.

    A class is the folder below the split, however deep its images lie. Classes are numbered in the
    alphabetical order of their names, over all splits: 10 before 2, as `ImageFolder` of torchvision
    has them.

    Raises:
        AssayError: for folders that could be splits as well as classes, for two that are the same
            split, for the folder above such a set, and for images without a class where labels are
            needed.
    """
    where = printable(str(listing.root))
    splits, notes = _splits(listing, images, where)
    if labelled and not any(
        len(file.parts) > depth for depth, kept in splits.values() for file in kept
    ):
        said, read = labels_beside(listing)
        if not said:
            raise AssayError(_no_classes(where, splits))
        return _labelled_beside(listing, splits, said, (*notes, *read))
    names = {
        file.parts[depth - 1]
        for depth, kept in splits.values()
        for file in kept
        if len(file.parts) > depth
    }
    classes = sorted(names)
    numbers = {name: label for label, name in enumerate(classes)}
    shown = tuple(printable(name) for name in classes)
    if len(set(shown)) < len(shown):
        twice = [name for name, count in Counter(shown).items() if count > 1]
        raise AssayError(f"{where} has two classes that are shown as {listed(twice)}: rename one")
    parts = {}
    for split, (depth, kept) in splits.items():
        loose = [file for file in kept if len(file.parts) <= depth]
        if loose and len(loose) < len(kept):
            notes.append(
                f"{_count(loose)} of {split} in no folder of a class: not read ({loose[0]})"
            )
            kept = [file for file in kept if len(file.parts) > depth]
            loose = []
        unlabelled = f"its {split} images lie in no folders of classes" if loose else ""
        labels = [-1 if loose else numbers[file.parts[depth - 1]] for file in kept]
        parts[split] = _part(listing, kept, labels, unlabelled)
    notes += _empty(listing, splits, names)
    notes += _shared(splits)
    if len(shown) == 1 and labelled:
        inside = {
            file.parts[1] for _, kept in splits.values() for file in kept if len(file.parts) > 2
        }
        deeper = inside and all(split_of(name) for name in inside) and "train" in splits
        if deeper:
            raise AssayError(
                f"{where} holds one folder, whose folders are splits: give {where}/{shown[0]}"
            )
        notes.append(f"{where} has one class only: {shown[0]}")
    return Opened(where, parts, shown, (*listing.notes, *notes), {"folder": where})


def _labelled_beside(
    listing: Listing, splits: Splits, said: dict[tuple[str, ...], str], notes: Sequence[str]
) -> Opened:
    """Return the set whose labels a metadata file says; an image that it does not name has none."""
    classes = by_name(said.values())
    numbers = {name: label for label, name in enumerate(classes)}
    parts = {
        split: _part(listing, kept, [numbers.get(said.get(f.parts, ""), -1) for f in kept], "")
        for split, (_, kept) in splits.items()
    }
    where = printable(str(listing.root))
    shown = tuple(printable(name) for name in classes)
    return Opened(where, parts, shown, (*listing.notes, *notes), {"folder": where})


Splits = dict[str, tuple[int, list[File]]]
"""Split → how many parts of a path lead to the class, that included; and its images."""


def _splits(listing: Listing, images: list[File], where: str) -> tuple[Splits, list[str]]:
    """Return the splits that the first level names; without any, all is train."""
    below: dict[str, list[File]] = defaultdict(list)
    for file in images:
        if len(file.parts) > 1:
            below[file.parts[0]].append(file)
    loose = [file for file in images if len(file.parts) == 1]
    named = [name for name in below if split_of(name)]
    others = [name for name in below if not split_of(name)]
    classes = {name: {f.parts[1] for f in below[name] if len(f.parts) > 2} for name in below}
    notes = []
    if loose and below:
        notes.append(f"{_count(loose)} beside the folders of {where}: not read ({loose[0]})")
    if not below:
        return {"train": (1, loose)}, [
            f"{where} holds {_count(loose)} and no folders: all is train"
        ]
    if named and others:
        if not any(classes[name] for name in named):
            notes.append(
                f"{listed(named)} in {where} is read as a class: its images lie directly in it, "
                f"beside {listed(others)}"
            )
            named = []
        elif not _alike([classes[name] for name in named]):
            raise AssayError(
                f"{where} can be read in two ways: {listed(named)} may be a split, or a class "
                f"beside {listed(others)}; if splits, move the others away; if classes, move "
                f"all of them into a folder {where}/train"
            )
        else:
            notes.append(
                f"{where} is read by its splits ({listed(named)}): {listed(others)} is not read"
            )
    if named:
        splits: Splits = {}
        first: dict[str, str] = {}
        for name in named:
            split = split_of(name)
            assert split is not None
            if split in splits:
                raise AssayError(
                    f"{where} has {first[split]}/ and {name}/, which both mean {split}: keep one, "
                    f"or move both into a folder {where}/train if they are classes"
                )
            splits[split], first[split] = (2, below[name]), name
        return splits, notes
    return _one_split(listing, [file for file in images if len(file.parts) > 1], where, notes)


def _one_split(
    listing: Listing, images: list[File], where: str, notes: list[str]
) -> tuple[Splits, list[str]]:
    """Return the one split of a folder of classes: that by its name, if it lies beside others."""
    own = split_beside_others(listing.root)
    if own is not None:
        notes.append(
            f"{where} is read as the split {own} alone; give the folder above it for all splits"
        )
        return {own: (1, images)}, notes
    notes.append(f"{where} has no folders train/ and test/: all of it is train")
    return {"train": (1, images)}, notes


def split_beside_others(folder: Path) -> str | None:
    """Return the split that a folder is by its name, if folders of other splits lie beside it."""
    here = Path.cwd() / folder
    own = split_of(here.name)
    if own is None:
        return None
    try:
        splits = {split_of(path.name) for path in here.parent.iterdir() if path.is_dir()}
    except OSError:
        return None
    return own if splits - {None, own} else None


def _alike(classes: list[set[str]]) -> bool:
    """Whether there are two splits or more, each with folders, that share a class."""
    return len(classes) > 1 and all(classes) and bool(set.intersection(*classes))


def _part(listing: Listing, files: list[File], labels: list[int], unlabelled: str) -> Part:
    root = listing.root

    def images() -> Iterator[list[Encoded]]:
        for start in range(0, len(files), CHUNK):
            yield [str(file.path(root)) for file in files[start : start + CHUNK]]

    def title(row: int) -> str:
        return printable(str(files[row].path(root)))

    columns = columns_beside(listing, files)
    return Part(np.array(labels, dtype=np.int64), images, title, unlabelled, columns)


def _no_classes(where: str, splits: Splits) -> str:
    count = sum(len(kept) for _, kept in splits.values())
    if {depth for depth, _ in splits.values()} == {1}:
        return f"{where} holds {count:,} images and no folders, so they have no labels: {WANTED}"
    return (
        f"{where} holds {count:,} images directly in {', '.join(splits)}, so they have no labels: "
        f"{WANTED}; if these are the classes themselves, move them into a folder {where}/train"
    )


def _empty(listing: Listing, splits: Splits, names: set[str]) -> list[str]:
    """Say which classes have no image in one split, and which folders have none in any."""
    notes = []
    without = set()
    for split, (depth, kept) in splits.items():
        own = {file.parts[depth - 1] for file in kept if len(file.parts) > depth}
        if own and names - own:
            notes.append(f"no image of {listed(sorted(names - own))} in {split}")
    for folder in listing.folders:
        deep = any(depth == 2 for depth, _ in splits.values())
        is_class = len(folder) == 2 and split_of(folder[0]) if deep else len(folder) == 1
        if is_class and folder[-1] not in names:
            without.add(folder[-1])
    if without:
        notes.append(f"{listed(sorted(without))} holds no image in any split: not a class")
    return notes


def _shared(splits: Splits) -> list[str]:
    """Say which splits have files in common, by links."""
    nodes = {split: {file.node for file in kept} for split, (_, kept) in splits.items()}
    pairs = [(a, b) for i, a in enumerate(nodes) for b in list(nodes)[i + 1 :]]
    return [
        f"{len(both):,} images are the same files in {a} and {b}"
        for a, b in pairs
        if (both := nodes[a] & nodes[b])
    ]


def _count(files: list[File]) -> str:
    return f"{len(files):,} image{'s' * (len(files) != 1)}"
