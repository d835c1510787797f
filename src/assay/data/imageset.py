"""Image sets in a folder, or fetched from the hub into one: understood, checked, decoded, kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.config import digest
from assay.core.crop import SCALED_FIRST
from assay.data.altered import Cause, notes_on
from assay.data.cache import cached, finish, kept_meta, start_array, writing
from assay.data.dataset import Dataset
from assay.data.decode import Unreadable, in_order, suffixes
from assay.data.folders import WANTED, open_images, split_beside_others
from assay.data.opened import Asked, Opened, Part
from assay.data.splits import held_out
from assay.data.tables import SUFFIXES, open_tables
from assay.data.walk import Listing, printable, walk
from assay.errors import AssayError, NoSplit, unknown

VERSION = 6  # raised when the same files would be decoded, ordered, split or told differently

SIDE = 4096
"""The most pixels that images are scaled to along a side."""


def folder_set(
    folder: Path, split: str, asked: Asked, cache: Path, hub: dict[str, str] | None = None
) -> Dataset:
    """Return a split of the image set in a folder, decoded if it is not in the cache.

    The cache is for all that could have been read: every file's path, size and times of change.
    """
    if asked.size is not None and not 1 <= asked.size <= SIDE:
        raise AssayError(f"size is a number of pixels from 1 to {SIDE}, not {asked.size}")
    listing = walk(folder, suffixes() | SUFFIXES)
    files = [(printable("/".join(file.parts)), *file.stamp) for file in listing.files]
    beside = sorted(printable("/".join(parts)) for parts in listing.folders)
    known = [printable(str(folder)), split_beside_others(folder), files, beside, listing.notes]
    usual = {"mode": Asked.mode}  # what came later is left out while it is as before
    given = {name: value for name, value in vars(asked).items() if usual.get(name) != value}
    key = digest([VERSION, given, known])
    name = printable((hub or {}).get("hub", folder.resolve().name).split("/")[-1]) or "root"
    short = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)[:80]
    entry = cache / f"{short}-{key[:16]}"
    found = cached(entry, split, name)
    if found is None:
        with writing(entry) as making:
            # another process may have made it while we waited for the lock
            if cached(entry, split, name) is None:
                _make(_open(listing, asked, hub or {}), split, asked, making, entry)
        found = cached(entry, split, name)
    if found is None:
        raise AssayError(f"the images just kept in {entry / split} are gone or damaged; try again")
    return found


def _open(listing: Listing, asked: Asked, hub: dict[str, str]) -> Opened:
    """Return what the folder holds: parquet or arrow files, otherwise images in folders."""
    where = printable(str(listing.root))
    tables = [
        file
        for file in listing.files
        # beside image files, metadata.parquet describes them
        if file.suffix in SUFFIXES and file.parts[-1] != "metadata.parquet"
    ]
    images = [file for file in listing.files if file.suffix in suffixes()]
    if tables:
        opened = open_tables(listing, tables, asked)
    elif images:
        for kind, column in (("image", asked.image_column), ("label", asked.label_column)):
            if column not in (None, kind):
                raise unknown(f"{kind} column of {where}", str(column), [kind])
        opened = open_images(listing, images, asked.labelled)
    else:
        raise AssayError(f"{where} holds no images{_instead(listing)}")
    return Opened(
        opened.where, opened.parts, opened.classes, opened.notes, {**opened.origin, **hub}
    )


def _instead(listing: Listing) -> str:
    kinds = Counter(printable(file.suffix) or "no suffix" for file in listing.files)
    if not kinds:
        return f": it is empty; {WANTED}, or parquet files"
    seen = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(3))
    return f", but {seen}; {WANTED}, or parquet files"


# -- checking and decoding it ------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """What every image of a set is decoded to, in all splits, and what that does to some."""

    channels: int
    height: int
    width: int
    notes: tuple[str, ...]


def _make(source: Opened, split: str, asked: Asked, making: Path, entry: Path) -> None:
    """Decode a split into `entry`; both train and validation where one is taken from the other."""
    offered = [*source.parts, *(["validation"] if source.carved else [])]
    if split not in offered:
        raise NoSplit(
            f"{source.where} has no split {split!r}, but {' and '.join(offered)}; in a folder of "
            "images each split is a folder (train/, test/) with one folder per class in it"
        )
    carve = source.carved and split in ("train", "validation")
    own = "train" if carve else split
    part = source.parts[own]
    labels = part.labels if asked.labelled else np.full(len(part.labels), -1)
    seen = f"{source.where} ({own})"
    if not len(labels):
        raise AssayError(f"{seen} holds no images: it has no rows")
    if asked.labelled:
        _labelled(part, labels, source)
    shape = _agreed(source, asked, entry)
    out = np.zeros(len(labels), dtype=bool)
    if carve:
        keys = [key for chunk in _decoded("keys", part) for key in chunk]
        out = held_out(np.array(keys), labels)
    parts = {"train": ~out, "validation": out} if carve else {split: ~out}
    if not parts[split].any():
        raise AssayError(
            f"{seen} has too few images ({len(labels)}) to hold some out for validation: a class "
            "gives one in ten"
        )
    notes = [*source.notes, *shape.notes]
    if out.any():
        notes.append(
            f"{source.where} has no validation split: {int(out.sum()):,} of the {len(out):,} "
            "images of train are held out for it"
        )
    parts = {name: mask for name, mask in parts.items() if mask.any()}
    size = (shape.channels, shape.height, shape.width)
    with ExitStack() as stack:
        files = {}
        for name, mask in parts.items():
            (making / name).mkdir()
            file = start_array(making / name / "images.npy", (int(mask.sum()), *size))
            files[name] = stack.enter_context(file)
        start = 0
        altered: list[tuple[int, Cause]] = []
        for pixels, found in _decoded(
            "decode", part, *size, asked.size is not None, asked.crop, asked.mode
        ):
            for name, mask in parts.items():
                files[name].write(pixels[mask[start : start + len(pixels)]].tobytes())
            altered += [(start + row, cause) for row, cause in found]
            start += len(pixels)
    for name, mask in parts.items():
        lost = [(row, cause) for row, cause in altered if mask[row]]
        told = notes_on(lost, part.title, f"{int(mask.sum()):,} images of {name}")
        finish(
            making,
            entry,
            name,
            labels=labels[mask],
            classes=source.classes if asked.labelled else (),
            origin=source.origin,
            notes=[*notes, *told],
            agreed={"shape": size, "notes": shape.notes},
            columns={
                column: [values[row] for row in np.flatnonzero(mask).tolist()]
                for column, values in part.metadata.items()
            },
        )


def _labelled(part: Part, labels: NDArray[np.int64], source: Opened) -> None:
    if part.unlabelled:
        raise AssayError(f"{source.where} has no labels: {part.unlabelled}; {WANTED}")
    without = np.flatnonzero(labels < 0)
    if len(without):
        raise AssayError(
            f"{part.title(int(without[0]))} has no label, or none of the {len(source.classes)} "
            f"classes ({len(without):,} of {len(labels):,} rows): give every row one"
        )


def _agreed(source: Opened, asked: Asked, entry: Path) -> Shape:
    """Return the shape that all images of all splits are brought to.

    Grey images among coloured ones are made coloured. So that train, validation and test fit one
    network, and it is known before it is trained, the headers of all splits are read; but for
    those of a set of which a split is kept already.

    Raises:
        AssayError: names the first image of another size, where no `size` was given.
    """
    for split in ("train", "validation", "test"):
        meta = kept_meta(entry, split)
        if meta is not None:
            channels, height, width = meta["agreed"]["shape"]
            return Shape(channels, height, width, tuple(meta["agreed"]["notes"]))
    seen: Counter[tuple[int, int]] = Counter()
    grey: Counter[str] = Counter()
    coloured: Counter[str] = Counter()
    first, odd = "", ""
    for split, part in source.parts.items():
        row = 0
        for chunk in _decoded("look", part):
            for channels, height, width in chunk:
                (grey if channels == 1 else coloured)[split] += 1
                if not seen:
                    first = f"{part.title(row)} is {height}×{width}"
                elif not odd and (height, width) not in seen:
                    odd = f"{part.title(row)} {height}×{width}"
                seen[height, width] += 1
                row += 1
    if not seen:
        raise AssayError(f"{source.where} holds no images: it has no rows")
    notes = []
    size = asked.size
    if size is None and len(seen) > 1:
        shown = ", ".join(f"{n:,} of {h}×{w}" for (h, w), n in seen.most_common(3))
        raise AssayError(
            f"the images of {source.where} differ in size: {first}, {odd} ({shown}"
            f"{', …' if len(seen) > 3 else ''}); give a size in pixels (load_data(size=224), "
            "--size 224), to which each is scaled and cropped"
        )
    height, width = (size, size) if size is not None else next(iter(seen))
    scaled = sum(n for found, n in seen.items() if found != (height, width))
    if scaled:
        notes.append(f"{scaled:,} images are brought to {size}×{size} pixels: {_how(asked.crop)}")
    if grey and coloured:
        shown = ", ".join(f"{n:,} of {split}" for split, n in grey.items())
        notes.append(f"grey images among coloured ones are made coloured: {shown}")
    return Shape(3 if coloured else 1, height, width, tuple(notes))


def _how(crop: float | None) -> str:
    """Return in words how an image is brought to a square of another size."""
    if crop is None:
        return "squashed"
    if crop < 0:
        return f"squashed, of which the middle {-100 * crop:.1f} % is kept"
    share = "" if crop >= SCALED_FIRST else f", {100 * crop:.1f} % of the shorter side,"
    return f"the middle square{share} is scaled"


def _decoded(function: str, part: Part, *more: Any) -> Iterator[Any]:
    """Yield what a function of `decode` makes of the images, a chunk at a time."""
    chunks = ((chunk, *more) for chunk in part.images())
    try:
        yield from in_order(function, chunks)
    except Unreadable as error:
        row, reason = error.args
        raise AssayError(f"{part.title(row)} cannot be read as an image: {reason}") from error
