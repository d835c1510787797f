"""Groups compared at an equal covariate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import AssayError
from assay.stats import stratified_difference


def test_by_hand() -> None:
    """By the covariate, the first four rows are one stratum: 8 - 2 = 6, weight 1 · 3 / 4. The last
    three the other: (5 + 7) / 2 - 3 = 3, weight 2 · 1 / 3."""
    values, group = [1, 5, 2, 8, 3, 3, 7], [0, 1, 0, 1, 0, 0, 1]
    by = [0, 5, 1, 2, 3, 4, 6]
    found, weight = stratified_difference(values, group, by, strata=2)
    assert weight == pytest.approx(3 / 4 + 2 / 3)
    assert found == pytest.approx((6 * 3 / 4 + 3 * 2 / 3) / (3 / 4 + 2 / 3))


def test_a_stratum_of_one_group_says_nothing() -> None:
    found, weight = stratified_difference([1, 4, 9, 5, 6], [0, 1, 1, 0, 0], [0, 1, 2, 3, 4], 2)
    assert weight == pytest.approx(2 / 3)
    assert found == pytest.approx((4 + 9) / 2 - 1)


def test_what_a_covariate_adds_goes_away() -> None:
    """The group has a larger covariate and the values rise with it, but not with the group."""
    rng = np.random.default_rng(0)
    by = rng.normal(size=4000)
    group = by + rng.normal(size=4000) > 0
    values = 2 * by + rng.normal(size=4000)
    raw = values[group].mean() - values[~group].mean()
    found, _ = stratified_difference(values, group, by)
    assert raw > 2
    assert abs(found) < 0.1 * raw
    shifted, _ = stratified_difference(values + 0.7 * group, group, by)
    assert shifted - found == pytest.approx(0.7)


@given(st.integers(0, 10_000))
def test_the_other_group_gives_the_opposite(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, by, group = rng.random(30), rng.random(30), rng.random(30) < 0.4
    one, weight = stratified_difference(values, group, by, strata=3)
    other, same = stratified_difference(values, ~group, by, strata=3)
    assert weight == pytest.approx(same)
    if weight:
        assert one == pytest.approx(-other)


def test_one_group_alone_says_nothing_and_rows_without_a_value_are_left_out() -> None:
    found, weight = stratified_difference([1.0, 2.0], [True, True], [0, 1])
    assert math.isnan(found)
    assert weight == 0
    whole = stratified_difference([1, 4], [0, 1], [0, 0], strata=1)
    assert stratified_difference([1, 4, math.nan], [0, 1, 1], [0, 0, 0], strata=1) == whole
    with pytest.raises(AssayError, match="one row each: got 2, 1 and 2"):
        stratified_difference([1, 2], [True], [0, 1])
