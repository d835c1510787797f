"""Catastrophic overfitting, noticed: one step no longer fools the network, several do."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from assay.core.classifier import Classifier
from assay.core.random import Rows, Stream
from assay.core.source import Source
from assay.train.history import History
from assay.train.recipe import Guard
from assay.train.watch import rows_of

AT_A_TIME = 128


class Adversary(Protocol):
    """What attacks the training images: an attack's `perturb`, its threat and loss filled in.

    What it holds from batch to batch it holds for an epoch, or a look of a guard: each is given a
    shallow copy of it, as it was in the beginning.
    """

    def __call__(self, model: Classifier, x: Tensor, y: Tensor, *, rng: Rows) -> Tensor: ...


@dataclass(frozen=True)
class Rivals:
    """The attacks that a guard looks at a training with.

    Attributes:
        fast: one step.
        strong: several steps within the same budget.
        gentler: what training goes on against after collapses, by a factor in (0, 1] that halves
            at each: its own adversary with its step multiplied by that, or one that does not
            collapse.
    """

    fast: Adversary
    strong: Adversary
    gentler: Callable[[float], Adversary]


class Watchman:
    """Looks at one training, and says when it has collapsed.

    Args:
        config: when to look, and what a collapse is.
        rivals: what to look with.
        classifier: the network in training.
        validation: where the images come from.
        stream: where the attacks draw from; the same draws at every look.
    """

    def __init__(
        self,
        config: Guard,
        rivals: Rivals,
        classifier: Classifier,
        validation: Source,
        stream: Stream,
    ) -> None:
        self.config = config
        self.rivals = rivals
        self.classifier = classifier
        self.x, self.y = rows_of(validation, config.images)
        self.stream = stream
        self.best = (0.0, 0.0)
        """Accuracy under one step and under several, when the latter was highest."""

    def due(self, step: int, steps: int | None) -> bool:
        """Return whether to look after the step with this number, from 1; the look at the end of an
        epoch is not among them."""
        if steps is None or step >= steps:
            return False
        places = {round(steps * look / self.config.looks) for look in range(1, self.config.looks)}
        return step in places

    def look(self, history: History, epoch: int) -> str:
        """Look, and note it in the history; return what is to be said of a collapse after which
        training is to go back, otherwise nothing."""
        fast, strong = self._accuracy(self.rivals.fast), self.robust()
        history.fast_looks.append(fast)
        history.strong_looks.append(strong)
        if not self.collapsed(fast, strong):
            return ""
        said = told(epoch, fast, strong, self.best[1])
        if self.config.response == "return":
            return said
        history.collapses.append(said)
        return ""

    def sound(self, history: History) -> bool:
        """Return whether the network remained as robust at the last look as a collapse allows: the
        accuracy under several steps may fall a look or two before that under one step rises."""
        if not history.strong_looks:
            return True
        return history.strong_looks[-1] >= self.config.fall * self.best[1]

    def softened(self, adversary: Adversary | None, history: History) -> Adversary | None:
        """Return what training goes on against after the collapses so far: its adversary, where
        there was none."""
        if not history.collapses or self.config.response == "note":
            return adversary
        return self.rivals.gentler(0.5 ** len(history.collapses))

    def robust(self) -> float:
        """Return the accuracy under several steps, of the network as it is."""
        return self._accuracy(self.rivals.strong)

    def collapsed(self, fast: float, strong: float) -> bool:
        """Return whether these accuracies are those of a collapse; otherwise remember the best."""
        once, most = self.best
        if strong < self.config.fall * most and fast - strong > once - most + self.config.gap:
            return True
        if strong > most:
            self.best = (fast, strong)
        return False

    def _accuracy(self, rival: Adversary) -> float:
        correct, rival = 0, copy.copy(rival)
        with self.classifier.borrowed():
            draws = self.stream.rows(range(len(self.y)))
            for rows in torch.split(torch.arange(len(self.y)), AT_A_TIME):
                x, y = self.x[rows].to(self.classifier.device), self.y[rows]
                moved = rival(self.classifier, x, y.to(x.device), rng=draws[rows].to(x.device))
                correct += int((self.classifier.predict(moved).cpu() == y).sum())
        return correct / len(self.y)


def told(epoch: int, fast: float, strong: float, best: float) -> str:
    """Return what is said of a collapse."""
    return (
        f"epoch {epoch}: catastrophic overfitting: {fast:.0%} of the validation images remain "
        f"right under one step, {strong:.0%} under several (at best {best:.0%})"
    )
