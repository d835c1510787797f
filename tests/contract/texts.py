"""A toy model of texts, a threat and an attack: the contracts of images, with lists of strings.

Checked by mypy like the source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from assay.attacks.base import Attack, Iterate, Search, only
from assay.attacks.runner import run
from assay.core.oracle import Access, Loss
from assay.core.random import Rows
from assay.core.threats import Threat

SENTENCES = [
    "a good and moving film",
    "bad",
    "the plot is bad but the acting is good",
    "good good good",
    "nothing happens at all",
    "a bad , bad film",
]


class WordCounter:
    """A black box over sentences that answers with scores: how good against how bad."""

    classes = ("negative", "positive")
    access: Access = "scores"

    def __init__(self) -> None:
        self.queries = 0

    def query(self, x: list[str]) -> Tensor:
        self.queries += len(x)
        balance = torch.tensor([float(s.count("good") - s.count("bad")) for s in x])
        return torch.stack([-balance, balance], 1).softmax(1).reshape(-1, 2)


class Edits(Threat[list[str]]):
    """Texts of the same length, of which at most `most` characters differ."""

    most: PositiveInt = 2
    """Characters."""

    def distance(self, x: list[str], adv: list[str]) -> Tensor:
        def differing(a: str, b: str) -> float:
            return sum(p != q for p, q in zip(a, b, strict=True)) if len(a) == len(b) else torch.inf

        return torch.tensor([float(differing(a, b)) for a, b in zip(x, adv, strict=True)])

    def contains(self, x: list[str], adv: list[str]) -> Tensor:
        return self.distance(x, adv) <= self.most


class Swaps(Attack[list[str], Edits]):
    """Exchanges two neighbouring characters at a random place, and keeps what raises the loss."""

    needs: ClassVar[Access] = "scores"

    name: Literal["swaps"] = "swaps"
    most: PositiveInt = 2
    """Characters that may differ."""
    steps: PositiveInt = 30
    restarts: PositiveInt = 1

    @property
    def threat(self) -> Edits:
        return Edits(most=self.most)

    @property
    def starts(self) -> int:
        return self.restarts

    def search(
        self,
        model: Any,
        x: list[str],
        y: Tensor,
        *,
        threat: Edits,
        loss: Loss,
        targeted: bool,
        rng: Rows,
    ) -> Search[list[str]]:
        del targeted  # the loss says it
        best, highest = x, torch.full((len(x),), -torch.inf)
        tried = x
        for left in reversed(range(self.steps + 1)):
            logits = model.query(tried)
            value = loss(logits, y)
            better = value > highest
            best = [new if up else old for new, old, up in zip(tried, best, better, strict=True)]
            highest = torch.maximum(value, highest)
            keep = yield Iterate(tried, logits, ahead=1 if left else 0)
            x, y, rng, best, highest = only(keep, x, y, rng, best, highest)
            places = rng.uniform().tolist()
            swapped = [exchanged(text, place) for text, place in zip(best, places, strict=True)]
            inside = threat.contains(x, swapped).tolist()
            tried = [new if ok else old for new, old, ok in zip(swapped, best, inside, strict=True)]
        yield Iterate(best, spent=0)


def exchanged(text: str, place: float) -> str:
    """Return the text with the two characters exchanged that stand at `place` in [0, 1)."""
    at = int(place * (len(text) - 1))
    return text[:at] + text[at : at + 2][::-1] + text[at + 2 :]


if TYPE_CHECKING:
    # What does not fit must not pass the check of types: there each `ignore` is then an error.
    from assay.attacks.methods.pgd import PGD

    IMAGES, COUNTER = torch.zeros(1, 3, 8, 8), WordCounter()
    run(PGD(), COUNTER, SENTENCES)  # type: ignore[misc]
    run(Swaps(), COUNTER, IMAGES)  # type: ignore[misc]
    LENGTH: str = run(Swaps(), COUNTER, SENTENCES).adversarial[0]
    MOST: int = run(Swaps(), COUNTER, SENTENCES).threat.most
