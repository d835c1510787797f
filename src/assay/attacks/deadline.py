"""A deadline that is met between any two questions of a search, not only between its steps."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from assay.attacks.base import wins
from assay.core.classifier import rows_that_fit
from assay.core.oracle import Encoded

HELD = 2**24
"""Most numbers of answered candidates that are kept for `Hurried.found`: 64 MiB of float32."""


class TimeUp(Exception):
    """The deadline has passed, and a search has asked on."""


class Hurried:
    """A model that is asked nothing more once it is later than `deadline`, by `time.monotonic`.

    It keeps what it has answered since the last yield of the search, so that a step which is broken
    off is not lost.

    Raises:
        TimeUp: instead of asking. A call that was begun is waited for.
    """

    def __init__(self, model: Any, deadline: float) -> None:
        self.model, self.deadline = model, deadline
        self._answered: list[tuple[Tensor, Tensor]] = []
        self._room = HELD

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def query(self, x: Tensor) -> Tensor:
        """Return the answer for every row, asked in the parts that the model would make of them."""
        rows = getattr(self.model, "batch_size", None) or rows_that_fit(x)
        answers = []
        for part in torch.split(x, rows):
            answers.append(self._in_time().query(part))
            self._keep(part, answers[-1])
        return torch.cat(answers)

    def logits(self, e: Encoded) -> Tensor:
        logits: Tensor = self._in_time().logits(e)
        self._keep(e.values, logits)
        return logits

    def forget(self) -> None:
        """Begin another step: what was answered before is the search's own to remember."""
        self._answered.clear()
        self._room = HELD

    def found(self, x: Tensor, goal: Tensor, targeted: bool, won: Tensor) -> tuple[Tensor, Tensor]:
        """Return images for which this step has asked about a candidate that fools the model, int64
        (m,), each once, and one such candidate of each (m, C, H, W).

        A search does not say whose its candidates are: each is taken for that of the nearest image.
        Where that is wrong a find may be lost, but none is made up, since the runner judges them.

        Args:
            x: (n, C, H, W), the images in play.
            goal: (n,), the labels to leave, or to reach if `targeted`.
            won: bool (n,), the images that need none.
        """
        owners, candidates = [], []
        for asked, answer in self._answered:
            own = torch.cdist(asked.flatten(1), x.flatten(1)).argmin(1)
            new = wins(answer.to(goal.device), goal[own], targeted) & ~won[own]
            owners.append(own[new])
            candidates.append(asked[new])
        if not owners:
            return goal.new_empty(0), x[:0]
        every = torch.cat(owners)
        rows, group = torch.unique(every, return_inverse=True)
        places = torch.arange(len(every), device=every.device)
        any_of = torch.empty_like(rows).scatter_(0, group, places)
        return rows, torch.cat(candidates)[any_of]

    def _in_time(self) -> Any:
        if time.monotonic() >= self.deadline:
            raise TimeUp
        return self.model

    def _keep(self, asked: Tensor, answer: Tensor) -> None:
        self._room -= asked.numel()
        if self._room >= 0:
            self._answered.append((asked.detach().clone(), answer.detach()))
