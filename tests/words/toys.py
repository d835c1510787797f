"""A differentiable toy of texts, a toy sentence encoder and toy word vectors."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from assay.attacks.text.offers import Vectors, offer
from assay.core.edits import pieces
from assay.core.oracle import Access, Encoded, Loss, labels

LEXICON = {
    "good": 2.0,
    "fine": 0.7,
    "great": 2.5,
    "decent": -0.4,
    "moving": 1.0,
    "touching": 0.2,
    "bad": -2.0,
    "poor": -0.7,
    "weak": 0.3,
    "awful": -2.5,
    "film": 0.1,
    "movie": -0.1,
    "picture": 0.0,
}
"""How much each word speaks for the class "positive"; any other word says nothing."""
SENTENCES = [
    "a good and moving film",
    "the plot is bad but the movie is moving",
    "an awful movie",
    "a great picture ; a great film",
    "good",
    "nothing happens at all",
]
LABELS = torch.tensor([1, 0, 0, 1, 1, 0])


class Lexicon:
    """Sums what the words of a text say; its embeddings have two values: the word's own, and its
    length. Negative and positive are (-s, s), and nothing is a little negative."""

    classes = ("negative", "positive")
    access: Access = "gradient"

    def __init__(self) -> None:
        self.queries = 0
        self.calls: list[int] = []

    def encode(self, x: list[str]) -> Encoded:
        spans = [[(p.start, p.end) for p in pieces(text)] for text in x]
        longest = max([1, *map(len, spans)])
        values, mask = torch.zeros(len(x), longest, 2), torch.zeros(len(x), longest).bool()
        for n, (text, own) in enumerate(zip(x, spans, strict=True)):
            for k, (start, end) in enumerate(own):
                values[n, k] = torch.tensor([LEXICON.get(text[start:end], 0.0), float(end - start)])
                mask[n, k] = True
        return Encoded(values, mask, tuple(tuple(own) for own in spans))

    def logits(self, e: Encoded) -> Tensor:
        assert e.mask is not None
        self.queries += len(e.values)
        total = (e.values[:, :, 0] * e.mask).sum(1) - 0.05
        return torch.stack([-total, total], 1)

    def query(self, x: list[str]) -> Tensor:
        self.calls.append(len(x))
        with torch.no_grad():
            return self.logits(self.encode(x)) if x else torch.zeros(0, 2)

    def predict(self, x: list[str]) -> Tensor:
        return labels(self.query(x))

    def gradient(self, x: list[str], y: Tensor, loss: Loss) -> tuple[Tensor, list[Tensor]]:
        e = self.encode(x)
        values = e.values.requires_grad_(True)
        logits = self.logits(Encoded(values, e.mask, e.spans))
        (slope,) = torch.autograd.grad(loss(logits, y).sum(), values)
        assert e.spans is not None
        return logits.detach(), [row[: len(own)] for row, own in zip(slope, e.spans, strict=True)]

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        yield


def bag(texts: list[str]) -> Tensor:
    """A sentence encoder: counts of words, hashed; every word changed is seen."""
    made = torch.zeros(len(texts), 64)
    for row, text in zip(made, texts, strict=True):
        row[0] = 1.0
        for word in text.split():
            row[1 + zlib.crc32(word.encode()) % 63] += 1
    return made


def offer_toys() -> None:
    """Offer the toys under the default names."""
    near = {
        "good": (1.0, 0.1),
        "great": (1.0, 0.2),
        "fine": (1.0, 0.3),
        "decent": (1.0, 0.5),
        "bad": (0.95, -0.1),  # an opposite that is near, as in plain vectors
        "film": (0.0, 1.0),
        "movie": (0.1, 1.0),
        "picture": (0.2, 1.0),
        "moving": (-1.0, 0.1),
        "touching": (-1.0, 0.2),
    }
    offer("vectors", "default", Vectors(tuple(near), torch.tensor(list(near.values()))))
    offer("encoder", "default", bag)
