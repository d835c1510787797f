"""Attacks on texts: goal + constraints + transformation + search, run by the runner of all attacks.

    result = assay.attacks.text.Substitute(setting="strict")(text_clf, texts, labels, seed=0)

    threat.py       constraints: what counts as the same text to a reader, and its two settings
    substitutes.py  transformations of words: WordNet, neighbours in embedding space, a masked model
    characters.py   transformations of characters, and the normal forms that undo some
    greedy.py       the search that changes one word after the other
    behaviour.py    tests without a search: names, contractions, negation
    registry.py     the attacks by their names

The goal is the runner's: any other class, or a target. An attack from another package joins the
union `AnyTextAttack` by an entry point in the group `assay.text_attacks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.lazy import lazily

if TYPE_CHECKING:
    from assay.attacks.text.base import TextAttack as TextAttack
    from assay.attacks.text.behaviour import behaviours as behaviours
    from assay.attacks.text.defence import Normalised as Normalised
    from assay.attacks.text.defence import after_normalising as after_normalising
    from assay.attacks.text.offers import Vectors as Vectors
    from assay.attacks.text.offers import offer as offer
    from assay.attacks.text.registry import *  # noqa: F403
    from assay.attacks.text.registry import AnyTextAttack as AnyTextAttack
    from assay.attacks.text.registry import text_attacks as text_attacks
    from assay.attacks.text.threat import Words as Words
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "base": ["TextAttack"],
            "behaviour": ["behaviours"],
            "defence": ["Normalised", "after_normalising"],
            "offers": ["Vectors", "offer"],
            "registry": ["AnyTextAttack", "text_attacks"],
            "threat": ["Words"],
        },
        registry="text_attacks",
    )
