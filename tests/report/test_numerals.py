"""How numbers are written."""

from __future__ import annotations

import math

import pytest

from assay.report import numerals
from assay.stats import Estimate


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.9137, "fraction", "91.4 %"),
        (0.031, "points", "+3.1 points"),
        (-0.031, "points", "−3.1 points"),
        (-0.0001, "points", "0.0 points"),
        (0.41234, "number", "0.412"),
        (12345.6, "number", "12,346"),
        (-math.log(999.7), "factor", "1.0 × 10³"),
        (-math.log(999.4), "factor", "×999"),
        (None, "fraction", "–"),
        (float("nan"), "fraction", "–"),
    ],
)
def test_with_unit(value, unit, text):
    assert numerals.with_unit(value, unit).replace("\u00a0", " ") == text


def test_a_metric_has_no_power_of_ten_of_a_computer():
    said = [numerals.metric(value, "loss") for value in (9999.4, 12345.6, 0.00005, float("nan"))]
    assert said == ["9999", "1.23 × 10⁴", "5.00 × 10⁻⁵", "–"]


def test_full_has_interval_and_n():
    estimate = Estimate(0.914, 0.894, 0.934, 1000, "images")
    assert numerals.full(estimate).replace("\u00a0", " ") == "91.4 % (89.4 to 93.4, n = 1,000)"
    nothing = Estimate(float("nan"), 0.0, 1.0, 0, "images")
    assert numerals.full(nothing) == "– (n = 0)"


@pytest.mark.parametrize(
    ("eps", "norm", "text"),
    [
        (8 / 255, "linf", "8/255"),
        (0.5 / 255, "linf", "0.5/255"),
        (0.03, "linf", "0.03"),
        (0.1, "linf", "0.1"),
        (51 / 255, "linf", "0.2"),
        (0.5, "l2", "0.5"),
        (1, "l0", "1 pixel"),
        (5, "l0", "5 pixels"),
        (0.0, "linf", "0"),
        (2e-9, "linf", "2e-09"),
        (1000.0 / 255 + 1, "linf", "4.92157"),
    ],
)
def test_budget(eps, norm, text):
    assert numerals.budget(eps, norm) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ms"), (0.00123, "1.2 ms"), (0.0949, "95 ms"), (0.095, "0.1 s"), (0.42, "0.4 s"),
     (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (None, "–")],
)  # fmt: skip
def test_duration(seconds, text):
    assert numerals.duration(seconds) == text
