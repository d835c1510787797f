"""Typing errors and characters that look the same: DeepWordBug and its kin."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt, field_validator
from torch import Tensor

from assay.attacks.base import Search
from assay.attacks.text.asking import Row
from assay.attacks.text.base import CharacterAttack, Importance
from assay.attacks.text.characters import CHANGES, Change
from assay.attacks.text.greedy import greedy
from assay.attacks.text.threat import Words
from assay.core.oracle import Loss
from assay.core.random import Rows


class Misspell(CharacterAttack):
    """One edit of characters in word after word, the most important first (Gao et al. 2018,
    "Black-box generation of adversarial text sequences": DeepWordBug).

    The paper scores a word by what precedes and follows it, and makes one edit at random; here a
    word's score is what is lost with an unknown word in its place (as in the recipe of TextAttack),
    and of several edits the one that raises the loss most is taken. `edits` says which kinds:
    the paper's four, typing errors of a keyboard, letters that look the same, letters of full
    width, and characters without a width. What a normal form undoes of the last three:
    `attacks.text.defence`.

    >>> from assay.attacks.text.registry import Misspell
    >>> Misspell(edits=("keyboard",), setting="strict").threat.describe()
    'at most 20 % of the words, at least one, stop words kept, at most 1 edit in a word'
    """

    VERSION: ClassVar[int] = 2  # swaps are single edits, and kinds have equal shares

    name: Literal["misspell"] = "misspell"
    """The method's name in configs."""
    edits: tuple[Change, ...] = Field(default=("swap", "delete", "insert", "replace"), min_length=1)
    """Kinds of edits: swap, delete, insert, replace, keyboard, homoglyph, wide, zero-width."""
    tries: PositiveInt = Field(default=8, le=64)
    """Edits of a word that are tried, drawn from those that are allowed: as many of each kind,
    where there are so many."""
    importance: Importance = "unknown"
    """How words are put in order: by what is lost with an unknown word in the place of each
    (unknown), or without it (delete), or by chance (random)."""

    @field_validator("edits")
    @classmethod
    def _once(cls, edits: tuple[Change, ...]) -> tuple[Change, ...]:
        return tuple(dict.fromkeys(edits))

    def options(self, row: Row, place: int, draws: list[float]) -> list[str]:
        """Return misspellings of a word of a row."""
        word = row.word(place)
        threat = self.threat
        made = ((kind, new) for kind in self.edits for new in CHANGES[kind](word))
        allowed = {new: kind for kind, new in made if threat.allows((word, new))}
        if len(allowed) <= self.tries:
            return list(allowed)
        kinds = [[new for new in allowed if allowed[new] == kind] for kind in self.edits]
        first = int(draws[-1] * len(kinds))  # which kind has one more, where they cannot be equal
        kinds = kinds[first:] + kinds[:first]
        found: list[str] = []
        while len(found) < self.tries:
            for some in kinds:
                if some and len(found) < self.tries:
                    found.append(some.pop(int(draws[len(found)] * len(some))))
        return found

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
        yield from greedy(
            model,
            x,
            y,
            threat=threat,
            loss=loss,
            targeted=targeted,
            rng=rng,
            importance=self.importance,
            options=self.options,
        )
