"""Behavioural tests, by hand."""

from __future__ import annotations

import pytest
import torch

from assay.attacks.text.behaviour import behaviours, contracted, negated, renamed
from words.toys import Lexicon


@pytest.mark.parametrize(
    ("text", "new"),
    [
        ("the plot is good", "the plot is not good"),
        ("the plot isn't good", "the plot is good"),
        ("the plot is not good", "the plot is good"),
        ("this is good", "this is not good"),
        ("a wasted effort was fun", "a wasted effort was not fun"),
        ("the island is dull", "the island is not dull"),
        ("This ISN'T good", "This IS good"),
        ("it is good and it is fun", None),
        ("But it is good", None),
        ("it is good but long", None),
        ("good", None),
        ("", None),
    ],
)
def test_negation(text: str, new: str | None) -> None:
    assert negated(text) == new


def test_names_and_contractions() -> None:
    assert renamed("Anna and JAMES in london") == "Emma and JOHN in paris"
    assert renamed("annals") is None
    assert contracted("It's good") == "it is good"
    assert contracted("there is a film") == "there's a film"
    assert contracted("a film") is None


def test_a_bag_of_words_knows_no_negation() -> None:
    x = ["the plot is good", "the plot is bad", "anna is awful", "a great film"]
    found = {b.name: b for b in behaviours(Lexicon(), x, torch.tensor([1, 0, 0, 1]))}
    assert found["negation"].expects == "other"
    assert (found["negation"].failed.value, found["negation"].failed.n) == (1.0, 3)
    assert found["negation"].examples[0] == (x[0], "the plot is not good")
    assert found["negation"].fails == {0: True, 1: True, 2: True}
    assert (found["names"].failed.value, found["names"].failed.n) == (0.0, 1)
    assert found["names"].to_dict()["expects"] == "same"
