"""Means over networks and images: numbers by hand, what must not happen, and coverage."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import special

from assay import stats
from assay.errors import AssayError
from assay.stats.crossed import Variances, crossed_mean, still_missing
from assay.stats.looks import may_be_decided

ROOT = Path(__file__).resolve().parents[2]


def simulation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("crossed", ROOT / "benchmarks" / "crossed.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["crossed"] = module
    spec.loader.exec_module(module)
    return module


drawn = simulation()

# -- by hand -------------------------------------------------------------------------------------

TWO = np.array([[1.0, 2.0, 6.0], [3.0, 4.0, 8.0]])
"""Network means 3 and 5, image means 2, 3 and 7, all in all 4: both effects, and no rest."""


def test_variances_by_hand() -> None:
    """Analysis of variance: the mean squares of the networks are 3 · 2 = 6 (1 d.f.), of the images
    2 · (4 + 1 + 9) / 2 = 14, of the rest 0; so σ² = 6 / 3 = 2 of networks and 14 / 2 = 7 of
    images would be unbiased. Estimates from pairs differ by what the mean takes: Σd² is counted
    where the rest would be."""
    found = crossed_mean(TWO)
    assert found.estimate.value == 4
    assert found.images == 3
    v = found.variances
    assert v is not None
    # Σd² = 9+4+4+1+0+16 = 34; of networks (2·(9+9) − 34) / 12; of images (1.5·(16+4+36) − 34) / 6
    assert v.networks == pytest.approx((2 * 18 - 34) / 12)
    assert v.images == pytest.approx((1.5 * 56 - 34) / 6)
    assert v.rest == pytest.approx(max(0, 34 / 6 - 2 / 12 - 50 / 6))
    assert (v.per_network, v.per_image, v.values) == (1 / 2, 1 / 3, 6)


def test_the_interval_by_hand() -> None:
    """Two networks: t at 1 d.f. is 12.706; images count as normal, and once more by 1/3 for few."""
    found = crossed_mean(TWO)
    of_networks, of_images = (2 / 12) / 2, (50 / 6) / 3 * (1 + 1 / 3)
    half = math.sqrt(12.7062**2 * of_networks + 1.959964**2 * of_images)
    assert found.estimate.high - 4 == pytest.approx(half, rel=1e-5)
    assert 4 - found.estimate.low == pytest.approx(half, rel=1e-5)


def test_where_every_network_agrees_on_every_image_it_is_wilsons_of_one() -> None:
    """Twelve copies of one network know no more than that one, on 200 images: but for the images
    that are rarely wrong, of which there are 40."""
    right = np.tile(np.arange(200) % 5 > 0, (12, 1)).astype(float)
    found = crossed_mean(right, "share").estimate
    one = stats.proportion(160, 200, "images")
    assert found.value == one.value
    assert found.high - found.low == pytest.approx((one.high - one.low) * math.sqrt(41 / 40), 0.01)


def test_one_error_in_all_is_hardly_known() -> None:
    """One network of eight is wrong on one image of 100: half way to images that all agree on."""
    x = np.ones((8, 100))
    x[3, 17] = 0
    found = crossed_mean(x, "share").estimate
    assert 1 - found.low > 3 * (1 - stats.proportion(799, 800, "answers").low)
    assert 1 - found.low < 1 - stats.proportion(99, 100, "images").low


def test_a_gap_is_a_value_that_is_not_there() -> None:
    """Each network on images of its own: they are nested, and no image is met twice."""
    rng = np.random.default_rng(0)
    x = np.full((6, 60), math.nan)
    for s in range(6):
        x[s, 10 * s : 10 * s + 10] = rng.normal(s, 1, 10)
    found = crossed_mean(x)
    assert found.estimate.value == pytest.approx(np.nanmean(x))
    assert found.variances is not None
    assert found.variances.images == 0
    assert (found.variances.per_network, found.variances.per_image) == (1 / 6, 1 / 60)
    nested = stats.mean_interval(np.nanmean(x, 1))
    assert found.estimate.high - found.estimate.low == pytest.approx(
        nested.high - nested.low, rel=0.02
    )


# -- what must not happen ------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "low", "high"), [(1.0, 0.9, 1.0), (0.0, 0.0, 0.1)])
def test_all_right_or_all_wrong_is_no_certainty(value: float, low: float, high: float) -> None:
    found = crossed_mean(np.full((5, 40), value), "share").estimate
    wilson = stats.proportion(int(40 * value), 40, "images")
    assert found.value == value
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high))
    assert low < found.high <= high or value == 1.0


@pytest.mark.parametrize("kind", ["share", "difference", "number"])
@pytest.mark.parametrize("shape", [(1, 30), (30, 1), (0, 5), (5, 0), (1, 1)])
def test_one_network_or_one_image_says_nothing(kind: stats.Kind, shape: tuple[int, int]) -> None:
    found = crossed_mean(np.ones(shape), kind)
    ends = {"share": (0, 1), "difference": (-1, 1), "number": (-math.inf, math.inf)}[kind]
    assert (found.estimate.low, found.estimate.high) == ends
    assert found.variances is None
    missing = still_missing(found, 0.1, level=0.95)
    assert (missing.seeds, missing.images) == (None, None)


def test_equal_numbers_have_no_interval() -> None:
    found = crossed_mean(np.full((4, 9), 2.5)).estimate
    assert (found.low, found.value, found.high) == (-math.inf, 2.5, math.inf)


@pytest.mark.parametrize(
    ("values", "kind", "said"),
    [
        ([1.0, 0.0], "share", r"shape \(networks, images\), got \(2,\)"),
        ([[1.0, 0.5]], "share", r"a share has values 0, 1, got 0\.5"),
        ([[1.0, 2.0]], "difference", r"a difference has values -1, 0, 1, got 2"),
        ([[1.0, math.inf]], "number", "1 of 2 values are infinite"),
    ],
)
def test_what_cannot_be_is_refused(values: Any, kind: stats.Kind, said: str) -> None:
    with pytest.raises(AssayError, match=said):
        crossed_mean(values, kind)


@given(
    arrays(
        float,
        st.tuples(st.integers(2, 6), st.integers(2, 30)),
        elements=st.sampled_from([0.0, 1.0]),
    )
)
def test_an_interval_of_a_share_holds_it_and_has_a_width(x: np.ndarray[Any, Any]) -> None:
    found = crossed_mean(x, "share").estimate
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high - found.low > 0.01
    mirrored = crossed_mean(1 - x, "share").estimate
    if abs(x.mean() - 0.5) > 1e-9:  # at a half, which answer is the rarer one is arbitrary
        assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((found.low, found.high))
    mixed = crossed_mean(x[::-1, ::-1], "share").estimate
    assert (mixed.low, mixed.high) == pytest.approx((found.low, found.high))


@given(
    arrays(
        float,
        st.tuples(st.integers(2, 6), st.integers(2, 30)),
        elements=st.sampled_from([-1.0, 0.0, 1.0]),
    )
)
def test_an_interval_of_a_difference_turns_with_it(x: np.ndarray[Any, Any]) -> None:
    found, turned = (crossed_mean(y, "difference").estimate for y in (x, -x))
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert (-turned.high, -turned.low) == pytest.approx((found.low, found.high))


# -- what would decide ---------------------------------------------------------------------------


def known(networks: float, images: float, rest: float, s: int, n: int) -> stats.Crossed:
    """What is known by variances alone: an interval of no more than these."""
    estimate = stats.Estimate(0.0, 0.0, 0.0, s, "seeds")
    return stats.Crossed(estimate, Variances(networks, images, rest, 1 / s, 1 / n, s * n), n)


def test_seeds_decide_what_seeds_leave_open() -> None:
    """σ of 1 between networks and none between images: 1.96 / √n < 0.5 from about 18 on."""
    missing = still_missing(known(1.0, 0.0, 0.0, 4, 100), 0.5, level=0.95)
    assert missing.seeds is not None
    n = 4 + missing.seeds
    quantile = [float(special.stdtrit(k - 1, 0.975)) for k in (n - 1, n)]
    assert quantile[1] / math.sqrt(n) < 0.5 <= quantile[0] / math.sqrt(n - 1)
    assert missing.images is None


def test_images_decide_what_images_leave_open() -> None:
    """σ of 1 between images: 1.96 / √n < 0.1 from 385 images on, with any number of seeds."""
    found = known(0.0, 1.0, 0.0, 4, 100)
    assert still_missing(found, 0.1, level=0.95, there_are=1000) == stats.Missing(None, 285)
    assert still_missing(found, 0.1, level=0.95, there_are=300) == stats.Missing(None, None)
    assert still_missing(found, 0.1, level=0.95) == stats.Missing(None, None)


def test_seeds_with_images_of_their_own_bring_images() -> None:
    """1 image a seed of 10,000: nested, 385 of them decide; the same images for all never do."""
    s, n = 10, 10
    estimate = stats.Estimate(0.0, 0.0, 0.0, s, "seeds")
    own = stats.Crossed(estimate, Variances(0.0, 1.0, 0.0, 1 / s, 1 / 100, 100), 100)
    missing = still_missing(own, 0.1, level=0.95, there_are=10_000)
    assert missing.seeds == pytest.approx(385 / n - s, abs=2)
    same = known(0.0, 1.0, 0.0, s, n)
    assert still_missing(same, 0.1, level=0.95, there_are=10_000).seeds is None


@pytest.mark.parametrize(
    ("kind", "image"),
    [
        ("number", [1.0, 2.0, 3.0, 8.0]),
        ("difference", [1.0] * 5 + [0.0] * 295),
        ("share", [1.0] * 5 + [0.0] * 295),
    ],
)
def test_seeds_do_not_decide_what_few_images_leave_open(
    kind: stats.Kind, image: list[float]
) -> None:
    """Eight copies of one network, and a gap just below half their interval: more copies say no
    more, whatever the variances alone would make of it."""
    found = crossed_mean(np.tile(image, (8, 1)), kind)
    more = crossed_mean(np.tile(image, (500, 1)), kind).estimate
    gap = 0.95 * (found.estimate.high - found.estimate.low) / 2
    assert (more.high - more.low) / 2 > gap
    missing = still_missing(found, gap, level=0.95, there_are=10 * len(image))
    assert missing.seeds is None
    assert missing.images is not None
    grown = crossed_mean(np.tile(image * 10, (8, 1)), kind).estimate
    assert (grown.high - grown.low) / 2 < gap


def test_how_many_seeds_is_what_so_many_more_give() -> None:
    """200 networks on one set of images: half their interval is what 12 of them let expect."""
    rng = np.random.default_rng(4)
    x = rng.normal(0, 1, (200, 1)) + rng.normal(0, 0.5, (1, 900)) + rng.normal(0, 1, (200, 900))
    found = crossed_mean(x[:12])
    wide = crossed_mean(x).estimate
    missing = still_missing(found, (wide.high - wide.low) / 2, level=0.95)
    assert missing.seeds is not None
    assert 100 < 12 + missing.seeds < 400


# -- claims --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, 0.7, -1e6])
def test_equal_numbers_say_nothing_of_the_spread_however_they_round(value: float) -> None:
    x = np.full((3, 7), value)
    x[0, 0] = math.nan
    found = stats.crossed_mean(x, "number").estimate
    assert (found.low, found.high) == (-math.inf, math.inf)
    x[0, 1] += 1e-6 * abs(value) + 1e-6
    assert math.isfinite(stats.crossed_mean(x, "number").estimate.low)


def effect(x: np.ndarray[Any, Any], delta: float, **more: Any) -> stats.Effect:
    return stats.Effect(
        "a.b", "", delta, list(x.mean(1)), per_image=stats.PerImage(x, "difference"), **more
    )


def test_a_claim_on_images_in_general_says_so_and_is_not_decided_by_seeds_alone() -> None:
    """Eight copies of one network: seeds agree, and the 60 images do not decide."""
    rng = np.random.default_rng(3)
    x = np.tile(rng.choice([-1.0, 0.0, 1.0], 60, p=[0.1, 0.6, 0.3]), (8, 1))
    (claim,) = stats.judge_claims([effect(x, 0.08)])
    (alone,) = stats.judge_claims([stats.Effect("a.b", "", 0.08, list(x.mean(1)), 1e-6)])
    assert (alone.verdict, alone.about) == ("holds", "networks, on these images")
    assert (claim.verdict, claim.about) == ("undecided", "networks and images")
    assert (claim.seeds_needed, claim.images_needed) == (None, None)
    assert "Neither more seeds nor the whole test set would decide it." in claim.note
    more = stats.PerImage(x, "difference", there_are=100_000)
    (planned,) = stats.judge_claims([stats.Effect("a.b", "", 0.08, [0.0], per_image=more)])
    assert planned.images_needed is not None
    assert planned.note == ""


def test_seeds_are_not_added_where_no_number_of_them_decides() -> None:
    rng = np.random.default_rng(3)
    x = np.tile(rng.choice([-1.0, 0.0, 1.0], 60, p=[0.1, 0.6, 0.3]), (64, 1))
    seen = []

    def judged(seeds: int) -> Any:
        seen.append(seeds)
        return stats.judge_claims([effect(x[:seeds], 0.08)], look=len(seen))

    stats.until_decided(judged, 1, 64)
    assert seen == [1, 2], "one seed says nothing, and two that more of them will not help"


def test_what_was_decided_on_these_images_is_not_said_of_images_in_general_later() -> None:
    """Results that are kept image by image since then change nothing of the interval that stays."""
    x = np.tile(np.random.default_rng(3).choice([-1.0, 0.0, 1.0], 60, p=[0.1, 0.6, 0.3]), (8, 1))
    (before,) = stats.judge_claims([stats.Effect("a.b", "", 0.08, list(x.mean(1)), 1e-6)])
    (now,) = stats.judge_claims([effect(x, 0.08)], look=2, decided=[before])
    assert (now.verdict, now.look, now.estimate) == ("holds", 1, before.estimate)
    assert now.about == before.about == "networks, on these images"


def test_a_mean_that_is_delta_by_chance_gets_more_seeds() -> None:
    """12 of 600 answers are 2 %: no number of seeds decides at this mean, but it will not stay."""
    x = np.zeros((2, 300))
    x[0, :7], x[1, 3:8] = 1, 1
    (claim,) = stats.judge_claims([effect(x, 0.02)])
    assert (claim.estimate.value, claim.seeds_needed) == (0.02, None)
    assert "Neither" not in claim.note
    assert may_be_decided(claim)


def test_equal_values_of_drawn_images_get_more_seeds() -> None:
    """Their spread is not known yet."""
    drawn_images = stats.Effect("a.b", "", 0.02, [0.5, 0.5], images_drawn=True)
    (claim,) = stats.judge_claims([drawn_images])
    assert (claim.about, claim.seeds_needed) == ("networks and images", None)
    assert may_be_decided(claim)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.01, 0.01, "equivalent"),
        (-0.03, 0.01, "undecided"),
        (-0.02, 0.01, "undecided"),
        (0.021, 0.03, "does not hold"),
        (-0.03, -0.021, "does not hold"),
        (-math.inf, math.inf, "undecided"),
    ],
)
def test_equivalent_is_what_lies_within_delta(low: float, high: float, verdict: str) -> None:
    assert stats.judge(low, high, 0.02, "equivalent") == verdict


def test_two_one_sided_tests_spend_the_share_of_alpha_each() -> None:
    values = [0.001, -0.002, 0.0005, 0.001]
    one = stats.Effect("a.b", "", 0.02, values, 1e-6, asks="equivalent")
    claim, other = stats.judge_claims([one, stats.Effect("a.c", "", 0.02, values, 1e-6)])
    assert (claim.verdict, other.verdict) == ("equivalent", "does not hold")
    assert 1 - claim.estimate.level == pytest.approx(2 * (1 - other.estimate.level))
    (again, _) = stats.judge_claims(
        [one, stats.Effect("a.c", "", 0.02, values, 1e-6)], look=2, decided=[claim]
    )
    assert (again.verdict, again.look) == ("equivalent", 1), "what was decided stays"
    wide = stats.Effect("a.b", "", 0.001, [0.01, -0.03, 0.02], asks="equivalent")
    (claim,) = stats.judge_claims([wide])
    assert claim.verdict == "undecided"


def test_what_was_chosen_by_its_own_results_has_the_interval_of_all_it_was_chosen_from() -> None:
    """One of twelve pairs: its share of alpha is a twelfth, now and where it was decided before."""
    values = [0.05, 0.06, 0.055, 0.052]
    free = stats.Effect("a.b", "", 0.02, values)
    chosen = stats.Effect("a.b", "", 0.02, values, chosen_among=12)
    (one,), (other,) = stats.judge_claims([free]), stats.judge_claims([chosen])
    assert 1 - other.estimate.level == pytest.approx((1 - one.estimate.level) / 12)
    assert other.estimate.low < one.estimate.low
    (again,) = stats.judge_claims([chosen], look=2, decided=[one])
    assert again.look == 2, "decided with more than its share: judged again"
    (kept,) = stats.judge_claims([chosen], look=2, decided=[other])
    assert kept.look == 1


# -- coverage: benchmarks/crossed.py prints the whole table ---------------------------------------


@pytest.mark.parametrize("correlation", [0.0, 0.5])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("networks", [3, 24])
def test_the_interval_covers_shares(networks: int, share: float, correlation: float) -> None:
    found = drawn.measure(drawn.Answers(share, correlation), networks, 300, 400)
    assert found.covered + 3 * math.sqrt(0.94 * 0.06 / 400) >= 0.94
    if networks >= 8:
        assert found.width < 1.35


@pytest.mark.parametrize("agree", [0.5, 0.97])
@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_the_interval_covers_differences(agree: float, correlation: float) -> None:
    found = drawn.measure(drawn.Differences(agree, 0.8, correlation), 8, 300, 400)
    assert found.covered + 3 * math.sqrt(0.94 * 0.06 / 400) >= 0.94
    assert found.width < 1.35


def test_seeds_alone_do_not_cover_where_networks_agree() -> None:
    found = drawn.measure(drawn.Answers(0.7, 0.35), 12, 300, 300)
    assert found.nested < 0.85
    assert found.covered > 0.92
