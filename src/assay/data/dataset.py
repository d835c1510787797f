"""An image set in memory, or mapped into it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from assay.core.random import Stream
from assay.errors import AssayError


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images in a fixed order; a `core.source.Source`.

    Attributes:
        name, split: what was given to `load_data`.
        classes: the names of the labels 0 .. K-1.
        images: uint8 (N, C, H, W), C = 1 or 3; mapped from the cache, not read, where it is large.
        labels: int64 (N,); -1 where there is no label (noise).
        fingerprint: a digest of the content: pixels, labels and class names.
        ids: int64 (N,), each row's index in the whole split; a subset keeps them, so that random
            draws keyed by them stay those of the same image.
        masks: bool (N, H, W), the pixels of the object, where they are known; otherwise None.
        notes: what was understood where a folder can be understood in more than one way, what was
            held out, scaled or not read; each a line to show the user.
        metadata: what else is known of each image, by the name of its column: text, a number, or
            None where it is not known.

    >>> data = assay.load_data("digits", split="test")
    >>> images, labels = data.take(5)
    >>> images.shape, len(data.classes)
    (torch.Size([5, 1, 28, 28]), 10)
    """

    name: str
    split: str
    classes: tuple[str, ...]
    images: Tensor
    labels: Tensor
    fingerprint: str
    ids: Tensor
    masks: Tensor | None = None
    notes: tuple[str, ...] = ()
    metadata: Mapping[str, Sequence[Any]] = field(default_factory=dict, repr=False)
    _moments: tuple[tuple[float, ...], tuple[float, ...]] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def length(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def mean(self) -> tuple[float, ...]:
        """The mean of each channel over these images, in [0, 1]."""
        return self._channels[0]

    @property
    def std(self) -> tuple[float, ...]:
        """The standard deviation of each channel over all pixels of these images, in [0, 0.5]."""
        return self._channels[1]

    @cached_property
    def _channels(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self._moments if self._moments is not None else channel_moments(self.images)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield (ids int64 (B,), x float32 (B, C, H, W) in [0, 1], y int64 (B,)), in order."""
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            yield self.ids[rows], to_float(self.images[rows]), self.labels[rows]

    def take(self, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Return `n` random examples: x float32 (n, C, H, W) in [0, 1], y int64 (n,).

        The same `n` and `seed` give the same examples, and fewer are the beginning of more:
        `take(100)` is the first 100 of `take(1000)`. More than there are gives all.

        Raises:
            AssayError: for an `n` below 1.
        """
        chosen = self.sample(n, seed)
        return to_float(chosen.images), chosen.labels

    def sample(self, n: int, seed: int = 0) -> Dataset:
        """Return the examples of `take(n, seed)` as a data set."""
        if n < 1:
            raise AssayError(f"take at least one image, not {n}")
        return self.subset(drawn(self.ids, seed)[:n])

    def subset(self, rows: Tensor | Sequence[int]) -> Dataset:
        """Return the examples at `rows`: positions int64 (n,), or a mask bool (N,).

        Raises:
            AssayError: for positions outside the set.
        """
        index = torch.as_tensor(rows)
        if index.dtype == torch.bool:
            index = index.nonzero()[:, 0]
        index = index.to(torch.int64)
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(self):
            raise AssayError(
                f"rows from {int(index.min())} to {int(index.max())} requested of {self.name} "
                f"({self.split}), which has {len(self)}"
            )
        sha = hashlib.sha256(self.fingerprint.encode())
        sha.update(index.numpy().tobytes())
        return Dataset(
            name=self.name,
            split=self.split,
            classes=self.classes,
            images=self.images[index],
            labels=self.labels[index],
            fingerprint=sha.hexdigest(),
            ids=self.ids[index],
            masks=None if self.masks is None else self.masks[index],
            notes=self.notes,
            metadata={
                name: [values[row] for row in index.tolist()]
                for name, values in self.metadata.items()
            },
        )

    def without(self, classes: Sequence[int]) -> Dataset:
        """Return the examples of all other classes, whose labels are numbered anew, in their order.

        Raises:
            AssayError: for a class that there is not, or when none would be left.

        >>> digits = assay.load_data("digits").without([0, 9])
        >>> digits.classes
        ('1', '2', '3', '4', '5', '6', '7', '8')
        >>> sorted(set(digits.labels.tolist()))
        [0, 1, 2, 3, 4, 5, 6, 7]
        """
        out = sorted(set(classes))
        if out and not 0 <= out[0] <= out[-1] < len(self.classes):
            raise AssayError(
                f"classes {out} to be left out of {self.name}, which has {len(self.classes)}, "
                f"0 to {len(self.classes) - 1}"
            )
        left = [label for label in range(len(self.classes)) if label not in out]
        if not left:
            raise AssayError(f"no class of {self.name} would be left without {out}")
        anew = torch.full((len(self.classes),), -1)
        anew[left] = torch.arange(len(left))
        rest = self.subset((anew[self.labels] >= 0) & (self.labels >= 0))
        return replace(
            rest,
            classes=tuple(self.classes[label] for label in left),
            labels=anew[rest.labels],
            fingerprint=hashlib.sha256(f"{rest.fingerprint} without {out}".encode()).hexdigest(),
        )

    def __repr__(self) -> str:
        channels, height, width = self.shape
        return (
            f"Dataset({self.name!r}, {self.split!r}, {len(self)} images of "
            f"{channels}×{height}×{width}, {len(self.classes)} classes)"
        )

    def _repr_html_(self) -> str:
        from html import escape

        from assay.report.pictures import pixels, png

        tiles = []
        if len(self):
            shown = self.sample(8)
            for image, label in zip(to_float(shown.images), shown.labels.tolist(), strict=True):
                name = escape(self.classes[label]) if label >= 0 else ""
                tiles.append(
                    f'<figure style="display:inline-block;margin:4px;text-align:center">'
                    f'<img src="{png(pixels(image))}" alt="{name}" height="64" '
                    f'style="image-rendering:pixelated"><figcaption>{name}</figcaption></figure>'
                )
        return f"<p>{escape(repr(self))}</p>{''.join(tiles)}"

    def to_dict(self) -> dict[str, Any]:
        """Return what a record keeps of it: everything but the arrays."""
        return {
            "name": self.name,
            "split": self.split,
            "n": len(self),
            "shape": list(self.shape),
            "classes": list(self.classes),
            "fingerprint": self.fingerprint,
            "mean": list(self.mean),
            "std": list(self.std),
        }


def drawn(ids: Tensor, seed: int = 0) -> Tensor:
    """Return the order that examples are drawn in: places int64 (N,) in `ids` (N,)."""
    return Stream(seed).child("take").rows(ids).integers(2**31 - 1).argsort(stable=True)


def to_float(images: Tensor) -> Tensor:
    """Return uint8 grey levels as float32 in [0, 1]."""
    return images.to(torch.float32).div_(255)


def content_digest(images: Tensor, labels: Tensor, classes: Sequence[str]) -> str:
    """Return the fingerprint of an image set: SHA-256 over pixels, labels and class names."""
    sha = hashlib.sha256(repr((tuple(images.shape), tuple(classes))).encode())
    sha.update(labels.numpy().tobytes())
    for start in range(0, len(images), 4096):
        sha.update(images[start : start + 4096].contiguous().numpy().data)
    return sha.hexdigest()


def channel_moments(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel, in units of [0, 1].

    They come from whole-number counts of the 256 grey levels, so they are exact and do not depend
    on the order of summation.
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in range(images.shape[1]):
        counts = torch.zeros(256, dtype=torch.int64)
        for start in range(0, len(images), 4096):
            counts += torch.bincount(images[start : start + 4096, channel].flatten(), minlength=256)
        share = counts.double() / counts.sum()
        mean = float((share * levels).sum())
        means.append(mean)
        stds.append(float((share * (levels - mean) ** 2).sum()) ** 0.5)
    return tuple(means), tuple(stds)


def in_memory(
    name: str,
    split: str,
    classes: Sequence[str],
    images: Tensor,
    labels: Tensor,
    masks: Tensor | None = None,
) -> Dataset:
    """Return the data set of tensors that are already there, fingerprinted."""
    return Dataset(
        name=name,
        split=split,
        classes=tuple(classes),
        images=images,
        labels=labels,
        fingerprint=content_digest(images, labels, classes),
        ids=torch.arange(len(images)),
        masks=masks,
    )
