"""Image sets in shards, read one at a time, some rows at a time.

Nothing is decoded beforehand and nothing kept in the cache, so that a set may be larger than the
memory and the disk's free space. A shard is known by the digest of its content and by how many
images come before it: an image has the index that it has in the whole set, and random draws keyed
by it are the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.data.classes import places
from assay.data.decode import CHUNK, Unreadable, decode, look
from assay.data.opened import split_of
from assay.data.shard import Kept, Piece, Shard
from assay.data.shard_files import SUFFIXES, ArrayShard, TableShard
from assay.data.streams import HUB, StreamShard, streamed_shards
from assay.data.walk import File, listed, printable, walk
from assay.disk import digest_of
from assay.errors import AssayError, expanded, one_line

__all__ = ["Reading", "Shard", "batches", "check", "classes_of", "shape_of", "shards_in"]


@dataclass(frozen=True)
class Reading:
    """How the rows of every shard become images and labels.

    Attributes:
        shape: channels, height and width that every image has, or is brought to.
        scaled: whether encoded images of other sizes are brought to it.
        crop: the middle square that is scaled, as a share of the shorter side; None: squashed.
        classes: what the labels count: the model's outputs.
        labelled: whether labels are read; otherwise they are -1.
        mode: how pixels are interpolated: nearest, bilinear or bicubic.
    """

    shape: tuple[int, int, int]
    scaled: bool
    crop: float | None
    classes: tuple[str, ...]
    labelled: bool = True
    mode: str = "bicubic"


# -- which shards there are --------------------------------------------------------------------


def shards_in(where: str | Path, split: str) -> tuple[Shard, ...]:
    """Return the shards of a folder in the order of their paths (.parquet, .arrow and .npz files),
    or of a set on the hub.

    Where paths name splits (`test-00001.parquet`), those of `split` are taken; where none does, all
    are. Files are read once, for their digests.

    Raises:
        AssayError: there is no such folder or set, it has no shards of the split, or some of them
            cannot be read; names the first.
    """
    root = expanded(where)
    shown = one_line(printable(str(root)), 120)
    if not root.exists() and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", str(where)):
        return streamed_shards(str(where), split)
    if not root.is_dir():
        what = "is a file: give the folder it is in" if root.exists() else "is not there"
        raise AssayError(f"the folder of shards {shown} {what}")
    listing = walk(root, SUFFIXES)
    files = _of_split([file for file in listing.files if file.suffix in SUFFIXES], split, shown)
    found: list[Shard] = []
    broken: list[str] = []
    first = 0
    for file in files:
        shard = Shard(str(root.absolute()), "/".join(file.parts), first, None, "")
        try:
            rows = _opened(shard).rows or 0
            digest = digest_of(file.path(root))
        except AssayError as error:
            broken.append(str(error))
            continue
        found.append(Shard(shard.where, shard.name, first, rows, digest))
        first += rows
    if broken:
        more = f" (and {len(broken) - 1} more shards cannot be)" if len(broken) > 1 else ""
        raise AssayError(
            f"{broken[0]}{more}; images of later shards are counted on from it: mend it, or take "
            "it out of the folder"
        )
    if first == 0:
        raise AssayError(f"the shards of {shown} hold no images: they have no rows")
    return tuple(shard for shard in found if shard.rows)


def _of_split(files: list[File], split: str, shown: str) -> list[File]:
    if not files:
        raise AssayError(f"{shown} holds no shards: no .parquet, .arrow or .npz files")
    said: dict[str | None, list[File]] = {}
    for file in files:
        words = (word for part in file.parts for word in re.split(r"[^A-Za-z]+", part))
        said.setdefault(next(filter(None, map(split_of, words)), None), []).append(file)
    if said.keys() == {None}:
        return files
    if split not in said:
        named = " and ".join(sorted(filter(None, said)))
        raise AssayError(f"{shown} has no shards of the split {split!r}, but of {named}")
    return said[split]


def check(shard: Shard) -> None:
    """See that a shard still has the content that it was listed with.

    Raises:
        AssayError: it is gone, or has changed.
    """
    path = Path(shard.where) / shard.name
    if not shard.where.startswith(HUB) and digest_of(path) != shard.digest:
        raise AssayError(f"shard {shard} has changed since the command began: give it again")


# -- reading one -------------------------------------------------------------------------------


def _opened(shard: Shard) -> Kept:
    if shard.where.startswith(HUB):
        return StreamShard(shard)
    kind = ArrayShard if shard.name.lower().endswith(".npz") else TableShard
    return kind(Path(shard.where), shard.name)


def classes_of(shard: Shard) -> tuple[str, ...] | None:
    """Return the classes that a shard declares, in the order of its labels; None where it does
    not."""
    return _opened(shard).names


def shape_of(shard: Shard) -> tuple[int, int, int]:
    """Return channels, height and width of a shard's images, by its first ones.

    Raises:
        AssayError: it cannot be read, or has no images.
    """
    for piece in _opened(shard).pieces(labelled=False):
        if not isinstance(piece.images, list):
            channels, height, width = piece.images.shape[1:]
            return channels, height, width
        try:
            found = look(piece.images[:CHUNK])
        except Unreadable as error:
            raise _unreadable(shard, error, 0) from error
        return max(channels for channels, _, _ in found), *found[0][1:]
    raise AssayError(f"shard {shard} has no images: it has no rows")


def batches(shard: Shard, reading: Reading, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield (ids int64 (B,), images uint8 (B, C, H, W), labels int64 (B,)), in order.

    Memory holds one batch, however large the shard is.

    Raises:
        AssayError: names the shard, and the row that cannot be used.
    """
    kept = _opened(shard)
    names = kept.names if reading.labelled else None
    start = 0
    for piece in _regrouped(kept.pieces(reading.labelled), size):
        images = torch.from_numpy(_pixels(shard, piece, reading, start))
        labels = torch.full((len(images),), -1)
        if reading.labelled:
            labels = _labels(shard, piece.labels, names, reading.classes, start)
        ids = torch.arange(shard.first + start, shard.first + start + len(images))
        yield ids, images, labels
        start += len(images)
    if shard.rows is not None and start != shard.rows:
        raise AssayError(f"shard {shard} has {start:,} rows, and said {shard.rows:,}")


