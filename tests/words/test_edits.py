"""Words of texts and how texts differ, in any script: numbers by hand."""

from __future__ import annotations

import itertools
import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.edits import cased, edits, pieces, replaced, within, words


def shown(text: str) -> list[str]:
    return [text[p.start : p.end] + ("" if p.word else "~") for p in pieces(text)]


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("", []),
        (" \n", []),
        ("it's well-made !", ["it's", "well-made", "!~"]),
        ("don' t ' x", ["don", "'~", "t", "'~", "x"]),
        ("a -- b", ["a", "-~", "-~", "b"]),
        ("re\u200bmake", ["re\u200bmake"]),
        ("\u200bfilm", ["\u200bfilm"]),
        ("cafe\u0301 naïve", ["cafe\u0301", "naïve"]),
        ("日本語の映画。", ["日本語の映画", "。~"]),
        ("شاهدت الفيلم", ["شاهدت", "الفيلم"]),
        ("👩‍🚀🎬 ok", ["👩‍🚀~", "🎬~", "ok"]),
        ("\u200b\u202e", ["\u200b\u202e~"]),
    ],
)
def test_words_of_any_script(text: str, seen: list[str]) -> None:
    assert shown(text) == seen


@given(st.text(max_size=40))
def test_pieces_hold_all_but_white_space_and_controls(text: str) -> None:
    found = pieces(text)
    assert all(p.start < p.end for p in found)
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))
    held = {k for p in found for k in range(p.start, p.end)}
    assert all(k in held for k, c in enumerate(text) if c.isalnum())


@given(st.text(max_size=30))
def test_nothing_replaced_changes_nothing(text: str) -> None:
    same = {k: text[p.start : p.end] for k, p in enumerate(words(text)) if k}
    assert replaced(text, same) == text
    assert edits(text, text) == []


def test_words_are_replaced_and_left_out() -> None:
    assert replaced("a good film !", {1: "fine", 2: None}) == "a fine !"
    assert replaced("good film", {0: None}) == "film"
    assert replaced("good", {0: None}) == ""


@pytest.mark.parametrize(
    ("x", "adv", "found"),
    [
        ("a good film", "a fine film", [("good", "fine")]),
        ("a good film", "a film", [("good", None)]),
        ("a film", "a good film", [(None, "good")]),
        ("one two three four", "two three four five", [("one", None), (None, "five")]),
        ("a b", "a  b", [("", "")]),
        ("film", "fi\u200blm", [("film", "fi\u200blm")]),
    ],
)
def test_the_fewest_edits(x: str, adv: str, found: list[tuple[str | None, str | None]]) -> None:
    assert edits(x, adv) == found


def distance(a: str, b: str, swap: int) -> int:
    """Return the edit distance of two strings by its definition."""
    if not (a and b):
        return len(a + b)
    ways = [distance(a[:-1], b[:-1], swap) + (a[-1] != b[-1])]
    ways += [distance(a[:-1], b, swap) + 1, distance(a, b[:-1], swap) + 1]
    if len(a) > 1 and len(b) > 1 and a[-2:] == b[-1] + b[-2]:
        ways.append(distance(a[:-2], b[:-2], swap) + swap)
    return min(ways)


def test_distances_are_those_of_the_definition() -> None:
    assert [distance("kitten", other, 2) for other in ("sitting", "kitten", "")] == [3, 0, 6]
    draw = random.Random(0)
    for _ in range(300):
        a, b = ("".join(draw.choices("abc", k=draw.randint(0, 5))) for _ in range(2))
        for swap in (1, 2):
            found = [within(a, b, most, swap) for most in range(11)]  # type: ignore[arg-type]
            assert found == [most >= distance(a, b, swap) for most in range(11)]


def test_distances_of_long_texts_take_little_memory() -> None:
    x = "good film " * 150
    tracemalloc.start()
    assert within(x, f"a{x}b", 30)
    assert not within(x, "b" * len(x), 30)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_case() -> None:
    assert [cased("fine", like) for like in ("good", "Good", "GOOD", "I")] == [
        *("fine", "Fine", "FINE", "Fine")
    ]
