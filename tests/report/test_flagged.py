"""A flag as a line: sentences that begin with a capital."""

from __future__ import annotations

import pytest

from assay.attacks.reliability import Indicator
from assay.report.flagged import flagged
from assay.report.numerals import asked, attack_name, with_unit


@pytest.mark.parametrize(
    ("detail", "line"),
    [
        ("of 9 images, 3 have none", "REL-001: Gradients vanish. Of 9 images, 3 have none"),
        ("3 of 9 images", "REL-001: Gradients vanish. 3 of 9 images"),
        ("", "REL-001: Gradients vanish."),
    ],
)
def test_what_was_seen_is_a_sentence_of_its_own(detail: str, line: str) -> None:
    assert flagged(Indicator("REL-001", "Gradients vanish", True, detail)) == line


def test_attacks_are_called_as_papers_call_them() -> None:
    from assay.attacks import attacks

    written = {name: attack_name(name) for name in attacks.built_in()}
    assert written["pgd"] == "PGD"
    assert written["one-pixel"] == "One-pixel"
    assert written["hopskipjump"] == "HopSkipJump"
    assert written["auto"] == "auto"
    assert len(set(written.values())) == len(written)


def test_a_limit_has_no_sign_and_a_difference_has_one() -> None:
    assert asked("at most", 0.1, "points") == "at most 10.0 points"
    assert asked("at least", 0.9, "fraction") == "at least 90.0 %"
    assert with_unit(0.1, "points") == "+10.0 points"
