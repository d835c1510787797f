"""A deadline that is kept between any two queries of a search, not only between its steps."""

from __future__ import annotations

import time
from typing import Any, Generic

import torch
from torch import Tensor

from assay.attacks.base import wins
from assay.core.batches import X, copied, joined, parts, rows_at_a_time, take, width
from assay.core.oracle import Encoded
from assay.core.threats import Threat

HELD = 2**24
"""Most numbers of answered candidates that are kept for `Hurried.found`: 64 MiB of float32."""


class TimeUp(Exception):
    """The deadline has passed, and a search has queried on."""


class Hurried(Generic[X]):
    """A model that is queried no more once it is later than `deadline`, by `time.monotonic`.

    It keeps what it has answered since the last yield of the search, so that a step which is broken
    off is not lost.

    Raises:
        TimeUp: instead of a query. A call that was begun is waited for.
    """

    threat: Threat[X]

    def __init__(self, model: Any, deadline: float, threat: Threat[X]) -> None:
        self.model, self.deadline, self.threat = model, deadline, threat
        self._answered: list[tuple[X, Tensor]] = []
        self._room = HELD

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def query(self, x: X) -> Tensor:
        """Return the answer for every row, in the batches that the model would make of them."""
        rows = getattr(self.model, "batch_size", None) or rows_at_a_time(x)
        sizes = [min(rows, len(x) - start) for start in range(0, len(x), rows)]
        answers = []
        for part in parts(x, sizes or [0]):
            answers.append(self._in_time().query(part))
            self._keep(part, answers[-1])
        return torch.cat(answers)

    def logits(self, e: Encoded) -> Tensor:
        logits: Tensor = self._in_time().logits(e)
        if e.mask is None:  # embeddings are no texts
            images: Any = e.values
            self._keep(images, logits)
        return logits

    def forget(self) -> None:
        """Begin another step: what was answered before is the search's own to remember."""
        self._answered.clear()
        self._room = HELD

    def found(self, x: X, goal: Tensor, targeted: bool, won: Tensor) -> tuple[Tensor, X]:
        """Return images for which this step has evaluated a candidate that fools the model, int64
        (m,), each once, and one such candidate of each (m, ...).

        A search does not say whose its candidates are: each is taken for that of the nearest image.
        Where that is wrong a find may be lost, but none is made up, since the runner judges them.

        Args:
            x: (n, ...), the inputs in play.
            goal: (n,), the true classes, or the targets if `targeted`.
            won: bool (n,), the images that need none.
        """
        owners, candidates = [], []
        for queried, answer in self._answered:
            own = self.threat.nearest(x, queried)
            new = wins(answer.to(goal.device), goal[own], targeted) & ~won[own]
            owners.append(own[new])
            candidates.append(take(queried, new.nonzero()[:, 0]))
        if not owners:
            return goal.new_empty(0), take(x, goal.new_empty(0))
        every = torch.cat(owners)
        rows, group = torch.unique(every, return_inverse=True)
        places = torch.arange(len(every), device=every.device)
        any_of = torch.empty_like(rows).scatter_(0, group, places)
        return rows, take(joined(candidates), any_of)

    def _in_time(self) -> Any:
        if time.monotonic() >= self.deadline:
            raise TimeUp
        return self.model

    def _keep(self, queried: X, answer: Tensor) -> None:
        self._room -= len(queried) * width(queried)
        if self._room >= 0:
            self._answered.append((copied(queried), answer.detach()))
