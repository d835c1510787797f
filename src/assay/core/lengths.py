"""Texts of like length together: a batch is padded to its longest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def by_length(lengths: Sequence[int], tokens: int, rows: int | None = None) -> Iterator[Tensor]:
    """Yield the places of all texts, int64 (n,), the longest first, as many at a time as `tokens`
    with padding allow, and at most `rows`; one text at least.

    >>> from assay.core.lengths import by_length
    >>> [part.tolist() for part in by_length([3, 9, 4, 2], tokens=9)]
    [[1], [2, 0], [3]]
    """
    order = torch.tensor(lengths, dtype=torch.int64).argsort(descending=True, stable=True)
    start = 0
    while start < len(order):
        longest = max(1, lengths[int(order[start])])
        size = max(1, tokens // longest if rows is None else min(rows, tokens // longest))
        yield order[start : start + size]
        start += size


def padded(ids: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Return ids int64 (N, T), T that of the longest, and where there is a token, bool (N, T).

    >>> from assay.core.lengths import padded
    >>> padded([[5, 6], [7]], pad=0)[0].tolist()
    [[5, 6], [7, 0]]
    """
    longest = max((len(row) for row in ids), default=0)
    filled = torch.tensor(
        [[*row, *[pad] * (longest - len(row))] for row in ids], dtype=torch.int64
    ).reshape(len(ids), longest)
    counts = torch.tensor([len(row) for row in ids], dtype=torch.int64)
    return filled, torch.arange(longest) < counts[:, None]


def padding_share(lengths: Sequence[int], parts: Sequence[Tensor]) -> float:
    """Return how much of what is evaluated is padding, in [0, 1), where texts of these lengths are
    evaluated in these parts."""
    whole = sum(len(part) * max(lengths[row] for row in part.tolist()) for part in parts)
    return 1 - sum(lengths) / whole if whole else 0.0
