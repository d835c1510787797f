from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.words import word_spans, words_of_tokens

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
THUMB = "\U0001f44d\U0001f3fd"
CAFE = "cafe\u0301"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("  \t\n", []),
        ("a good film", ["a", "good", "film"]),
        ("don't, well-made!", ["don't", ",", "well-made", "!"]),
        ("'quoted' -dash- end'", ["'", "quoted", "'", "-", "dash", "-", "end", "'"]),
        (f"{CAFE} noir", [CAFE, "noir"]),
        (f"{CAFE}s", [f"{CAFE}s"]),
        (f"so {FAMILY}{THUMB} x", ["so", FAMILY, THUMB, "x"]),
        ("good\u200bfilm", ["good", "film"]),
        ("любимый фильм", ["любимый", "фильм"]),
        ("3.5 stars", ["3", ".", "5", "stars"]),
        ("\u0301", ["\u0301"]),
    ],
)
def test_words_are_where_a_reader_sees_them(text: str, words: list[str]) -> None:
    assert [text[start:end] for start, end in word_spans(text)] == words


@given(st.text(max_size=40))
def test_words_are_in_order_and_never_overlap(text: str) -> None:
    spans = word_spans(text)
    assert all(start < end for start, end in spans)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
    letters = {i for i, c in enumerate(text) if c.isalnum()}
    assert letters <= {i for start, end in spans for i in range(start, end)}


def test_tokens_belong_to_words() -> None:
    text = "unmoving film!"
    tokens = [(0, 0), (0, 2), (2, 8), (9, 13), (13, 14), (0, 0)]
    assert words_of_tokens(tokens, word_spans(text)) == (-1, 0, 0, 1, 2, -1)
    assert words_of_tokens([(0, 13)], word_spans(text)) == (0,)
    assert words_of_tokens([(8, 9)], word_spans(text)) == (-1,)
