"""The first sentence of a report says what the checks say, whatever they say."""

from __future__ import annotations

import itertools
import math

import pytest

from assay.auditing import AuditConfig, Criterion, Value, Words
from assay.auditing.checks import judged
from assay.auditing.sections.outliers import words
from assay.auditing.verdict import Spoken, sentence, spoken
from assay.report.answer import pieces, plain
from assay.report.record import NotRun
from assay.report.schema import CheckVerdict
from assay.stats import Estimate

VERDICTS: tuple[CheckVerdict, ...] = ("pass", "fail", "undecided", "not run")
CRITERIA = [one for part in AuditConfig().sections for one in part.criteria(AuditConfig())]


def say(*checks: tuple[Words, CheckVerdict]) -> str:
    return sentence([Spoken(verdict, words) for words, verdict in checks])


ACCURATE, CALIBRATED, ROBUST, MAPS = (
    next(one.words for one in CRITERIA if one.code == code)
    for code in ("ACC-001", "CAL-001", "ROB-001", "EXP-001")
)
SOFTMAX = words("noise", "max-softmax", reversed=True)
LOGIT = words("noise", "max-logit", reversed=True)


def test_a_model_that_is_good_and_bad() -> None:
    assert (
        say(
            (ACCURATE, "pass"),
            (CALIBRATED, "pass"),
            (ROBUST, "fail"),
            (MAPS, "pass"),
            (SOFTMAX, "fail"),
            (LOGIT, "fail"),
        )
        == "Accurate and calibrated; **not robust, and surer on noise than on its own images**."
    )


def test_checks_about_one_thing_are_told_apart_where_they_differ() -> None:
    assert say((SOFTMAX, "pass"), (LOGIT, "pass")) == "Able to tell noise from its own images."
    assert say((SOFTMAX, "pass"), (LOGIT, "fail")) == (
        "Able to tell noise from its own images by max-softmax; "
        "**surer on noise than on its own images by max-logit**."
    )
    assert say((words("noise", "a"), "fail"), (LOGIT, "fail")) == (
        "**Unable to tell noise from its own images by a, and surer on noise than on its own "
        "images by max-logit**."
    )


def test_what_two_say_alike_is_said_once() -> None:
    assert say((SOFTMAX, "fail"), (LOGIT, "fail"), (words("noise", "knn"), "pass")) == (
        "Able to tell noise from its own images by knn; **surer on noise than on its own images by "
        "max-softmax and max-logit**."
    )


def test_what_is_not_known_is_said() -> None:
    assert say((ACCURATE, "undecided"), (CALIBRATED, "undecided")) == (
        "Undecided whether it is accurate enough, and whether it is calibrated."
    )
    assert say((ACCURATE, "not run"), (ROBUST, "not run")) == (
        "Not measured: accuracy and robustness."
    )
    assert say((ACCURATE, "fail"), (ROBUST, "undecided"), (MAPS, "not run")) == (
        "**Not accurate enough**; undecided whether it is robust; not measured: saliency."
    )


def test_nothing_to_say() -> None:
    assert say() == "Nothing was judged."
    assert say((MAPS, "pass")) == "Every check passes."


def test_the_sentence_cannot_contradict_the_checks() -> None:
    """All verdicts of four checks: what is in bold fails, and all that fails is in bold."""
    asked = (ACCURATE, CALIBRATED, ROBUST, SOFTMAX)
    for verdicts in itertools.product(VERDICTS, repeat=4):
        said = say(*zip(asked, verdicts, strict=True))
        bold = " ".join(piece for piece, strong in pieces(said) if strong).lower()
        rest = " ".join(piece for piece, strong in pieces(said) if not strong).lower()
        known, _, unknown = rest.partition("not measured:")
        settled, _, unsure = known.partition("undecided")
        for one, verdict in zip(asked, verdicts, strict=True):
            assert (one.passes.lower() in settled) == (verdict == "pass"), said
            assert (one.fails in bold) == (verdict == "fail"), said
            assert (f"whether {one.whether}" in unsure) == (verdict == "undecided"), said
            assert (one.about in unknown) == (verdict == "not run"), said


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda one: one.code)
def test_every_check_of_ours_has_words_for_every_verdict(criterion: Criterion) -> None:
    good = 1.0 if criterion.direction == "at least" else 0.0
    for ends, verdict in (
        ((good, good), "pass"),
        ((1 - good, 1 - good), "fail"),
        ((0.0, 1.0), "undecided"),
        ((0.0, 1.0), "not run"),
    ):
        value = Value(Estimate(sum(ends) / 2, *ends, 100, "images"))
        found = NotRun() if verdict == "not run" else value
        check = judged(criterion, found)
        assert check.verdict == verdict
        said = plain(sentence([spoken(criterion, found, check)]))
        assert "“" not in said, "in words, not by its title"
        assert bool(check.advice) == (
            verdict == "fail" or (verdict == "undecided" and bool(criterion.more))
        )


def test_a_check_without_words_is_called_by_its_title() -> None:
    criterion = Criterion("X-1", "sums", "Can it add?", 0.5, "at least")
    for value, said in ((0.9, "Passing “sums”."), (0.1, "**Failing “sums”**.")):
        found = Value(Estimate(value, value, value, 9, "sums"))
        assert sentence([spoken(criterion, found, judged(criterion, found))]) == said


def test_more_images_decide_by_the_root_of_their_number() -> None:
    """0.52 ± 0.04 against 0.5: half the reach needs four times as many, so 300 more than 100."""
    criterion = Criterion("X-1", "sums", "Can it add?", 0.5, "at least", more="--attacked")
    check = judged(criterion, Value(Estimate(0.52, 0.48, 0.57, 100, "images")))
    assert check.advice == "about 300 more images would decide it at this value (--attacked)"
    below = judged(criterion, Value(Estimate(0.48, 0.4, 0.52, 100, "images")))
    assert "about 300 more" in below.advice
    near = judged(criterion, Value(Estimate(0.5, 0.4, 0.6, 100, "images")))
    assert "no number of images" in near.advice
    same = judged(criterion, Value(Estimate(0.6, -math.inf, math.inf, 100, "images")))
    assert "all values are the same" in same.advice


def test_a_bar_says_what_to_do_about_it() -> None:
    criterion = Criterion("X-1", "sums", "Can it add?", 0.5, "at least", advice="learn")
    high = Estimate(0.9, 0.8, 1.0, 100, "images")
    check = judged(criterion, Value(high, barred="it guessed", remedy="ask again"))
    assert (check.verdict, check.reason, check.advice) == ("undecided", "it guessed", "ask again")
    assert judged(criterion, Value(high, remedy="ask again")).advice == ""
