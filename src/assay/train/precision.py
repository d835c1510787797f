"""How numbers are computed with: precision, memory format, threads, repeatable kernels, memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from assay.core.heap import kept

FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


def precise(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return the autocast context of a recipe's precision."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


@contextmanager
def computing(threads: int) -> Iterator[None]:
    """Compute with so many threads, cuDNN's repeatable kernels, and memory that stays with the
    process; put all back after."""
    before = torch.get_num_threads()
    cudnn = torch.backends.cudnn
    repeatable, searching = cudnn.deterministic, cudnn.benchmark
    torch.set_num_threads(threads)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        with kept():
            yield
    finally:
        torch.set_num_threads(before)
        cudnn.deterministic, cudnn.benchmark = repeatable, searching
