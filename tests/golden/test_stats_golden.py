"""Numbers worked out by hand, printed in papers, or computed by scipy and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats
from sklearn import metrics

from assay.stats import (
    auroc,
    binomial_variance,
    calibration,
    calibration_error,
    confusion,
    fpr_at_tpr,
    level_at,
    mcnemar,
    mean_interval,
    paired_difference,
    proportion,
    roc_curve,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_is_what_newcombe_1998_prints(
    successes: int, n: int, low: float, high: float
) -> None:
    """Newcombe (1998), "Two-sided confidence intervals for the single proportion", method 3."""
    estimate = proportion(successes, n, "patients")
    assert (round(estimate.low, 4), round(estimate.high, 4)) == (low, high)
    assert estimate.value == successes / n


def test_t_interval_by_hand() -> None:
    """1, 2, 3: mean 2, deviation 1, t(0.975, 2) = 4.302653, half 4.302653 / sqrt(3)."""
    estimate = mean_interval([1.0, 2.0, 3.0])
    half = 4.302652729911275 / math.sqrt(3)
    assert (estimate.value, estimate.n) == (2.0, 3)
    assert estimate.low == pytest.approx(2 - half, rel=1e-9)
    assert estimate.high == pytest.approx(2 + half, rel=1e-9)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.999])
def test_t_interval_against_scipy(level: float) -> None:
    a, b = [0.71, 0.74, 0.70, 0.78], [0.66, 0.73, 0.69, 0.70]
    ours = paired_difference(a, b, level=level)
    theirs = scipy_stats.ttest_rel(a, b).confidence_interval(level)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)


def test_floor_by_hand() -> None:
    """Three times 0.75 on 996 images: (747 + 2) / 1000 = 0.749, variance 0.749 · 0.251 / 996."""
    variance = 0.749 * 0.251 / 996
    assert binomial_variance(0.75, 996) == pytest.approx(variance, rel=1e-12)
    estimate = mean_interval([0.75, 0.75, 0.75], floor_variance=variance)
    assert estimate.high - 0.75 == pytest.approx(4.302652729911275 * math.sqrt(variance / 3))
    spread = mean_interval([0.5, 0.7, 0.9], floor_variance=variance)
    assert spread == mean_interval([0.5, 0.7, 0.9]), "a floor below the spread changes nothing"


def test_mcnemar_by_hand() -> None:
    """A alone right 5 times, B alone once: p = 2 · (C(6,0) + C(6,1)) / 2^6 = 14 / 64.

    Bonett & Price: centre (5 - 1) / 12, variance ((6 + 2) / 12 - centre²) / 12.
    """
    a = [1, 1, 1, 1, 1, 0, 1, 1, 0, 0]
    b = [0, 0, 0, 0, 0, 1, 1, 1, 0, 0]
    result = mcnemar(a, b)
    assert (result.only_a, result.only_b, result.p) == (5, 1, pytest.approx(14 / 64))
    half = 1.959963984540054 * math.sqrt((8 / 12 - 1 / 9) / 12)
    assert result.difference.value == pytest.approx(0.4)
    assert result.difference.low == pytest.approx(1 / 3 - half)
    assert result.difference.high == pytest.approx(1 / 3 + half)


def test_mcnemar_of_a_model_with_itself() -> None:
    result = mcnemar([True, False, True], [True, False, True])
    assert (result.p, result.difference.value) == (1.0, 0.0)
    assert result.difference.low < 0 < result.difference.high


def test_auroc_by_hand() -> None:
    """Inliers 1, 2, 3, outliers 1.5, 2.5, 3.5. Placements 1/3, 2/3, 1 on either side: area 2/3,
    each variance 1/9, so DeLong's is 2 · (1/9) / 3; the slope of the logit there is 9/2."""
    estimate = auroc([1, 2, 3], [1.5, 2.5, 3.5])
    half = 1.959963984540054 * math.sqrt(2 / 27) * 4.5
    assert estimate.value == pytest.approx(2 / 3)
    assert estimate.low == pytest.approx(1 / (1 + math.exp(-(math.log(2) - half))))
    assert estimate.high == pytest.approx(1 / (1 + math.exp(-(math.log(2) + half))))
    assert estimate.n == 6


def test_auroc_counts_ties_half() -> None:
    assert auroc([0, 1], [1, 1]).value == 0.75
    assert auroc([1, 1, 1], [1, 1]).value == 0.5


def test_auroc_at_its_ends() -> None:
    """Centre 101/102, Newcombe's variance there, and the end itself."""
    apart = auroc(np.zeros(50), np.ones(50))
    theta = 101 / 102
    overlap = (1 - theta) / (2 - theta) + theta / (1 + theta)
    variance = theta * (1 - theta) * (1 + 49 * overlap) / 2500
    logit = math.log(101) - 1.959963984540054 * math.sqrt(variance) / (theta * (1 - theta))
    assert (apart.value, apart.high) == (1.0, 1.0)
    assert apart.low == pytest.approx(1 / (1 + math.exp(-logit)))
    assert 0.92 < apart.low < 0.94, "Wilson's for 50 of 50 is 0.929"
    wrong = auroc(np.ones(50), np.zeros(50))
    assert (wrong.value, wrong.low) == (0.0, 0.0)
    assert wrong.high == pytest.approx(1 - apart.low)
    assert auroc(np.zeros(50), np.zeros(50)).low < 0.45, "a constant score proves nothing"


