"""The order of examples: where it goes by class, they are drawn, as the commands draw theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from assay import stats
from assay.data.dataset import Dataset, drawn, to_float
from assay.data.textset import TextSet


@dataclass(frozen=True)
class Examples:
    """What is known of some examples, in one order.

    Attributes:
        x: images (N, C, H, W), or texts.
        y: their labels int64 (N,).
        masks: bool (N, H, W), where the object of each is, if that is known.
        metadata: what else is known of each, by the name of its column.
        rows: int64 (N,), where each stood in what was given; None: here.
    """

    x: Any
    y: Tensor
    masks: Tensor | None = None
    metadata: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    rows: Tensor | None = None

    @classmethod
    def of(cls, data: Dataset | TextSet) -> Self:
        """Return all that a set knows of its examples; images as float32 in [0, 1]."""
        if isinstance(data, TextSet):
            return cls(list(data.texts), data.labels, metadata=data.metadata)
        return cls(to_float(data.images), data.labels, data.masks, data.metadata)

    def mixed(self) -> Self:
        """Return the same, drawn by seed 0 where they come in an order that goes by class.

        Sections take the first examples, which then would be of the first classes alone. An order
        that says nothing of the classes is kept; and so is whatever does not fit together, which
        is refused later on.
        """
        fits = self.y.ndim == 1 and all(len(one) == len(self.x) for one in self._parts())
        if not fits or not stats.by_class(self.y.cpu().numpy()):
            return self
        return self._at(rows := drawn(torch.arange(len(self.x))), rows)

    def first(self, count: int) -> Self:
        """Return the first of them."""
        if count >= len(self.x):
            return self
        kept = torch.arange(count)
        return self._at(kept, None if self.rows is None else self.rows[kept])

    def _parts(self) -> list[Any]:
        masks = [] if self.masks is None else [self.masks]
        return [self.y, *masks, *self.metadata.values()]

    def _at(self, places: Tensor, rows: Tensor | None) -> Self:
        some = places.tolist()
        return type(self)(
            self.x[places] if isinstance(self.x, Tensor) else [self.x[k] for k in some],
            self.y[places],
            None if self.masks is None else self.masks[places],
            {name: [values[k] for k in some] for name, values in self.metadata.items()},
            rows,
        )
