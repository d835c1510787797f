"""What an attacker may do to a text, so that a reader would still say the same of it.

Two settings are everywhere. *Permissive* has the constraints of the papers that proposed the
attacks. *Strict* has those under which people agreed that meaning and grammar were kept, found by
Morris et al. 2020, "Reevaluating adversarial examples in natural language": under them most of the
published success is gone. A success rate without the setting's name says nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from assay.attacks.text.offers import Remembered, offered
from assay.attacks.text.stopwords import STOP_WORDS
from assay.attacks.text.wordnet import wordnet
from assay.config import Number
from assay.core.edits import Edit, edits, within, words
from assay.core.threats import Threat

Setting = Literal["permissive", "strict"]
TOLERANCE = 1e-6

WORDS: dict[Setting, dict[str, Any]] = {
    "permissive": {"word_similarity": 0.5, "similarity": 0.84, "window": 15},
    "strict": {"word_similarity": 0.9, "similarity": 0.98},
}
"""Least similarities when words are substituted. Permissive: TextFooler's (Jin et al. 2020). Its
paper says 0.7 of both; its code has cosines of words of 0.5 and forgets to divide angles by π, so
TextAttack's recipe has 0.5 and 1 - 0.5 / π = 0.84. Both compare windows of 15 words around the word
changed with what they were before that change, and do not ask it of shorter texts: so here every
change by itself is held to it, and together they may go further. (PWWS, Ren et al. 2019, and
Alzantot et al. 2018 ask no similarity of sentences at all.) Strict: Morris et al. 2020, whole
sentences against the original. Both were set for counter-fitted word vectors and the Universal
Sentence Encoder: with other ones the numbers are the same, and what they let through is not."""
CHARACTERS: dict[Setting, dict[str, Any]] = {
    "permissive": {"in_all": 30},
    "strict": {"per_word": 1, "shortest": 4, "ends_kept": True},
}
"""Permissive: DeepWordBug (Gao et al. 2018), an edit distance of 30 in all; strict: Pruthi et al.
2019, "Combating adversarial misspellings": one edit in words of four letters or more, of which the
first and the last stay, which people read without noticing. Two neighbours exchanged are
one edit, their first."""


class Words(Threat[list[str]]):
    """A share of a text's words may change, as far as constraints let each of them, and the whole.

    The distance is the share of words changed: replaced, left out or put in, of the words that the
    original has. However short a text is, one word may change.

    >>> from assay.attacks.text.threat import Words
    >>> threat = Words(share=0.5, per_word=2)
    >>> round(float(threat.distance(["a good film"], ["a gold film"])), 2)
    0.33
    >>> threat.contains(["a good film"] * 2, ["a gold film", "a bad film"]).tolist()
    [True, False]
    """

    share: Number = Field(default=0.2, gt=0, le=1)
    """The greatest share of a text's words that may change; of a short text one word may."""
    stop_words_kept: bool = True
    """Whether articles, pronouns, negations and the like stay as they are."""
    part_of_speech: str | None = None
    """What tells parts of speech, which must then stay: "wordnet", whose words share one wherever
    it knows both, or a tagger's name; none: they may change."""
    antonyms_refused: bool = False
    """Whether no word may be replaced by its opposite, by WordNet."""
    word_similarity: Number | None = Field(default=None, ge=-1, le=1)
    """Least cosine of a word's vector and its substitute's; a word without a vector stays."""
    vectors: str = "default"
    """Which word vectors measure it."""
    similarity: Number | None = Field(default=None, ge=0, le=1)
    """Least similarity of the sentences, 1 - angle / π between their encodings; none: any."""
    window: PositiveInt | None = Field(default=None, exclude_if=lambda window: window is None)
    """Words of a text that are compared, around each word changed, with the same where that word
    alone is as it was: the least similar window counts, and of shorter texts no similarity is
    asked; none: whole texts are compared with the originals."""
    encoder: str = "default"
    """Which sentence encoder measures it: another model than the one attacked."""
    per_word: PositiveInt | None = None
    """Most edits of a word's characters; two neighbours exchanged are one."""
    in_all: PositiveInt | None = None
    """Most edits of characters in all of a text."""
    shortest: PositiveInt = 1
    """Characters of the shortest word that may change."""
    ends_kept: bool = False
    """Whether the first and the last character of a word stay."""

    def distance(self, x: list[str], adv: list[str]) -> Tensor:
        return torch.tensor(
            [
                len(edits(one, other)) / max(1, len(words(one)))
                for one, other in zip(x, adv, strict=True)
            ]
        )

    def most(self, text: str) -> int:
        """Return how many words of a text may change."""
        return max(1, int(self.share * len(words(text)) + TOLERANCE))

    def contains(self, x: list[str], adv: list[str]) -> Tensor:
        pairs = list(zip(x, adv, strict=True))
        inside = torch.tensor([self._by_words(*pair) for pair in pairs], dtype=torch.bool)
        rows = [k for k, pair in enumerate(pairs) if inside[k] and pair[0] != pair[1]]
        inside[rows] = self.alike([x[k] for k in rows], [adv[k] for k in rows])
        return inside

    def _by_words(self, x: str, adv: str) -> bool:
        changed = edits(x, adv)
        if len(changed) > self.most(x):
            return False
        if self.in_all is not None and not within(x, adv, self.in_all):
            return False
        tagged = None
        if changed and self.part_of_speech not in (None, "wordnet"):
            tag = offered("tagger", str(self.part_of_speech))
            tagged = tag(x) == tag(adv)
        return tagged is not False and all(self.allows(edit) for edit in changed)

    def allows(self, edit: Edit) -> bool:
        """Return whether one word may become another, wherever it stands."""
        old, new = edit
        if not old or not new:
            return not self.restrained and bool(old) and not self.stops(old or "")
        if self.stops(old) or len(old) < self.shortest:
            return False
        if self.ends_kept and (old[0] != new[0] or old[-1] != new[-1]):
            return False
        if self.per_word is not None and not within(old, new, self.per_word, swap=1):
            return False
        if self.antonyms_refused and wordnet().opposed(old, new):
            return False
        if self.part_of_speech == "wordnet" and not _shared(old, new):
            return False
        if self.word_similarity is None:
            return True
        near = offered("vectors", self.vectors).cosine(old, new)
        return near is not None and near >= self.word_similarity

    @property
    def restrained(self) -> bool:
        """Whether a word must be like what it was, so that none may be left out or put in."""
        by_meaning = self.word_similarity is not None or self.part_of_speech is not None
        return by_meaning or self.per_word is not None or self.ends_kept

    def stops(self, word: str) -> bool:
        """Return whether a word may not change since it is a stop word."""
        return self.stop_words_kept and word.lower() in STOP_WORDS

    def alike(self, x: list[str], adv: list[str]) -> Tensor:
        """Return which sentences are similar enough: bool (N,); encodes what it has not yet, and
        nothing where any will do."""
        least = [self.least(text) for text in x]
        near = [
            _windows(one, other, self.window) if asked > -1 else []
            for one, other, asked in zip(x, adv, least, strict=True)
        ]
        owner = [k for k, some in enumerate(near) for _ in some]
        allowed = torch.ones(len(x), dtype=torch.bool)
        if owner:
            pairs = [pair for some in near for pair in some]
            asked = torch.tensor([least[k] for k in owner])
            fits = self._judge.reaches(*_unzipped(pairs), asked)
            allowed[[k for k, fit in zip(owner, fits.tolist(), strict=True) if not fit]] = False
        return allowed

    def least(self, text: str) -> float:
        """Return how similar to a text another one must be; -1 where any will do."""
        short = self.window is not None and len(words(text)) < self.window
        return -1.0 if self.similarity is None or short else self.similarity - TOLERANCE

    def likeness(self, x: list[str], adv: list[str]) -> Tensor:
        """Return how similar sentences are, float32 (N,), also where any will do; 1 where no
        similarity is asked at all."""
        return (
            self._least(x, adv, self._judge.similarity) if self.similarity else torch.ones(len(x))
        )

    def most_alike(self, x: list[str], advs: list[list[str]]) -> list[str]:
        """Return for each text which of some sentences is most like it, of equals the first."""
        left = [list(some) for some in advs]
        for precisely in (False, True):
            rows = [k for k, some in enumerate(left) if len(some) > 1]
            if not rows or not self.similarity:
                break
            judge, sizes = self._judge, [len(left[k]) for k in rows]
            pairs = [x[k] for k in rows for _ in left[k]], [adv for k in rows for adv in left[k]]
            near = self._least(*pairs, judge.similarity if precisely else judge.roughly)
            slack = 0.0 if precisely else judge.slack
            for k, part in zip(rows, torch.split(near, sizes), strict=True):
                keep = (part >= part.max() - 2 * slack).tolist()
                left[k] = [adv for adv, stays in zip(left[k], keep, strict=True) if stays]
        return [some[0] for some in left]

    @property
    def _judge(self) -> Remembered:
        return offered("encoder", self.encoder)

    def _least(
        self, x: list[str], adv: list[str], similarity: Callable[[list[str], list[str]], Tensor]
    ) -> Tensor:
        """Return the least similarity of each pair's windows, float32 (N,)."""
        near = [_windows(one, other, self.window) for one, other in zip(x, adv, strict=True)]
        alike = similarity(*_unzipped([pair for some in near for pair in some]))
        found = [part.amin() for part in torch.split(alike, [len(some) for some in near])]
        return torch.stack(found) if found else torch.zeros(0)

    def describe(self) -> str:
        """Return the limits in a few words."""
        said = [f"at most {100 * self.share:.0f} % of the words, at least one"]
        if self.stop_words_kept:
            said.append("stop words kept")
        if self.part_of_speech is not None:
            said.append(f"parts of speech kept ({self.part_of_speech})")
        if self.word_similarity is not None:
            said.append(f"words at least {self.word_similarity:g} alike")
        if self.similarity is not None:
            what = f"at least {self.similarity:g} alike ({self.encoder})"
            if self.window is None:
                said.append(f"sentences {what}")
            else:
                said.append(f"every {self.window} words before and after each change {what}")
        if self.per_word is not None:
            said.append(f"at most {self.per_word} edit{'s' * (self.per_word > 1)} in a word")
        if self.in_all is not None:
            said.append(f"{self.in_all} edits of characters in all")
        return ", ".join(said)


def _windows(x: str, adv: str, size: int | None) -> list[tuple[str, str]]:
    """Return the windows of a changed text around each word that differs, before and after that
    change alone; both texts whole where there is no size, or they have not as many words.

    >>> _windows("a b c d e", "a y c x e", 3)
    [('a b c', 'a y c'), ('c d e', 'c x e')]
    """
    one, two = words(x), words(adv)
    if size is None or len(one) != len(two):
        return [(x, adv)]
    found = []
    for k, (p, q) in enumerate(zip(one, two, strict=True)):
        old = x[p.start : p.end]
        if old != adv[q.start : q.end]:
            first = max(0, min(k - size // 2, len(two) - size))
            last = min(first + size, len(two)) - 1
            start, end = two[first].start, two[last].end
            before = adv[start : q.start] + old + adv[q.end : end]
            found.append((before, adv[start:end]))
    return found or [(x, adv)]


def _unzipped(pairs: list[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [one for one, _ in pairs], [other for _, other in pairs]


def _shared(old: str, new: str) -> bool:
    """Return whether two words can be the same part of speech; what WordNet lacks never is."""
    return bool(wordnet().pos(old) & wordnet().pos(new))
