"""From a name to a data set."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from assay.data.called_images import called_images
from assay.data.dataset import Dataset
from assay.data.digits import digits
from assay.data.hub import fetched
from assay.data.imageset import folder_set
from assay.data.opened import Asked
from assay.data.shapes import shapes
from assay.data.splits import SPLITS
from assay.data.walk import printable
from assay.disk import cache_folder, data_folders
from assay.errors import AssayError, expanded, one_line, unknown
from assay.usercode import names_function

BUNDLED = ("digits", "shapes")
HUB = {"mnist": "ylecun/mnist", "cifar10": "uoft-cs/cifar10"}


def load_data(
    name: str | Path,
    *,
    split: str = "test",
    image_column: str | None = None,
    label_column: str | None = None,
    size: int | None = None,
    crop: float | None = 1.0,
    mode: str = "bicubic",
    cache: str | Path | None = None,
    seed: int = 0,
    at_most: int | None = None,
) -> Dataset:
    """Return a set of labelled images.

    Args:
        name: `digits` or `shapes`, which are inside the package; a folder; `mnist`, `cifar10` or
            any image-classification set by its id on the Hugging Face hub. A name or id is looked
            for as a folder first, by its last part, in the folders of `$ASSAY_DATA` and in
            `./data`. Or `file.py:function` or `package.module:function`, which is run: it gives
            batches (see `assay.data.called`).
        split: train, validation or test.
        image_column, label_column: which columns to read; None finds them.
        size: scale the middle square of every image to `size` × `size` pixels; None keeps them as
            they are.
        crop: how large that square is, as a share of the shorter side; None: none is cut out, the
            whole image is squashed; negative: a share of the squashed image.
        mode: how pixels are interpolated then: nearest, bilinear or bicubic.
        cache: the folder of decoded images; None: `$ASSAY_CACHE`, otherwise the user's cache.
        seed: what synthetic sets are made from.
        at_most: how many images a function is asked for; None: all that it gives.

    A folder of images has the splits as its first level and the classes as its second, or the
    classes alone; how it was understood is in `Dataset.notes`.

    Raises:
        AssayError: says what is wrong with the name, the split, the columns or an image.

    >>> data = assay.load_data("digits", split="test")
    >>> data.shape, len(data)
    ((1, 28, 28), 1000)
    """
    if name in BUNDLED:
        if split not in SPLITS:
            raise unknown(f"split of {name}", split, SPLITS)
        bundled = digits(split) if name == "digits" else shapes(split, seed)
        if size not in (None, bundled.shape[1]):
            raise AssayError(
                f"--size {size} (load_data(size={size})) goes with folders and sets of the hub: "
                f"the images of {name} stay as they are, {bundled.shape[1]} × {bundled.shape[2]}"
            )
        return bundled
    asked = Asked(image_column, label_column, size, crop, mode)
    if names_function(str(name)):
        return called_images(str(name), split, asked, at_most)
    return image_set(name, split, asked, cache)


def image_set(name: str | Path, split: str, asked: Asked, cache: str | Path | None) -> Dataset:
    """Return a split of an image set that is in a folder or on the hub; see `load_data`."""
    if not str(name):
        raise AssayError("the name of the data set is empty: give a folder, or . for this one")
    kept = cache_folder(cache)
    folder = _folder(name)
    if folder is not None:
        return folder_set(folder, split, asked, kept)
    hub_id = HUB.get(str(name), str(name))
    in_folder = Path(name).parent != Path() and Path(name).parent.is_dir()
    if in_folder or not re.fullmatch(r"[\w.-]+/[\w.-]+", hub_id):
        raise _no_folder(Path(name), [*BUNDLED, *HUB, *_names_in(*data_folders())])
    folder, origin = fetched(hub_id)
    return folder_set(folder, split, asked, kept, origin)


def _folder(name: str | Path) -> Path | None:
    """Return the local folder that `name` means, or None.

    Raises:
        AssayError: for what can only be a path, and is not a folder.
    """
    path = expanded(name)
    if path.is_dir():
        return path
    if path.exists():
        raise AssayError(f"the data folder {printable(str(path))} is a file: {_of_file(path)}")
    if isinstance(name, Path) or path.is_absolute() or name.startswith((".", "~")):
        raise _no_folder(path, [])
    for place in data_folders():
        if (place / path.name).is_dir():
            return place / path.name
    return None


def _of_file(path: Path) -> str:
    """Return what to do with a file that was given in place of a folder of images."""
    kind = path.suffix.lower()
    if kind in (".csv", ".tsv", ".jsonl"):
        return (
            "images are listed by a metadata.csv (file_name, label) in their folder, which is "
            "given; of saved predictions, give it in the model's place"
        )
    if kind in (".npz", ".npy", ".pt", ".pth", ".pkl", ".h5", ".hdf5", ".zip", ".tar", ".gz"):
        return (
            "give a folder of images, or a function that reads it and gives batches, file.py:name"
        )
    return "give the folder it is in"


def _no_folder(path: Path, known: Iterable[str]) -> AssayError:
    """Return the error for a folder that is not there; it names those nearest to it."""
    beside = _names_in(path.parent)
    near = difflib.get_close_matches(path.name, sorted({*beside, *known}), n=3, cutoff=0.6)
    guesses = [str(path.parent / name) if name in beside else name for name in near]
    hint = f": did you mean {' or '.join(map(repr, map(printable, guesses)))}?" if near else ""
    known = f"; data sets known by name: {', '.join(dict.fromkeys(known))}" if known else ""
    return AssayError(f"no such folder: {one_line(printable(str(path)), 120)!r}{hint}{known}")


def _names_in(*places: Path) -> list[str]:
    """Return the names of the folders in some folders, as far as they can be read."""
    names = []
    for place in places:
        with suppress(OSError):
            names += [found.name for found in place.iterdir() if found.is_dir()]
    return names
