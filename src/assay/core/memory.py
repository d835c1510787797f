"""Batches that do not fit in memory are halved, and the smaller size is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from assay.errors import AssayError, told

Answer = TypeVar("Answer", Tensor, tuple[Tensor, Tensor])

SAID = ("out of memory", "can't allocate memory", "DefaultCPUAllocator", "not enough memory")
"""What a RuntimeError says when it was memory: torch has a class of its own for CUDA alone."""


@dataclass
class Tally:
    """What a model has answered so far, and how many rows of each kind it has memory for."""

    queries: int = 0
    """Rows that were evaluated."""
    fits: dict[tuple[str, tuple[int, ...]], int] = field(default_factory=dict)
    """By kind of evaluation and shape of a row: rows at a time, once more of them did not fit."""


def in_parts(
    function: Callable[..., Answer],
    rows: int,
    *tensors: Tensor,
    tally: Tally | None = None,
    kind: str = "query",
) -> Answer:
    """Return `function(*tensors)`, computed `rows` rows at a time, or fewer where memory ends.

    A part that does not fit is halved and evaluated again; the rest goes on in the smaller size.

    Args:
        function: takes the same rows of every tensor, and returns a tensor, or a pair of them,
            with one row for each.
        rows: most rows at a time, at least 1.
        tensors: each (N, ...).
        tally: of the model that is evaluated. Its queries are put back after a part that did not
            fit, and the size that fits is kept in it for later calls. None: for this call only.
        kind: what `rows` may differ by, besides the shape of a row: a gradient takes more memory
            than a query.

    Raises:
        AssayError: a single row does not fit; names its shape.
    """
    tally = Tally() if tally is None else tally
    first = tensors[0]
    key = (kind, tuple(first.shape[1:]))
    size = min(rows, tally.fits.get(key, rows))
    parts: list[Answer] = []
    start = 0
    while not parts or start < len(first):  # an empty batch is evaluated too, once
        before = tally.queries
        refused = ""
        try:
            parts.append(function(*(tensor[start : start + size] for tensor in tensors)))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            refused = told(error)[:200]
            if len(first) - start <= 1 or size == 1:
                raise AssayError(
                    f"a single image of shape {key[1]} does not fit in memory ({refused}): take "
                    "smaller images, or a machine or a device with more memory"
                ) from error
        if refused:  # only here has the exception let go of what was computed
            tally.queries = before
            size = max(1, min(size, len(first) - start) // 2)
            tally.fits[key] = size
        else:
            start += size
    return _joined(parts)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` says that memory could not be had, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in SAID)


def _joined(parts: list[Answer]) -> Answer:
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    if len(parts) == 1:
        return parts[0]
    left, right = zip(*parts, strict=True)
    return torch.cat(left), torch.cat(right)
