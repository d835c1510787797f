"""The verdict of a check, in both directions, and what keeps it from passing."""

from __future__ import annotations

import math

import pytest

from assay.auditing.checks import Criterion, Direction, Value, judged
from assay.report.record import NotRun
from assay.stats import Estimate


def estimate(low: float, high: float, n: int = 9) -> Estimate:
    return Estimate((low + high) / 2 if n else math.nan, low, high, n, "images")


def criterion(direction: Direction, threshold: float = 0.5) -> Criterion:
    return Criterion("ABC-001", "title", "question?", threshold, direction)


@pytest.mark.parametrize(
    ("direction", "low", "high", "verdict"),
    [
        ("at least", 0.6, 0.8, "pass"),
        ("at least", 0.2, 0.4, "fail"),
        ("at least", 0.4, 0.6, "undecided"),
        ("at least", 0.5, 0.6, "pass"),
        ("at most", 0.6, 0.8, "fail"),
        ("at most", 0.2, 0.4, "pass"),
        ("at most", 0.4, 0.6, "undecided"),
        ("at most", 0.4, 0.5, "pass"),
    ],
)
def test_the_direction_decides(direction: Direction, low: float, high: float, verdict: str) -> None:
    check = judged(criterion(direction), Value(estimate(low, high)))
    assert check.verdict == verdict
    assert check.direction == direction
    assert check.value is not None
    assert check.value.value == pytest.approx((low + high) / 2)
    assert (direction in check.reason) == (verdict == "pass")


def test_what_was_not_run_says_why_and_has_no_value() -> None:
    check = judged(criterion("at least", 0.0), NotRun(not_run="no gradient"))
    assert (check.verdict, check.reason, check.value) == ("not run", "no gradient", None)
    nothing = judged(criterion("at least", 0.0), Value(estimate(0, 1, n=0)))
    assert (nothing.verdict, nothing.value) == ("not run", None), "nor what rests on nothing"


def test_a_bar_takes_a_pass_and_nothing_else() -> None:
    for low, high, verdict in (
        (0.6, 0.8, "undecided"),
        (0.2, 0.4, "fail"),
        (0.4, 0.6, "undecided"),
    ):
        value = Value(estimate(low, high), flags=("REL-001",), barred="the attack failed")
        check = judged(criterion("at least"), value)
        assert check.verdict == verdict
        assert (check.reason == "the attack failed") == (low == 0.6)
        assert check.flags == ("REL-001",)


def test_a_detail_joins_the_title() -> None:
    check = judged(criterion("at least"), Value(estimate(0, 1), detail="uniform noise"))
    assert check.title == "title (uniform noise)"
    assert judged(criterion("at least"), Value(estimate(0, 1))).title == "title"
