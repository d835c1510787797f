"""Training batches in an order that depends on the stream and the epoch alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from assay.core.random import Stream
from assay.core.source import Source, TensorSource
from assay.core.texts import TextClassifier
from assay.data.dataset import Dataset
from assay.data.textset import TextSet

Batch = tuple[Tensor, Any, Tensor]
"""ids int64 (B,), x uint8 or float32 in [0, 1] (B, C, H, W) or B texts, y int64 (B,)."""

BUFFER = 64
"""Batches among which a source that is not in memory is shuffled."""


def batches(source: Source, size: int, stream: Stream) -> Iterator[Batch]:
    """Yield every row of `source` once, shuffled by `stream`, `size` rows at a time.

    A source in memory is permuted as a whole, and its pixels stay as they are stored (uint8 or
    float32). Texts are sorted by length, those as long as each other in a new order each time, and
    the order of the batches is new. Any other source is read in its order, and shuffled within a
    buffer of 64 batches. A last batch of a single row joins the one before it: batch norm has no
    variance of one row.
    """
    if isinstance(source, TextSet):
        yield from _texts(source, size, stream)
        return
    held = in_memory(source)
    if held is None:
        yield from _shuffled(source, size, stream)
        return
    ids, x, y = held
    order = torch.randperm(len(ids), generator=stream.torch())
    for rows in _split(order, size):
        # index_select copies whole rows; indexing walks single uint8 elements, 20 times as slow
        yield ids[rows], x.index_select(0, rows), y[rows]


def steps_per_epoch(source: Source, size: int, accumulate: int) -> int | None:
    """Return how many optimizer steps an epoch takes; None where only a full pass would tell."""
    if isinstance(source, TextSet):
        return -(-len(_split(torch.arange(len(source)), size)) // accumulate)
    if in_memory(source) is None or source.length is None:
        return None
    return -(-len(_split(torch.arange(source.length), size)) // accumulate)


def measured(classifier: TextClassifier, source: Source) -> Source:
    """Return a set of texts with the lengths that they have for a model; others as they are."""
    if not isinstance(source, TextSet) or source.lengths is not None:
        return source
    lengths = tuple(classifier.tokens(list(source.texts)).lengths)
    return replace(source, lengths=lengths)


def _texts(source: TextSet, size: int, stream: Stream) -> Iterator[Batch]:
    """Yield texts with those of like length: of 32 movie reviews together 2 % is padding."""
    generator = stream.torch()
    lengths = source.lengths or [len(text) for text in source.texts]
    order = torch.randperm(len(source), generator=generator)
    order = order[torch.tensor(lengths)[order].argsort(stable=True)]
    parts = _split(order, size)
    for place in torch.randperm(len(parts), generator=generator).tolist():
        rows = parts[place]
        yield source.ids[rows], [source.texts[row] for row in rows.tolist()], source.labels[rows]


def in_memory(source: Source) -> Batch | None:
    """Return a source's rows where they are tensors already, otherwise None."""
    if isinstance(source, TensorSource) and source.y is not None:
        return torch.arange(len(source.x)), source.x, source.y
    if isinstance(source, Dataset):
        return source.ids, source.images, source.labels
    return None


def grouped(source: Iterator[Batch], count: int) -> Iterator[list[Batch]]:
    """Yield lists of `count` batches, the last one maybe shorter."""
    while group := list(islice(source, count)):
        yield group


def _split(order: Tensor, size: int) -> list[Tensor]:
    parts = list(torch.split(order, size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        last = parts.pop()
        parts[-1] = torch.cat([parts[-1], last])
    return parts


def _shuffled(source: Source, size: int, stream: Stream) -> Iterator[Batch]:
    generator = stream.torch()
    reader = source.batches(size)
    ahead = list(islice(reader, 1))
    while ahead:
        buffer = ahead + list(islice(reader, BUFFER - 1))
        ahead = list(islice(reader, 1))
        if ahead and len(ahead[0][0]) == 1:  # the very last row
            buffer, ahead = buffer + ahead, []
        ids, x, y = (torch.cat(parts) for parts in zip(*buffer, strict=True))
        del buffer  # otherwise every image of it is held twice
        for rows in _split(torch.randperm(len(ids), generator=generator), size):
            yield ids[rows], x[rows], y[rows]
