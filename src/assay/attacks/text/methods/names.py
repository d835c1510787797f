"""Swaps of names, which should change no prediction: a behavioural test as an attack."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import PositiveInt
from torch import Tensor

from assay.attacks.base import Search
from assay.attacks.text.asking import Row
from assay.attacks.text.base import TextAttack
from assay.attacks.text.behaviour import NAMES
from assay.attacks.text.greedy import greedy
from assay.attacks.text.threat import Words
from assay.core.edits import cased
from assay.core.oracle import Loss
from assay.core.random import Rows


class Names(TextAttack):
    """Swaps names of people and places for others (Ribeiro et al. 2020, "Beyond accuracy:
    behavioral testing of NLP models with CheckList": an invariance test).

    Nothing that is said of a film changes with its director's first name: wherever a prediction
    does, the model has learnt the name. Texts without a known name cannot be attacked, and count
    among those that are not fooled; `attacks.text.behaviour` counts those with one alone. The
    setting does not matter: the constraint is that names replace names.

    >>> attack = assay.attacks.text.Names()
    >>> attack.name, attack.needs
    ('names', 'scores')
    """

    VERSION: ClassVar[int] = 2  # of behavioural tests beside it negation is put at the verb

    name: Literal["names"] = "names"
    """The method's name in configs."""
    tries: PositiveInt = 8
    """Other names that are tried in the place of each, drawn from all of its kind."""

    @property
    def threat(self) -> Words:
        return Words(share=self.share)

    def options(self, row: Row, place: int, draws: list[float]) -> list[str]:
        """Return other names of the kind that a word is; none where it is no name."""
        word = row.word(place)
        kind = next((some for some in NAMES.values() if word.lower() in some), ())
        left = [name for name in kind if name != word.lower()]
        found = [left.pop(int(draw * len(left))) for draw in draws[: min(self.tries, len(left))]]
        return [cased(name.title() if word[:1].isupper() else name, word) for name in found]

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
            importance="random",
            options=self.options,
        )
