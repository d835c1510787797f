"""The words of a text, by their characters: what attacks exchange and attributions colour.

Places are those of Python's strings, in code points. A combining mark, a variation selector, a tone
of skin or a joiner belongs to the character before it (and a joiner holds the one after it too), so
that neither an accent nor an emoji is torn from what it stands on.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

Span = tuple[int, int]
"""Where a word or a token begins and ends in its text: `text[start:end]`."""

JOINER = "\u200d"
TONES = range(0x1F3FB, 0x1F400)
WITHIN = frozenset("'’-_")
"""Characters that part no word where letters are on both sides: don't, well-made."""


def word_spans(text: str) -> tuple[Span, ...]:
    """Return where the words of a text are, in order: runs of letters and digits, and every other
    visible character by itself.

    >>> from assay.core.words import word_spans
    >>> text = "It's a well-made film!"
    >>> [text[start:end] for start, end in word_spans(text)]
    ["It's", 'a', 'well-made', 'film', '!']
    """
    spans: list[Span] = []
    lettered = False
    for start, end in _clusters(text):
        first = text[start]
        letters = first.isalnum()
        joins = (
            first in WITHIN
            and lettered
            and end < len(text)
            and text[end].isalnum()
            and spans[-1][1] == start
        )
        if (letters or joins) and lettered and spans and spans[-1][1] == start:
            spans[-1] = (spans[-1][0], end)
        elif not first.isspace() and unicodedata.category(first) not in ("Cc", "Cf"):
            spans.append((start, end))
            lettered = letters
        else:
            lettered = False
    return tuple(spans)


def words_of_tokens(tokens: Sequence[Span], words: Sequence[Span]) -> tuple[int, ...]:
    """Return the word that each token is part of, by its place in `words`; -1 where it is none, as
    the marks that a tokenizer adds. A token that lies over several words is of the first.

    >>> from assay.core.words import words_of_tokens
    >>> words_of_tokens([(0, 0), (0, 3), (3, 6), (7, 9)], [(0, 6), (7, 9)])
    (-1, 0, 0, 1)
    """
    found, word = [], 0
    for start, end in tokens:
        while word < len(words) and words[word][1] <= start:
            word += 1
        inside = end > start and word < len(words) and words[word][0] < end
        found.append(word if inside else -1)
    return tuple(found)


def _clusters(text: str) -> list[Span]:
    """Return where each character is, together with what belongs to it."""
    spans: list[Span] = []
    held = False  # whether a joiner holds what comes next
    for place, character in enumerate(text):
        belongs = (
            held
            or character == JOINER
            or ord(character) in TONES
            or (not character.isascii() and unicodedata.category(character).startswith("M"))
        )
        if belongs and spans:
            spans[-1] = (spans[-1][0], place + 1)
        else:
            spans.append((place, place + 1))
        held = character == JOINER
    return spans
