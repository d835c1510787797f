"""Texts as HTML: words coloured, changes marked. All of it is escaped, and what a reader would not
see (zero-width and bidirectional characters) is shown by its code point."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from html import escape
from typing import Literal

FOR, AGAINST = "31, 119, 180", "214, 96, 20"
"""Blue speaks for the class, orange against it: told apart by those who see colours otherwise."""

Kind = Literal["same", "out", "in"]

STYLE = (
    ".text{unicode-bidi:isolate;line-height:1.7;overflow-wrap:anywhere}"
    ".text del{background:rgba(214, 96, 20, .22);text-decoration:line-through}"
    ".text ins{background:rgba(31, 119, 180, .25);text-decoration:none;font-weight:600}"
    ".text .unseen{font:0.75em monospace;border:1px solid currentColor;border-radius:3px;"
    "padding:0 2px;margin:0 1px}"
)


def visible(text: str) -> str:
    """Return a text as HTML: escaped, and with what shows nothing, or turns the direction of what
    follows, as its code point in a box.

    >>> visible("<b>fi\\u200blm</b>")
    '&lt;b&gt;fi<span class="unseen" title="ZERO WIDTH SPACE">200B</span>lm&lt;/b&gt;'
    """
    return "".join(_boxed(c) if _unseen(text, at) else escape(c) for at, c in enumerate(text))


def _unseen(text: str, at: int) -> bool:
    character = text[at]
    if character == "\u200d":  # within an emoji it is seen
        return unicodedata.category(text[at + 1 : at + 2] or "a") != "So"
    return unicodedata.category(character) in ("Cf", "Cc", "Cs", "Co") and character not in "\n\t"


def _boxed(character: str) -> str:
    name = unicodedata.name(character, f"U+{ord(character):04X}")
    return f'<span class="unseen" title="{escape(name)}">{ord(character):04X}</span>'


def coloured(text: str, given: Sequence[tuple[int, int, float]]) -> str:
    """Return a text as HTML with each word on a colour: blue speaks for the class, orange against
    it, the stronger the more of the text's largest value.

    Args:
        text: the text.
        given: of each word, in order, its characters (start, end) and what it is given.
    """
    most = max([abs(value) for *_, value in given], default=0.0)
    made, at = [], 0
    for start, end, value in given:
        made.append(visible(text[at:start]))
        share = abs(value) / most if most > 0 else 0.0
        colour = f"rgba({FOR if value > 0 else AGAINST}, {0.75 * share:.2f})"
        word = visible(text[start:end])
        if share >= 0.01:
            word = f'<span style="background:{colour}" title="{value:+.3g}">{word}</span>'
        made.append(word)
        at = end
    return f'<bdi class="text" dir="auto">{"".join([*made, visible(text[at:])])}</bdi>'


def marked(segments: Sequence[tuple[str, Kind]]) -> str:
    """Return what was taken out of a text and what was put in, as HTML.

    >>> marked([("a ", "same"), ("good", "out"), ("fine", "in"), (" film", "same")])
    '<bdi class="text" dir="auto">a <del>good</del> <ins>fine</ins> film</bdi>'
    """
    tags = {"out": "del", "in": "ins"}
    made: list[str] = []
    before: Kind = "same"
    for text, kind in segments:
        gap = " " if before == "out" and kind == "in" else ""
        tag = tags.get(kind)
        made.append(gap + (f"<{tag}>{visible(text)}</{tag}>" if tag else visible(text)))
        before = kind
    return f'<bdi class="text" dir="auto">{"".join(made)}</bdi>'
