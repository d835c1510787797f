"""Queries of a search over texts: no sentence is asked twice, and all rows ask together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from assay.attacks.base import wins
from assay.attacks.text.threat import Words
from assay.core.edits import replaced, words
from assay.core.oracle import Loss


@dataclass
class Row:
    """A text in play.

    Attributes:
        text: the original.
        y: its true class, or its target.
        count: how many words it has.
        changed: by the number of a word, what has taken its place.
        order: the words to go through, the next one last.
        known: what the model has said of each sentence that was asked.
        done: whether the search is over for it.
    """

    text: str
    y: int
    count: int
    changed: dict[int, str] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    known: dict[str, Tensor] = field(default_factory=dict)
    done: bool = False

    @property
    def current(self) -> str:
        """The text as it is now."""
        return self.with_words({})

    def with_words(self, new: dict[int, str]) -> str:
        """Return the text as it is now, with further words replaced."""
        return replaced(self.text, {**self.changed, **new})

    def word(self, place: int) -> str:
        """Return a word of the original."""
        piece = words(self.text)[place]
        return self.text[piece.start : piece.end]


def rows_of(x: list[str], y: Tensor) -> list[Row]:
    """Return the texts as rows in play, nothing of them changed."""
    goals = y.tolist()
    return [Row(text, goal, len(words(text))) for text, goal in zip(x, goals, strict=True)]


def ask(model: Any, rows: list[Row], texts: list[list[str]]) -> Tensor:
    """Ask the model about the sentences (of each row, some) that the row has not asked yet, all of
    them together, and keep the answers in `Row.known`. Return how many each row asked, int64 (n,).

    A row's cache is its own: what another row asked would make its queries depend on the batch.
    """
    new = [
        list(dict.fromkeys(text for text in some if text not in row.known))
        for row, some in zip(rows, texts, strict=True)
    ]
    spent = torch.tensor([len(some) for some in new], dtype=torch.int64)
    every = [text for some in new for text in some]
    if every:
        answers = iter(model.query(every).cpu())
        for row, some in zip(rows, new, strict=True):
            row.known.update((text, next(answers)) for text in some)
    return spent


def told(rows: list[Row], texts: list[str]) -> Tensor:
    """Return what the model has said of one sentence of each row: logits (n, K)."""
    return torch.stack([row.known[text] for row, text in zip(rows, texts, strict=True)])


def judged(
    row: Row, texts: list[str], loss: Loss, targeted: bool
) -> tuple[list[float], list[bool]]:
    """Return the loss of some sentences of a row, and which of them fool the model."""
    answers = torch.stack([row.known[text] for text in texts])
    y = torch.full((len(texts),), row.y)
    high = loss(answers.float(), y).nan_to_num(nan=-torch.inf)
    return high.tolist(), wins(answers, y, targeted).tolist()


def preferred(
    rows: list[Row],
    tried: list[dict[str, tuple[int, str]]],
    threat: Words,
    loss: Loss,
    targeted: bool,
) -> list[tuple[int, str] | None]:
    """Return of each row the change to take, or None where none helps.

    As TextFooler does: of those that fool the model the one whose sentence is most like the
    original, or else the one with the highest loss, if that is above the present one. Sentences are
    encoded in that order until one is similar enough, one of each row and then twice as many.

    Args:
        rows: those in play, whose sentences have been asked.
        tried: of each row, by sentence, the place and the word that make it.
        threat: what holds them.
        loss: what is to rise.
        targeted: whether `Row.y` is a target.
    """
    chosen: list[tuple[int, str] | None] = [None] * len(rows)
    queues: list[list[str]] = []
    winners: list[int] = []
    for row, some in zip(rows, tried, strict=True):
        fooling, better = _in_order(row, list(some), loss, targeted)
        queues.append(fooling + better)
        winners.append(len(fooling))
    together = 1
    open_rows = [k for k, queue in enumerate(queues) if queue]
    while open_rows:
        # all that fool the model are compared; of the rest the first that is allowed is taken
        heads = {k: queues[k][: winners[k] or together] for k in open_rows}
        pairs = [(k, text) for k, some in heads.items() for text in some]
        fits = threat.alike([rows[k].text for k, _ in pairs], [text for _, text in pairs])
        near: dict[int, list[str]] = {k: [] for k in open_rows}
        for (k, text), fit in zip(pairs, fits.tolist(), strict=True):
            if fit:
                near[k].append(text)
        found = {k: some if winners[k] else some[:1] for k, some in near.items() if some}
        nearest = threat.most_alike([rows[k].text for k in found], list(found.values()))
        for k, text in zip(found, nearest, strict=True):
            chosen[k] = tried[k][text]
        for k in open_rows:
            queues[k], winners[k] = queues[k][len(heads[k]) :], 0
        open_rows = [k for k in open_rows if chosen[k] is None and queues[k]]
        together *= 2
    return chosen


def _in_order(
    row: Row, texts: list[str], loss: Loss, targeted: bool
) -> tuple[list[str], list[str]]:
    """Return the sentences that fool the model, and the others that raise the loss, each with the
    highest loss first."""
    if not texts:
        return [], []
    high, won = judged(row, texts, loss, targeted)
    (now,), _ = judged(row, [row.current], loss, targeted)
    ranked = sorted(zip(high, texts, won, strict=True), key=lambda one: -one[0])
    fooling = [text for _, text, win in ranked if win]
    return fooling, [text for value, text, win in ranked if not win and value > now]


def first_alike(queues: list[list[tuple[str, str]]], threat: Words) -> list[int | None]:
    """Return of each queue of (original, sentence) the first that is similar enough, or None; those
    of all queues are encoded together, one of each at a time."""
    found: list[int | None] = [None] * len(queues)
    at = dict.fromkeys((k for k, queue in enumerate(queues) if queue), 0)
    while at:
        pairs = [queues[k][place] for k, place in at.items()]
        alike = threat.alike([x for x, _ in pairs], [adv for _, adv in pairs]).tolist()
        for k, fits in zip(list(at), alike, strict=True):
            if fits:
                found[k] = at.pop(k)
            elif at[k] + 1 == len(queues[k]):
                del at[k]
            else:
                at[k] += 1
    return found
