"""Train, validation, test: and a validation split for sets that come without one."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "validation", "test")
HELD_OUT = 0.1  # the share of train that becomes validation


def content_key(image: bytes) -> int:
    """Return a 63-bit number that depends on nothing but the bytes of one image."""
    return int.from_bytes(hashlib.blake2b(image, digest_size=8).digest(), "little") >> 1


def held_out(keys: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which rows of train are held out for validation: bool (N,).

    In each class, the tenth (rounded) with the smallest content keys. So the choice depends on no
    seed and on no order, and copies of an image in one class end on the same side: where that would
    be more than two tenths, they stay. A class of five images or fewer gives none.
    """
    chosen = np.zeros(len(keys), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = round(HELD_OUT * len(rows))
        if count:
            last = np.sort(keys[rows])[count - 1]
            many = (keys[rows] <= last).sum() > 2 * count
            chosen[rows] = keys[rows] < last if many else keys[rows] <= last
    return chosen
