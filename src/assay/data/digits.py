"""The bundled digits: 5,000 training and 1,000 test images of MNIST, inside the package."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.resources import files

import numpy as np
import torch

from assay.data.dataset import Dataset, in_memory
from assay.data.splits import content_key, held_out

CLASSES = tuple(str(digit) for digit in range(10))


def digits(split: str) -> Dataset:
    """Return real handwritten digits, uint8 (N, 1, 28, 28): 4,500 train, 500 validation, 1,000
    test, each digit equally often (LeCun et al. 1998; source and licence in `bundled/SOURCE.md`).
    """
    kept = _read(split)
    return replace(kept, images=kept.images.clone(), labels=kept.labels.clone())


@cache  # a study plans its trials again and again, and loads their data each time
def _read(split: str) -> Dataset:
    part = "test" if split == "test" else "train"
    with (
        files("assay.data").joinpath("bundled/digits.npz").open("rb") as file,
        np.load(file) as arrays,
    ):
        images = arrays[f"{part}_images"]
        labels = arrays[f"{part}_labels"].astype(np.int64)
    if part == "train":
        keys = np.array([content_key(image.tobytes()) for image in images])
        keep = held_out(keys, labels) == (split == "validation")
        images, labels = images[keep], labels[keep]
    return in_memory(
        "digits", split, CLASSES, torch.from_numpy(images)[:, None], torch.from_numpy(labels)
    )
