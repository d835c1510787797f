"""What every attack on texts has: a setting, and what its threat allows."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from assay.attacks.base import Attack
from assay.attacks.text.substitutes import AnySubstitutes, Synonyms
from assay.attacks.text.threat import CHARACTERS, WORDS, Setting, Words
from assay.config import Number
from assay.core.oracle import Access

Importance = Literal["delete", "unknown", "random"]
"""How words are put in order: by what is lost without each (Jin et al. 2020), or with an unknown
word in its place (Gao et al. 2018's replace-1), or by chance."""


WordImportance = Literal["delete", "unknown", "random", "gain"]
"""These, or by what a word's best substitute gains, weighted by the softmax over the words of what
an unknown word in its place takes away (Ren et al. 2019, PWWS): a query per substitute more, and no
word that may change is spent on one without a substitute that helps."""


class TextAttack(Attack[list[str], Words]):
    """An attack on texts, under the constraints of a setting; see `attacks.text.threat`.

    >>> issubclass(assay.attacks.text.Misspell, assay.attacks.text.TextAttack)
    True
    """

    needs: ClassVar[Access] = "scores"

    setting: Setting = "permissive"
    """The constraints: permissive (those of the papers) or strict (those under which people agreed
    that the meaning was kept)."""
    share: Number = Field(default=0.2, gt=0, le=1)
    """The greatest share of a text's words that may change; of a short text one word may."""

    @property
    def opening(self) -> int:
        return 0  # how many words a text has is not known before the first step


class WordAttack(TextAttack):
    """An attack that puts other words in the place of words."""

    VERSION: ClassVar[int] = 3  # permissive: windows before and after each change, as in the papers

    part_of_speech: str | None = "wordnet"
    """What tells parts of speech, which are kept: wordnet, or a tagger that was offered; none."""
    encoder: str = "default"
    """The sentence encoder that measures whether the meaning is kept: not the model attacked."""
    vectors: str = "default"
    """The word vectors that measure whether a word's meaning is kept."""
    substitutes: AnySubstitutes = Synonyms()
    """Where substitutes come from: wordnet, neighbours (of word vectors), or masked (what a masked
    language model fills in)."""
    word_similarity: Number | None = Field(default=None, ge=-1, le=1)
    """Least cosine of a word and its substitute, instead of the setting's; synonyms of WordNet
    share a meaning by themselves, and are not measured unless it is given."""
    similarity: Number | None = Field(default=None, ge=0, le=1)
    """Least similarity of the sentences (1 - angle / π), instead of the setting's."""

    @property
    def threat(self) -> Words:
        limits: dict[str, Any] = dict(WORDS[self.setting])
        if isinstance(self.substitutes, Synonyms):
            del limits["word_similarity"]
        for name in ("word_similarity", "similarity"):
            if getattr(self, name) is not None:
                limits[name] = getattr(self, name)
        return Words(
            share=self.share,
            part_of_speech=self.part_of_speech,
            antonyms_refused=True,
            encoder=self.encoder,
            vectors=self.vectors,
            **limits,
        )


class CharacterAttack(TextAttack):
    """An attack that changes characters within words."""

    @property
    def threat(self) -> Words:
        return Words(share=self.share, **CHARACTERS[self.setting])
