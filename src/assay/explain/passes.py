"""Passes through a model that are made as fast as its processor allows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from assay.core.classifier import Classifier
from assay.core.oracle import Encoded
from assay.errors import AssayError

COMPILES = ("torch._dynamo", "torch.nn.attention.flex_attention")
"""Modules without which nothing is compiled; they are slow to load."""


@contextmanager
def eagerly() -> Iterator[None]:
    """Run what is compiled as it was written, in the block.

    A compiled model would be compiled anew for every hook and every size of batch: Dynamo has a
    limit to that, at which a model of one graph (`fullgraph`) raises, as it does for a hook that
    starts a graph of gradients.
    """
    if not any(name in sys.modules for name in COMPILES):
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def rows_at_once(clf: Classifier, x: Tensor) -> int:
    """Return how many rows of `x` to run at a time, where no batch size is given.

    On a processor it is a quarter of what a classifier takes for its queries, 64 CIFAR images: a
    pass that keeps activations, or follows another at once, is then up to 1.6 times as fast, since
    they stay in the cache.
    """
    rows = clf.rows_per_batch(x)
    return rows if clf.batch_size or clf.device.type != "cpu" else max(8, rows // 4)


def quick_logits(clf: Classifier) -> Callable[[Tensor], Tensor]:
    """Return `clf.logits` as a function of images that lays their channels last in memory.

    Convolutions on a processor are then 1.2 times as fast, and the same to rounding. A model that
    refuses such images, by a `view` say, gets them as they are from then on.
    """
    takes = clf.device.type == "cpu"

    def logits(x: Tensor) -> Tensor:
        nonlocal takes
        before = clf.tally.queries
        if takes:
            try:
                return clf.logits(Encoded(x.contiguous(memory_format=torch.channels_last)))
            except AssayError:
                takes = False
                clf.tally.queries = before
        return clf.logits(Encoded(x))

    return logits
