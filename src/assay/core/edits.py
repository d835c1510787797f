"""How two texts differ, word by word and character by character, in any script."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

WITHIN = frozenset("'’-_")
"""Characters that part no word where letters are on both sides: don't, well-made."""
JOINER = "\u200d"
"""The zero-width joiner, which makes one emoji of several."""

Edit = tuple[str | None, str | None]
"""A piece that was replaced (old, new), left out (old, None) or put in (None, new)."""


class Piece(NamedTuple):
    """A word, or a single sign, of a text: its characters from `start` up to `end`."""

    start: int
    end: int
    word: bool
    """Whether it is a word: it has a letter or a digit."""


@lru_cache(maxsize=2**15)
def pieces(text: str) -> tuple[Piece, ...]:
    """Return the words and the other signs of a text, in order; white space is between them.

    A word is a run of letters, digits and marks, with apostrophes and hyphens
    inside. Characters that show
    nothing themselves (marks, zero-width and bidirectional controls) belong to what they follow, so
    that a word remains one when they are put into it, and an emoji of several characters is one
    sign. What is written without spaces, such as Chinese, is one word up to the next sign.

    >>> [text[p.start : p.end] for text in ["it's a re\u200bmake!"] for p in pieces(text)]
    ["it's", 'a', 're\\u200bmake', '!']
    """
    found: list[Piece] = []
    start, word, joined = -1, False, False  # of the piece that is open; -1: none is

    def close(end: int) -> None:
        if start >= 0:
            found.append(Piece(start, end, word))

    for at, character in enumerate(text):
        kind = unicodedata.category(character)
        if kind[0] in "LN":
            if start >= 0 and not word and not (joined or _unseen(text[start:at])):
                close(at)
                start = -1
            start, word = (at if start < 0 else start), True
        elif character.isspace() or kind == "Cc":
            close(at)
            start, word = -1, False
        elif kind[0] == "M" or kind == "Cf":
            start = at if start < 0 else start
        elif character in WITHIN and word and text[at + 1 : at + 2].isalnum():
            pass
        else:
            if not (joined or (start >= 0 and not word and _unseen(text[start:at]))):
                close(at)
                start = at
            word = False
        joined = character == JOINER and not word
    close(len(text))
    return tuple(found)


def _unseen(text: str) -> bool:
    """Return whether there is nothing in it but marks and controls, which begin no sign."""
    return all(unicodedata.category(c)[0] == "M" or unicodedata.category(c) == "Cf" for c in text)


def words(text: str) -> list[Piece]:
    """Return the words of a text, without its other signs."""
    return [piece for piece in pieces(text) if piece.word]


def replaced(text: str, new: Mapping[int, str | None]) -> str:
    """Return the text with some of its words replaced; None leaves a word out.

    Args:
        text: the text.
        new: by the number of a word (as `words` counts them), what stands in its place.

    >>> replaced("a good film", {1: "fine", 2: None})
    'a fine'
    """
    made, at = [], 0
    for number, piece in enumerate(words(text)):
        if number not in new:
            continue
        word = new[number]
        made.append(text[at : piece.start])
        if word is None:
            made[-1] = made[-1].rstrip()
        made.append(word or "")
        at = piece.end
    return "".join([*made, text[at:]]).lstrip() if 0 in new else "".join([*made, text[at:]])


def edits(x: str, adv: str) -> list[Edit]:
    """Return the fewest replacements, deletions and insertions of pieces that make `adv` of `x`.

    Where the pieces are the same and only white space is not, that is one replacement of nothing.

    >>> edits("a good film", "a fine film !")
    [('good', 'fine'), (None, '!')]
    """
    found = [
        (old and x[old.start : old.end], new and adv[new.start : new.end])
        for old, new in places(x, adv)
    ]
    return found or ([] if x == adv else [("", "")])


def places(x: str, adv: str) -> list[tuple[Piece | None, Piece | None]]:
    """Return the same, by where the pieces stand in the two texts; nothing of white space alone.

    >>> [(old.start, new.start) for old, new in places("no film, no plot", "one film, no story")]
    [(0, 0), (12, 13)]
    """
    olds, news = list(pieces(x)), list(pieces(adv))
    one, two = ([text[p.start : p.end] for p in pieces(text)] for text in (x, adv))
    while one and two and one[0] == two[0]:
        one, two, olds, news = one[1:], two[1:], olds[1:], news[1:]
    while one and two and one[-1] == two[-1]:
        one, two = one[:-1], two[:-1]
    table = _table(one, two)
    found: list[tuple[Piece | None, Piece | None]] = []
    i, j = len(one), len(two)
    while i or j:
        here = table[i][j]
        if i and j and here == table[i - 1][j - 1] + (one[i - 1] != two[j - 1]):
            i, j = i - 1, j - 1
            if one[i] != two[j]:
                found.append((olds[i], news[j]))
        elif i and here == table[i - 1][j] + 1:
            i -= 1
            found.append((olds[i], None))
        else:
            j -= 1
            found.append((None, news[j]))
    return found[::-1]


def within(a: str, b: str, most: int, swap: Literal[1, 2] = 2) -> bool:
    """Return whether `most` characters replaced, left out or put in make `b` of `a`.

    Only what `most` edits can reach of the table of distances is computed, between what both begin
    and end with (Ukkonen 1985, "Algorithms for approximate string matching").

    Args:
        swap: what two neighbours exchanged count as: 2 edits (Levenshtein), or 1 (Damerau).

    >>> within("film", "flim", 1), within("film", "flim", 1, swap=1)
    (False, True)
    """
    start = _shared(a, b)
    a, b = a[start:], b[start:]
    end = _shared(a[::-1], b[::-1])
    a, b = a[: len(a) - end], b[: len(b) - end]
    most = min(most, len(a) + len(b))
    if abs(len(a) - len(b)) > most:
        return False
    # row[k] is the distance of the first i characters of a and the first i - most + k of b
    width, far = 2 * most + 1, most + 1
    before, above = [far] * width, [abs(k - most) if k >= most else far for k in range(width)]
    for i in range(1, len(a) + 1):
        row: list[int] = []
        for k, j in enumerate(range(i - most, i + most + 1)):
            if j < 0 or j > len(b):
                row.append(far)
                continue
            least = i if j == 0 else above[k] + (a[i - 1] != b[j - 1])
            if j and k:
                least = min(least, row[-1] + 1)
            if k + 1 < width:
                least = min(least, above[k + 1] + 1)
            if i > 1 and j > 1 and a[i - 2 : i] == b[j - 1] + b[j - 2]:
                least = min(least, before[k] + swap)
            row.append(least)
        if min(*row, *above) > most:
            return False
        before, above = above, row
    return above[len(b) - len(a) + most] <= most


def _shared(a: str, b: str) -> int:
    """Return how many characters both begin with."""
    apart = (at for at, (one, two) in enumerate(zip(a, b, strict=False)) if one != two)
    return next(apart, min(len(a), len(b)))


def _table(a: list[str], b: list[str]) -> list[list[int]]:
    """Return the edit distances of all beginnings: [i][j] of the first i of `a`, j of `b`."""
    table = [list(range(len(b) + 1))]
    for i, one in enumerate(a, 1):
        above, row = table[-1], [i]
        for j, two in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (one != two)))
        table.append(row)
    return table


def cased(word: str, like: str) -> str:
    """Return a word in the case of another one: Title, CAPITALS, or as it is.

    >>> cased("fine", "Good"), cased("fine", "GOOD")
    ('Fine', 'FINE')
    """
    if len(like) > 1 and like.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if like[:1].isupper() else word
