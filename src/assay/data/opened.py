"""An image set that was understood, and is not decoded yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.data.decode import Encoded

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
}
"""What folders and files of a split are called, in any case → the split."""


def split_of(name: str) -> str | None:
    """Return the split that a folder of this name holds, or None.

    >>> split_of("Val"), split_of("test-tube")
    ('validation', None)
    """
    return SPLIT_NAMES.get(name.casefold())


@dataclass(frozen=True)
class Asked:
    """What of an image set is wanted, as the user named it; None: found."""

    image_column: str | None = None
    label_column: str | None = None
    size: int | None = None
    crop: float | None = 1.0
    """The middle square that is scaled to `size`, as a share of the shorter side; None: the whole
    image is squashed to it."""
    mode: str = "bicubic"
    """How pixels are interpolated: nearest, bilinear or bicubic."""
    labelled: bool = True
    """Whether labels are needed; otherwise they are not read, and are -1."""


@dataclass(frozen=True)
class Part:
    """One split of a set.

    Attributes:
        labels: (N,), -1 where there is none.
        images: yields the encoded images in order, some at a time.
        title: what a row is called in a message, by its number.
        unlabelled: why it has no labels, where it has none at all; "" otherwise.
        metadata: what else is known of each row, by the name of its column.
    """

    labels: NDArray[np.int64]
    images: Callable[[], Iterator[list[Encoded]]]
    title: Callable[[int], str]
    unlabelled: str = ""
    metadata: Mapping[str, Sequence[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Opened:
    """A set: its splits, and its classes in the order of their labels.

    Attributes:
        where: what it is called in messages.
        notes: what was understood, where it could have been understood otherwise.
    """

    where: str
    parts: dict[str, Part]
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    origin: dict[str, str | None]

    @property
    def carved(self) -> bool:
        """Whether validation has to be taken from train."""
        return "train" in self.parts and "validation" not in self.parts
