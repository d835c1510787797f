"""The answer of a study as it is stored: a paragraph in which `**` marks what is set in bold."""

from __future__ import annotations

import re

_BOLD = re.compile(r"\*\*(.+?)\*\*", re.DOTALL)
_END = re.compile(r"[.!?](\*\*)?\s")


def pieces(answer: str) -> list[tuple[str, bool]]:
    """Return the answer as pieces of text, and whether each is in bold."""
    return [(text, place % 2 == 1) for place, text in enumerate(_BOLD.split(answer)) if text]


def plain(answer: str) -> str:
    """Return the answer without marks."""
    return _BOLD.sub(r"\1", answer)


def first_sentence(answer: str) -> str:
    """Return the first sentence without marks: what a list of results has room for."""
    end = _END.search(answer)
    return plain(answer[: end.end()].strip() if end else answer)
