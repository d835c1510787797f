"""The attacks on texts, of ours: a line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.attacks.text.methods.hotflip import HotFlip as HotFlip
from assay.attacks.text.methods.names import Names as Names
from assay.attacks.text.methods.spelling import Misspell as Misspell
from assay.attacks.text.methods.substitute import Substitute as Substitute
from assay.attacks.text.methods.word_genetic import WordGenetic as WordGenetic
from assay.attacks.text.base import TextAttack
from assay.core.registry import Registry
from assay.lazy import made_late

text_attacks = Registry(TextAttack, __name__, "assay.text_attacks")
"""Every attack on texts by its name: ours, then those of the group `assay.text_attacks`."""

if TYPE_CHECKING:
    AnyTextAttack = TextAttack
else:
    __getattr__ = made_late(__name__, AnyTextAttack=text_attacks.union)
