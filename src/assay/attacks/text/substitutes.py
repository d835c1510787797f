"""Transformations of words: what might stand in a word's place."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from assay.attacks.text.offers import offered
from assay.attacks.text.wordnet import wordnet
from assay.config import Config
from assay.core.edits import cased, words


class Substitutes(Config):
    """Where substitutes come from; an author writes `of`."""

    name: str
    """The source's name in configs."""
    most: PositiveInt = 50
    """Most substitutes of a word."""

    def of(self, text: str, place: int) -> list[str]:
        """Return what might stand in place of the word number `place` of a text, likeliest first,
        in the word's case; the word itself is not among them."""
        piece = words(text)[place]
        word = text[piece.start : piece.end]
        found = self.candidates(text, piece.start, piece.end, word)
        kept = [cased(other, word) for other in found if other.lower() != word.lower()]
        return list(dict.fromkeys(kept))[: self.most]

    def candidates(self, text: str, start: int, end: int, word: str) -> list[str]:
        """Return the substitutes, in whatever case: an author's part."""
        raise NotImplementedError


class Synonyms(Substitutes):
    """Words that share a meaning in WordNet (Ren et al. 2019, PWWS), in the word's form."""

    name: Literal["wordnet"] = "wordnet"
    """The source's name in configs."""
    related: bool = Field(default=False, exclude_if=lambda related: not related)
    """Also similar adjectives, more general and more special words, and those as special, after the
    synonyms: as many as the 50 nearest vectors of TextFooler, and like these not all the same."""

    def candidates(self, text: str, start: int, end: int, word: str) -> list[str]:
        del text, start, end
        more = wordnet().related(word.lower()) if self.related else ()
        return [*wordnet().synonyms(word.lower()), *more]


class Neighbours(Substitutes):
    """The nearest words in a space of word vectors, less WordNet's antonyms (Jin et al. 2020).

    The paper's vectors are counter-fitted, which pushes opposites apart (Mrkšić et al. 2016). Plain
    ones hold "good" beside "bad", and would fake success on sentiment: hence the antonyms go.
    """

    name: Literal["neighbours"] = "neighbours"
    """The source's name in configs."""
    vectors: str = "default"
    """Which word vectors."""

    def candidates(self, text: str, start: int, end: int, word: str) -> list[str]:
        del text, start, end
        near = offered("vectors", self.vectors).nearest(word, self.most)
        return [other for other in near if not wordnet().opposed(word, other)]


class Masked(Substitutes):
    """What a masked language model expects in the word's place (Li et al. 2020, BERT-Attack), less
    WordNet's antonyms."""

    name: Literal["masked"] = "masked"
    """The source's name in configs."""
    filler: str = "default"
    """Which masked language model."""

    def candidates(self, text: str, start: int, end: int, word: str) -> list[str]:
        filled = offered("filler", self.filler)(text, start, end, self.most)
        return [other for other in filled if other.isalpha() and not wordnet().opposed(word, other)]


AnySubstitutes = Annotated[Synonyms | Neighbours | Masked, Field(discriminator="name")]
