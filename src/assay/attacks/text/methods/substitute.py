"""Greedy substitution of words by importance: TextFooler's search."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor

from assay.attacks.base import Search
from assay.attacks.text.asking import Row
from assay.attacks.text.base import WordAttack, WordImportance
from assay.attacks.text.greedy import greedy
from assay.attacks.text.threat import Words
from assay.core.oracle import Loss
from assay.core.random import Rows


class Substitute(WordAttack):
    """Substitutes for one word after the other, the most important first (Jin et al. 2020, "Is
    BERT really robust?": TextFooler).

    A word's importance is what is lost without it. At each word all substitutes that constraints
    allow are asked about: of those that fool the model the one whose sentence is most like the
    original is taken, or else the one that raises the loss most. The paper's substitutes are the 50
    nearest counter-fitted vectors; ours are WordNet's synonyms (PWWS), neighbours in word vectors
    less its antonyms, or what a masked language model fills in (BERT-Attack). As in the authors'
    code a word is not changed twice; unlike it, sentences are encoded in order of preference, and
    no more of them than it takes.

    >>> attack = assay.attacks.text.Substitute(setting="strict", share=0.1)
    >>> attack.threat.similarity, attack.threat.share
    (0.98, 0.1)
    """

    VERSION: ClassVar[int] = 4  # of a word that stands there twice running both may be changed

    name: Literal["substitute"] = "substitute"
    """The method's name in configs."""
    importance: WordImportance = "delete"
    """How words are put in order: by what is lost without each (delete), or with an unknown word in
    its place (unknown), by chance (random), or by what its best substitute gains (gain: PWWS's)."""

    def search(
        self,
        model: Any,
        x: list[str],
        y: Tensor,
        *,
        threat: Words,
        loss: Loss,
        targeted: bool,
        rng: Rows,
    ) -> Search[list[str]]:
        def options(row: Row, place: int, draws: list[float]) -> list[str]:
            del draws
            return self.substitutes.of(row.text, place)

        yield from greedy(
            model,
            x,
            y,
            threat=threat,
            loss=loss,
            targeted=targeted,
            rng=rng,
            importance=self.importance,
            options=options,
        )
