"""A deadline that is met between any two questions of a search, not only between its steps."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from assay.core.classifier import rows_that_fit
from assay.core.oracle import Encoded


class TimeUp(Exception):
    """The deadline has passed, and a search has asked on."""


class Hurried:
    """A model that is asked nothing more once it is later than `deadline`, by `time.monotonic`.

    Raises:
        TimeUp: instead of asking. A call that was begun is waited for.
    """

    def __init__(self, model: Any, deadline: float) -> None:
        self.model, self.deadline = model, deadline

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def query(self, x: Tensor) -> Tensor:
        """Return the answer for every row, asked in the parts that the model would make of them."""
        rows = getattr(self.model, "batch_size", None) or rows_that_fit(x)
        return torch.cat([self._in_time().query(part) for part in torch.split(x, rows)])

    def logits(self, e: Encoded) -> Tensor:
        logits: Tensor = self._in_time().logits(e)
        return logits

    def _in_time(self) -> Any:
        if time.monotonic() >= self.deadline:
            raise TimeUp
        return self.model
