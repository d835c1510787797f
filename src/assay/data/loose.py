"""Image files of any arrangement in folders, without labels, each known by its path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.data.altered import counted_on, notes_on
from assay.data.decode import CHUNK, Unreadable, in_order, suffixes
from assay.data.walk import File, walk
from assay.errors import AssayError, expanded, one_line


def loose_images(
    folder: str | Path,
    shape: tuple[int, int, int],
    *,
    scaled: bool = False,
    crop: float | None = 1.0,
    mode: str = "bicubic",
) -> tuple[tuple[str, ...], Tensor, tuple[str, ...]]:
    """Return the paths of all image files below a folder, in their order; the images, uint8
    (N, C, H, W) of the given shape; and what reading did to some of them (see `data.altered`), a
    line each. Nothing is kept in the cache of data sets.

    Args:
        folder: where they are; folders in it are read too, whatever they are called.
        shape: channels (1 or 3), height and width. Grey is made coloured, colour grey.
        scaled: bring images of another size to it, by their middle square.
        crop: what is kept of them, as in `core.crop`: a share of the shorter side; None: squash the
            whole.
        mode: how pixels are interpolated: nearest, bilinear or bicubic.

    Raises:
        AssayError: for a folder without images, a file that is none, or one of another size where
            they are not `scaled`; names the file.
    """
    root = expanded(folder)
    if not root.is_dir():
        what = "is a file: give the folder it is in" if root.exists() else "is not there"
        raise AssayError(f"the folder of images {one_line(str(root), 120)} {what}")
    files = [file for file in walk(root, suffixes()).files if file.suffix in suffixes()]
    if not files:
        raise AssayError(f"{one_line(str(root), 120)} holds no images")
    if not scaled:
        _same_size(root, files, shape[1:])
    parts, altered = zip(*_read("decode", root, files, *shape, scaled, crop, mode), strict=True)
    told = notes_on(
        counted_on(altered, CHUNK),
        lambda row: str(files[row]),
        f"{len(files):,} images of {one_line(str(root), 120)}",
    )
    return tuple(map(str, files)), torch.from_numpy(np.concatenate(parts)), told


def _same_size(root: Path, files: list[File], size: tuple[int, int]) -> None:
    seen = [found[1:] for chunk in _read("look", root, files) for found in chunk]
    odd = next((row for row, found in enumerate(seen) if found != size), None)
    if odd is None:
        return
    (height, width), count = seen[odd], Counter(seen)
    raise AssayError(
        f"{files[odd]} is {height}×{width}, and the model is given {size[0]}×{size[1]} "
        f"({len(seen) - count[size]:,} of {len(seen):,} images have another size): give --size "
        f"{size[0]}, to which each is scaled and cropped"
    )


def _read(function: str, root: Path, files: list[File], *more: Any) -> Iterator[Any]:
    """Yield what a function of `decode` makes of the files, some at a time."""
    chunks = (
        [str(f.path(root)) for f in files[k : k + CHUNK]] for k in range(0, len(files), CHUNK)
    )
    try:
        yield from in_order(function, ((chunk, *more) for chunk in chunks))
    except Unreadable as error:
        row, reason = error.args
        raise AssayError(f"{files[row]} cannot be read as an image: {reason}") from error
