"""From a name to a data set."""

from __future__ import annotations

import os
import re
from pathlib import Path

from assay.data.cache import cache_folder
from assay.data.dataset import Dataset
from assay.data.digits import digits
from assay.data.imageset import Asked, folder_set, hub_set
from assay.data.shapes import shapes
from assay.data.splits import SPLITS
from assay.errors import AssayError, expanded, unknown

BUNDLED = ("digits", "shapes")
HUB = {"mnist": "ylecun/mnist", "cifar10": "uoft-cs/cifar10"}


def load_data(
    name: str | Path,
    *,
    split: str = "test",
    image_column: str | None = None,
    label_column: str | None = None,
    size: int | None = None,
    cache: str | Path | None = None,
    seed: int = 0,
) -> Dataset:
    """Return a set of labelled images.

    Args:
        name: `digits` or `shapes`, which are inside the package; a folder; `mnist`, `cifar10` or
            any image-classification set by its id on the Hugging Face hub. A name or id is looked
            for as a folder first, by its last part, in the folders of `$ASSAY_DATA` and in
            `./data`.
        split: train, validation or test.
        image_column, label_column: which columns to read; None finds them.
        size: resize every image to `size` × `size` pixels; None keeps them.
        cache: the folder of decoded images; None: `$ASSAY_CACHE`, otherwise the user's cache.
        seed: what synthetic sets are made from.

    Raises:
        AssayError: says what is wrong with the name, the split, the columns or an image.
    """
    if name in BUNDLED:
        if split not in SPLITS:
            raise unknown(f"split of {name}", split, SPLITS)
        return digits(split) if name == "digits" else shapes(split, seed)
    if size is not None and size < 1:
        raise AssayError(f"size is a number of pixels, not {size}")
    return image_set(name, split, Asked(image_column, label_column, size), cache)


def image_set(name: str | Path, split: str, asked: Asked, cache: str | Path | None) -> Dataset:
    """Return a split of an image set that is in a folder or on the hub; see `load_data`."""
    folder = _folder(name)
    if folder is not None:
        return folder_set(folder, split, asked, cache_folder(cache))
    hub_id = HUB.get(str(name), str(name))
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", hub_id):
        raise unknown("data set", str(name), dict.fromkeys([*BUNDLED, *HUB, *_local_names()]))
    return hub_set(hub_id, split, asked, cache_folder(cache))


def _folder(name: str | Path) -> Path | None:
    """Return the local folder that `name` means, or None.

    Raises:
        AssayError: for what can only be a path, and is not a folder.
    """
    path = expanded(name)
    if path.is_dir():
        return path
    if isinstance(name, Path) or path.is_absolute() or name.startswith((".", "~")):
        what = "is a file: give the folder it is in" if path.exists() else "does not exist"
        raise AssayError(f"the data folder {path} {what}")
    for place in _places():
        if (place / path.name).is_dir():
            return place / path.name
    return None


def _places() -> list[Path]:
    given = os.environ.get("ASSAY_DATA", "").split(os.pathsep)
    return [expanded(place) for place in given if place] + [Path("data")]


def _local_names() -> list[str]:
    return [
        folder.name
        for place in _places()
        if place.is_dir()
        for folder in place.iterdir()
        if folder.is_dir()
    ]
