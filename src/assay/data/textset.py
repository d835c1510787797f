"""A set of labelled texts in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from assay.core.random import Stream
from assay.errors import AssayError


@dataclass(frozen=True, eq=False)
class TextSet:
    """Labelled texts in a fixed order; a `core.source.Source`.

    Attributes:
        name, split: what was given to `load_texts`.
        classes: the names of the labels 0 .. K-1.
        texts: as they stand in their file.
        labels: int64 (N,); -1 where there is no label.
        fingerprint: a digest of the content: texts, labels and class names.
        ids: int64 (N,), each row's index in the whole split; a subset keeps them.
        notes: what was understood where a file can be understood in more than one way.
        lengths: how many tokens each text has, for a training that puts those of like length
            together; None: not counted.
        metadata: what else is known of each text, by the name of its column: text, a number, or
            None where it is not known.

    >>> from assay.data.textset import in_memory
    >>> texts = in_memory("mine", "test", ("bad", "good"), ["so so", "fine"], [0, 1])
    >>> [x for _, x, _ in texts.batches(1)]
    [['so so'], ['fine']]
    """

    name: str
    split: str
    classes: tuple[str, ...]
    texts: tuple[str, ...]
    labels: Tensor
    fingerprint: str
    ids: Tensor
    notes: tuple[str, ...] = ()
    lengths: tuple[int, ...] | None = None
    metadata: Mapping[str, Sequence[Any]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def length(self) -> int:
        return len(self.texts)

    def batches(self, size: int) -> Iterator[tuple[Tensor, list[str], Tensor]]:
        """Yield (ids int64 (B,), a list of B texts, y int64 (B,)), in order."""
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            yield self.ids[rows], list(self.texts[rows]), self.labels[rows]

    def take(self, n: int, seed: int = 0) -> tuple[list[str], Tensor]:
        """Return `n` random texts and their labels int64 (n,), the same each time; fewer are the
        beginning of more."""
        chosen = self.sample(n, seed)
        return list(chosen.texts), chosen.labels

    def sample(self, n: int, seed: int = 0) -> TextSet:
        """Return the examples of `take(n, seed)` as a set.

        Raises:
            AssayError: for an `n` below 1.
        """
        if n < 1:
            raise AssayError(f"take at least one text, not {n}")
        keys = Stream(seed).child("take").rows(self.ids).integers(2**31 - 1)
        return self.subset(keys.argsort(stable=True)[:n])

    def subset(self, rows: Tensor | Sequence[int]) -> TextSet:
        """Return the examples at `rows`: positions int64 (n,), or a mask bool (N,).

        Raises:
            AssayError: for positions outside the set.
        """
        index = torch.as_tensor(rows)
        index = index.nonzero()[:, 0] if index.dtype == torch.bool else index.to(torch.int64)
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(self):
            raise AssayError(
                f"rows from {int(index.min())} to {int(index.max())} requested of {self.name} "
                f"({self.split}), which has {len(self)}"
            )
        sha = hashlib.sha256(self.fingerprint.encode())
        sha.update(index.numpy().tobytes())
        places = index.tolist()
        return replace(
            self,
            texts=tuple(self.texts[place] for place in places),
            labels=self.labels[index],
            fingerprint=sha.hexdigest(),
            ids=self.ids[index],
            lengths=None if self.lengths is None else tuple(self.lengths[p] for p in places),
            metadata={
                name: [values[place] for place in places] for name, values in self.metadata.items()
            },
        )

    def __repr__(self) -> str:
        return (
            f"TextSet({self.name!r}, {self.split!r}, {len(self):,} texts, "
            f"{len(self.classes)} classes)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what a record keeps of it: everything but the texts."""
        return {
            "name": self.name,
            "split": self.split,
            "n": len(self),
            "classes": list(self.classes),
            "fingerprint": self.fingerprint,
        }


def in_memory(
    name: str,
    split: str,
    classes: Sequence[str],
    texts: Sequence[str],
    labels: Sequence[int] | Tensor,
    notes: Sequence[str] = (),
    metadata: Mapping[str, Sequence[Any]] | None = None,
) -> TextSet:
    """Return the set of texts that are already there, fingerprinted."""
    y = torch.as_tensor(labels, dtype=torch.int64)
    if y.shape != (len(texts),):
        raise AssayError(f"one label per text: {len(texts)} texts, labels of {tuple(y.shape)}")
    sha = hashlib.sha256(repr((len(texts), tuple(classes))).encode())
    sha.update(y.numpy().tobytes())
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        sha.update(len(content).to_bytes(8, "little"))
        sha.update(content)
    ids = torch.arange(len(texts))
    return TextSet(
        name=name,
        split=split,
        classes=tuple(classes),
        texts=tuple(texts),
        labels=y,
        fingerprint=sha.hexdigest(),
        ids=ids,
        notes=tuple(notes),
        metadata=metadata or {},
    )
