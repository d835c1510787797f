"""Transformations of characters, and the normal form that undoes some of them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
"""The letters of an American keyboard; each row begins about half a key further right."""
ALPHABET = "abcdefghijklmnopqrstuvwxyz"

HOMOGLYPHS: Mapping[str, str] = {
    **dict(zip("aceijopsxyhdqwl", "асеіјорѕхуһԁԛԝӏ", strict=True)),
    **dict(zip("ABCEHIJKMOPSTXY", "АВСЕНІЈКМОРЅТХУ", strict=True)),
    **dict(zip("vgunr", "νɡսոг", strict=True)),
}
"""Letters of other alphabets that look the same: Cyrillic, Greek, Armenian, IPA."""
WIDE: Mapping[str, str] = {c: chr(ord(c) + 0xFEE0) for c in ALPHABET + ALPHABET.upper()}
"""The same letters at full width: compatible characters, which NFKC makes plain again."""
UNSEEN = "\u200b\u200c\u2060\u00ad"
"""Characters without a width: space, non-joiner, word joiner, soft hyphen."""

Change = Literal[
    "swap", "delete", "insert", "replace", "keyboard", "homoglyph", "wide", "zero-width"
]


def _swap(word: str) -> Iterator[str]:
    for at in range(len(word) - 1):
        if word[at] != word[at + 1]:
            yield word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _delete(word: str) -> Iterator[str]:
    for at in range(len(word)):
        if len(word) > 1:
            yield word[:at] + word[at + 1 :]


def _insert(word: str) -> Iterator[str]:
    for at in range(1, len(word) + 1):
        for letter in ALPHABET:
            yield word[:at] + letter + word[at:]


def _replace(word: str) -> Iterator[str]:
    for at in range(len(word)):
        for letter in ALPHABET:
            if letter != word[at].lower():
                yield word[:at] + letter + word[at + 1 :]


def _keyboard(word: str) -> Iterator[str]:
    for at, letter in enumerate(word):
        for near in beside(letter):
            yield word[:at] + near + word[at + 1 :]


def _lookalikes(table: Mapping[str, str]) -> Callable[[str], Iterator[str]]:
    def made(word: str) -> Iterator[str]:
        for at, letter in enumerate(word):
            if letter in table:
                yield word[:at] + table[letter] + word[at + 1 :]

    return made


def _zero_width(word: str) -> Iterator[str]:
    for at in range(1, len(word)):
        for unseen in UNSEEN:
            yield word[:at] + unseen + word[at:]


CHANGES: Mapping[Change, Callable[[str], Iterator[str]]] = {
    "swap": _swap,
    "delete": _delete,
    "insert": _insert,
    "replace": _replace,
    "keyboard": _keyboard,
    "homoglyph": _lookalikes(HOMOGLYPHS),
    "wide": _lookalikes(WIDE),
    "zero-width": _zero_width,
}
"""What can be done to a word once: all words that it makes, in order."""


def beside(letter: str) -> str:
    """Return the letters beside one on an American keyboard, in its case.

    >>> beside("s"), beside("Q")
    ('adwezx', 'WA')
    """
    place = {c: (row, k) for row, keys in enumerate(KEYS) for k, c in enumerate(keys)}
    if letter.lower() not in place:
        return ""
    row, k = place[letter.lower()]
    near = [(row, k - 1), (row, k + 1), (row - 1, k), (row - 1, k + 1), (row + 1, k - 1)]
    near.append((row + 1, k))
    found = "".join(KEYS[r][c] for r, c in near if 0 <= r < len(KEYS) and 0 <= c < len(KEYS[r]))
    return found.upper() if letter.isupper() else found


Form = Literal["nfkc", "seen", "latin"]
"""What a text is brought to before a model reads it: nfkc, Unicode's normal form of compatible
characters; seen, without invisible ones besides; latin, with letters of other alphabets that look
like Latin ones as those, in words that have Latin ones too."""
FORMS: tuple[Form, ...] = ("nfkc", "seen", "latin")
PLAIN = {other: plain for plain, other in HOMOGLYPHS.items()}


def normalised(text: str, form: Form) -> str:
    """Return a text in a normal form: the defence against edits that a reader does not see.

    NFKC alone undoes letters of full width; it keeps zero-width characters, and homoglyphs, which
    are other letters.

    >>> [normalised("ｆi\\u200blm", form) for form in ("nfkc", "seen")]
    ['fi\\u200blm', 'film']
    >>> normalised("fіlm", "latin") == "film"  # the i is Cyrillic
    True
    """
    text = unicodedata.normalize("NFKC", text)
    if form == "nfkc":
        return text
    text = "".join(c for c in text if unicodedata.category(c) != "Cf" or c == "\u200d")
    if form == "seen":
        return text
    parts = text.split(" ")
    return " ".join(
        "".join(PLAIN.get(c, c) for c in part)
        if any(c.isascii() and c.isalpha() for c in part)
        else part
        for part in parts
    )
