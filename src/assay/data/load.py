"""From a name to a data set."""

from __future__ import annotations

from pathlib import Path

from assay.data.dataset import Dataset
from assay.data.digits import digits
from assay.data.shapes import shapes
from assay.data.splits import SPLITS
from assay.errors import unknown

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
    raise unknown("data set", str(name), [*BUNDLED, *HUB])
