"""Adversarial training on texts by augmentation: copies of training texts with words exchanged."""

from __future__ import annotations

import torch
from pydantic import Field, PositiveInt

from assay.attacks.text.stopwords import STOP_WORDS
from assay.attacks.text.substitutes import Synonyms
from assay.config import Config, Number
from assay.core.edits import replaced, words
from assay.core.random import Stream
from assay.data.textset import TextSet, in_memory


class Exchange(Config):
    """Copies of every training text in which some words are exchanged for WordNet synonyms at
    random, beside the texts themselves.

    Sampling substitutes at random takes a tenth of the time of searching for the worst, and makes
    most of the difference (Ivgi & Berant 2021, "Achieving model robustness through discrete
    adversarial training"); here they are drawn once, before the training.
    """

    VERSION = 1

    share: Number = Field(default=0.3, gt=0, le=1)
    """The share of the words that have a synonym which are exchanged."""
    copies: PositiveInt = 1
    """Copies of each text."""

    def of(self, texts: TextSet, seed: int) -> TextSet:
        """Return the texts and their copies, drawn by the seed; a copy has its text's label."""
        source, made, labels = Synonyms(most=10), list(texts.texts), texts.labels.tolist()
        draws = Stream(seed).child("exchange").rows(texts.ids)
        for _ in range(self.copies):
            longest = max(1, max(len(words(text)) for text in texts.texts))
            some = draws.uniform((longest, 2)).tolist()
            for text, label, chance in zip(texts.texts, texts.labels.tolist(), some, strict=True):
                new: dict[int, str | None] = {}
                for place, piece in enumerate(words(text)):
                    word = text[piece.start : piece.end]
                    if word.lower() in STOP_WORDS or chance[place][0] >= self.share:
                        continue
                    found = source.of(text, place)
                    if found:
                        new[place] = found[int(chance[place][1] * len(found))]
                made.append(replaced(text, new))
                labels.append(label)
        return in_memory(
            texts.name, texts.split, texts.classes, made, torch.tensor(labels), texts.notes
        )