def _regrouped(pieces: Iterable[Piece], size: int) -> Iterator[Piece]:
    """Yield the same rows, `size` at a time."""
    images: list[Any] = []
    labels: list[Any] = []
    pixels = False
    for piece in pieces:
        pixels = not isinstance(piece.images, list)
        images.extend(piece.images)
        labels.extend(piece.labels)
        while len(images) >= size:
            yield Piece(np.stack(images[:size]) if pixels else images[:size], labels[:size])
            del images[:size], labels[:size]
    if images:
        yield Piece(np.stack(images) if pixels else images, labels)


def _pixels(shard: Shard, piece: Piece, reading: Reading, start: int) -> NDArray[Any]:
    if not isinstance(piece.images, list):
        if piece.images.shape[1:] != reading.shape:
            both = (piece.images.shape[1:], reading.shape)
            seen, wanted = (" × ".join(map(str, shape)) for shape in both)
            raise AssayError(f"the images of shard {shard} are {seen}, not {wanted}")
        return piece.images
    try:
        if reading.shape[0] == 1:
            colour = next((k for k, (c, *_) in enumerate(look(piece.images)) if c == 3), None)
            if colour is not None:
                raise Unreadable(colour, "it is coloured, and the first images of the set are grey")
        how = (*reading.shape, reading.scaled, reading.crop, reading.mode)
        return decode(piece.images, *how)[0]
    except Unreadable as error:
        raise _unreadable(shard, error, start) from error


def _unreadable(shard: Shard, error: Unreadable, start: int) -> AssayError:
    row, reason = error.args
    return AssayError(f"row {start + row:,} of shard {shard} cannot be read as an image: {reason}")


def _labels(
    shard: Shard,
    values: Sequence[Any],
    names: tuple[str, ...] | None,
    classes: tuple[str, ...],
    start: int,
) -> Tensor:
    """Return labels that count `classes`, of what is written in a shard."""
    place = list(range(len(classes))) if names is None else places(classes, names)
    if place is None:
        raise AssayError(
            f"the classes of shard {shard} ({listed(list(names or ()), 4)}) are not the model's "
            f"({listed(list(classes), 4)})"
        )
    found = []
    for row, value in enumerate(values):
        if isinstance(value, str) and value in classes:
            found.append(classes.index(value))
        elif isinstance(value, int) and 0 <= value < len(place):
            found.append(place[value])
        else:
            raise AssayError(
                f"row {start + row:,} of shard {shard} has the label {one_line(repr(value), 40)}, "
                f"which is none of the {len(place)} classes: a number from 0, or a class's name"
            )
    return torch.tensor(found, dtype=torch.int64)
