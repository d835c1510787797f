"""Sources: what a data set is to everything that reads one.

A tensor in memory is one case; a memory map, or shards that do not fit in memory, are others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from assay.errors import AssayError


class Source(Protocol):
    """Examples in a fixed order. `ids` are stable: they key the random draws of each example."""

    @property
    def length(self) -> int | None:
        """How many examples there are; None where only a full pass would tell."""
        ...

    @property
    def fingerprint(self) -> str:
        """A digest of the content: equal fingerprints mean equal examples in equal order."""
        ...

    def batches(self, size: int) -> Iterator[tuple[Tensor, Any, Tensor]]:
        """Yield (ids (B,) int64, x: float32 (B, C, H, W) in [0, 1] or a list of str, y (B,))."""
        ...


def as_bytes(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor, without copying those of one on the CPU."""
    flat = tensor.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().data


@dataclass(frozen=True, eq=False)
class TensorSource:
    """A source held in memory: `x` float32 (N, C, H, W) in [0, 1], `y` int64 (N,) or None."""

    x: Tensor
    y: Tensor | None = None
    classes: tuple[str, ...] = ()
    _cache: dict[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.y is not None and self.y.shape != (len(self.x),):
            raise AssayError(
                f"one label per image: {len(self.x)} images, labels of shape {tuple(self.y.shape)}"
            )

    @property
    def length(self) -> int:
        return len(self.x)

    @property
    def fingerprint(self) -> str:
        if "fingerprint" not in self._cache:
            sha = hashlib.sha256(str((tuple(self.x.shape), self.x.dtype)).encode())
            for part in (self.x, self.y):
                if part is not None:
                    sha.update(as_bytes(part))
            self._cache["fingerprint"] = sha.hexdigest()
        return self._cache["fingerprint"]

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        y = self.y if self.y is not None else torch.full((len(self.x),), -1)
        for start in range(0, len(self.x), size):
            ids = torch.arange(start, min(start + size, len(self.x)))
            yield ids, self.x[start : start + size], y[start : start + size]


@dataclass(frozen=True, eq=False)
class Part:
    """Some examples of another source, in the order of their places there."""

    whole: Source
    places: tuple[int, ...]
    """Rising numbers, from 0."""

    def __post_init__(self) -> None:
        if any(a >= b for a, b in pairwise(self.places)):
            raise AssayError("a part of a source keeps its order, and has each example once")

    @property
    def length(self) -> int:
        return len(self.places)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.whole.fingerprint} {self.places}".encode()).hexdigest()

    def batches(self, size: int) -> Iterator[tuple[Tensor, Any, Tensor]]:
        places, start = torch.tensor(self.places), 0
        for ids, x, y in self.whole.batches(size):
            here = places[(places >= start) & (places < start + len(ids))] - start
            start += len(ids)
            if len(here):
                some = [x[place] for place in here.tolist()] if isinstance(x, list) else x[here]
                yield ids[here], some, y[here]
