"""Answers as they are stored: a paragraph with bold marks."""

from __future__ import annotations

import pytest

from assay.report.answer import first_sentence, pieces, plain


def test_bold_marks_part_the_text() -> None:
    assert pieces("**Yes:** 14.1 % of it. **No.**") == [
        ("Yes:", True),
        (" 14.1 % of it. ", False),
        ("No.", True),
    ]
    assert pieces("2 ** 3 alone") == [("2 ** 3 alone", False)]
    assert pieces("") == []
    assert plain("**Yes:** 14 %.") == "Yes: 14 %."


@pytest.mark.parametrize(
    ("answer", "first"),
    [
        ("**It wins: +16.5 (6.8 to 26.2).** The rest is not.", "It wins: +16.5 (6.8 to 26.2)."),
        ("**Yes:** 14.1 % of it. The rest.", "Yes: 14.1 % of it."),
        ("**Only one.**", "Only one."),
        ("no full stop", "no full stop"),
        ("", ""),
    ],
)  # fmt: skip
def test_the_first_sentence_is_whole_and_without_marks(answer: str, first: str) -> None:
    assert first_sentence(answer) == first
