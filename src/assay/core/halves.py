"""Two halves of some rows: the one to learn from, the other to try it on."""

from __future__ import annotations

import torch
from torch import Tensor

from assay.core.random import Stream


def halves(n: int, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the numbers of the rows of each half, ascending: int64 (⌈n / 2⌉,) and (⌊n / 2⌋,).

    They are drawn, and the draw is always the same. Every other row would not do: where classes
    take turns, each half would have half of the classes.

    Args:
        y: labels int64 (n,); each class is halved by itself, so that both halves have it if there
            are two rows of it. None: the rows are halved as they are.

    >>> one, other = assay.core.halves.halves(6, torch.tensor([0, 1, 0, 1, 0, 1]))
    >>> sorted([*one.tolist(), *other.tolist()])
    [0, 1, 2, 3, 4, 5]
    """
    order = Stream(0).child("halves").rows(torch.arange(n)).integers(2**31 - 1).argsort(stable=True)
    if y is not None:
        order = order[y.cpu()[order].argsort(stable=True)]
    return order[0::2].sort().values, order[1::2].sort().values