@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_ranking_against_scikit_learn(decimals: int) -> None:
    """With many ties, some, and none; both conventions of FPR95."""
    rng = np.random.default_rng(decimals)
    inliers, outliers = rng.normal(0, 1, 237), rng.normal(1.5, 2, 181)
    inliers, outliers = inliers.round(decimals), outliers.round(decimals)
    is_outlier, scores = np.repeat([0, 1], [237, 181]), np.concatenate([inliers, outliers])
    assert auroc(inliers, outliers).value == pytest.approx(
        metrics.roc_auc_score(is_outlier, scores), abs=1e-12
    )
    fpr, tpr, thresholds = metrics.roc_curve(is_outlier, scores, drop_intermediate=False)
    ours = roc_curve(inliers, outliers)
    for mine, theirs in zip(ours, (fpr, tpr, thresholds), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-12)
    openood = fpr[np.argmax(tpr >= 0.95)]
    assert fpr_at_tpr(inliers, outliers, positive="out").value == pytest.approx(openood)
    fpr, tpr, _ = metrics.roc_curve(1 - is_outlier, -scores, drop_intermediate=False)
    odin = fpr[np.argmax(tpr >= 0.95)]
    assert fpr_at_tpr(inliers, outliers).value == pytest.approx(odin)
    assert openood != pytest.approx(odin), "the two conventions must be told apart here"


def test_fpr95_by_hand() -> None:
    """Twenty inliers 1 ... 20: the threshold that accepts 19 is 19; 3 of 4 outliers pass it."""
    inliers, outliers = np.arange(1, 21), [5, 18.5, 19, 19.5]
    assert fpr_at_tpr(inliers, outliers).value == 0.75
    assert fpr_at_tpr(inliers, outliers, tpr=0.9).value == 0.25
    # All four outliers are caught from 5 on, which flags the inliers 5 ... 20.
    assert fpr_at_tpr(inliers, outliers, positive="out").value == 0.8


def test_ece_by_hand() -> None:
    """Five bins. (0.4, 0.6]: twice 0.6, one right: gap 0.1. (0.8, 1]: 0.9 and 1.0, both right:
    gap 0.05. ECE = (2 · 0.1 + 2 · 0.05) / 4."""
    probabilities = np.array([[0.6, 0.4], [0.6, 0.4], [0.1, 0.9], [0.0, 1.0]])
    result = calibration(probabilities, [0, 1, 1, 1], bins=5, rng=np.random.default_rng(0))
    assert result.ece.value == pytest.approx(0.075)
    assert result.count.tolist() == [0, 0, 2, 0, 2]
    assert result.correct.tolist() == [0, 0, 1, 0, 2]
    np.testing.assert_allclose(result.confidence, [np.nan, np.nan, 0.6, np.nan, 0.95])
    np.testing.assert_allclose(result.accuracy, [np.nan, np.nan, 0.5, np.nan, 1.0])
    np.testing.assert_allclose(result.edges, [0, 0.2, 0.4, 0.6, 0.8, 1])
    alone = calibration_error([0.6, 0.6, 0.9, 1.0], [True, False, True, True], bins=5)
    assert alone == pytest.approx(0.075), "of answers alone"
    halves = calibration(probabilities, [0, 1, 1, 1], bins=2, rng=np.random.default_rng(0))
    assert halves.ece.value == pytest.approx((3.1 - 3) / 4), "all four lie in (0.5, 1]"
    edge = calibration([[0.5, 0.5], [0.1, 0.9]], [1, 1], bins=2, rng=np.random.default_rng(0))
    assert edge.count.tolist() == [1, 1], "0.5 lies in (0, 0.5]"
    assert calibration_error([0.5, 0.9], [False, True], bins=2) == pytest.approx(0.3)
    # The two sixes form one half, 0.9 and 1.0 the other: |1.2 - 1| + |1.9 - 2|.
    assert halves.ece_equal_mass == pytest.approx((0.2 + 0.1) / 4)


def test_confusion_against_scikit_learn() -> None:
    assert confusion([0, 0, 1, 2], [0, 1, 1, 0], 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    rng = np.random.default_rng(3)
    labels, predictions = rng.integers(0, 7, 500), rng.integers(0, 7, 500)
    np.testing.assert_array_equal(
        confusion(labels, predictions, 7), metrics.confusion_matrix(labels, predictions)
    )


def test_levels_by_hand() -> None:
    """Five claims share 5 %: 1 % each, half of it at the first look, a quarter at the second."""
    assert level_at(5) == pytest.approx(0.995)
    assert level_at(5, look=2) == pytest.approx(0.9975)
    assert level_at(1, look=1, alpha=0.1) == pytest.approx(0.95)
