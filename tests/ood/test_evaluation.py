"""What a detector is worth: counts by hand, curves, and what a record keeps."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from assay.core.classifier import Classifier
from assay.core.embedding import Embedding
from assay.errors import AssayError
from assay.ood import DetectionResult, MaxLogit, evaluate, overlap, risk_coverage


def scoring(*scores: float) -> Embedding:
    """An embedding whose max-logit scores are these."""
    top = -torch.tensor(scores)
    return Embedding(torch.stack([top, top - 1], dim=1), None)


CALIBRATION = scoring(*range(1, 20))  # threshold at 95 %: the 19th of 19
FITTED = MaxLogit().fit(scoring(0.0, 0.5), calibrate=CALIBRATION)


@pytest.fixture
def result() -> DetectionResult:
    return evaluate(FITTED, scoring(1, 5, 19, 20), scoring(18, 30, 40, 50, 60))


def test_confusion_at_the_calibrated_threshold_by_hand(result: DetectionResult) -> None:
    assert result.threshold == 19
    assert result.confusion is not None
    assert vars(result.confusion) == {
        "inliers_kept": 3,  # 19 itself is let through
        "inliers_flagged": 1,
        "outliers_kept": 1,
        "outliers_flagged": 4,
    }


def test_auroc_by_hand(result: DetectionResult) -> None:
    # Of 4 · 5 pairs two are the wrong way round: 18 lies below 19 and 20.
    assert result.auroc.value == pytest.approx(18 / 20)
    assert result.auroc.low < 18 / 20 < result.auroc.high <= 1


def test_fpr95_by_hand() -> None:
    # 100 inliers 1 ... 100: 95 % are kept by a threshold of 95; 2 of 8 outliers do not exceed it.
    result = evaluate(
        MaxLogit().fit(scoring(0.0, 0.5)),
        scoring(*range(1, 101)),
        scoring(50, 94.5, 95.5, 96, 200, 201, 202, 203),
    )
    assert result.fpr95.value == pytest.approx(2 / 8)


def test_the_curve_goes_from_corner_to_corner_and_up(result: DetectionResult) -> None:
    inliers, outliers = result.roc
    assert (inliers[0], outliers[0]) == (0, 0)
    assert (inliers[-1], outliers[-1]) == (1, 1)
    assert bool((np.diff(inliers) >= 0).all())
    assert np.trapezoid(outliers, inliers) == pytest.approx(18 / 20)


def test_histograms_count_every_row_over_common_bins(result: DetectionResult) -> None:
    edges, inliers, outliers = result.histogram(bins=10)
    assert (edges[0], edges[-1]) == (1, 60)
    assert inliers.tolist() == [2, 0, 0, 2, 0, 0, 0, 0, 0, 0]
    assert outliers.tolist() == [0, 0, 1, 0, 1, 0, 1, 0, 1, 1]


def test_a_histogram_takes_infinite_scores_into_its_ends() -> None:
    found = DetectionResult("made-up", np.array([-np.inf, 0, 1]), np.array([3, 4, np.inf]))
    edges, inliers, outliers = found.histogram(bins=4)
    assert edges.tolist() == [0, 1, 2, 3, 4]
    assert (inliers.tolist(), outliers.tolist()) == ([2, 1, 0, 0], [0, 0, 0, 3])
    nothing = DetectionResult("made-up", np.array([-np.inf]), np.array([np.inf]))
    edges, inliers, outliers = nothing.histogram(bins=2)
    assert np.isfinite(edges).all()
    assert (inliers.tolist(), outliers.tolist()) == ([1, 0], [0, 1])


@pytest.mark.parametrize("size", [1e-12, 2 / 3, 1e30])
def test_a_histogram_of_scores_that_rounding_alone_tells_apart(size: float) -> None:
    scores = size * (1 + np.arange(5) * 2.3e-16)
    edges, inliers, outliers = DetectionResult("made-up", scores, scores[::-1]).histogram()
    assert (np.diff(edges) > 0).all()
    assert inliers.sum() == outliers.sum() == 5


def test_a_record_is_json_and_short() -> None:
    draw = torch.Generator().manual_seed(0)
    inside, outside = (torch.randn(5000, generator=draw) + shift for shift in (0, 1))
    result = evaluate(FITTED, scoring(*inside.tolist()), scoring(*outside.tolist()))
    kept = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert kept["detector"] == "max-logit"
    assert (kept["n_in"], kept["n_out"], kept["calibrated_on"]) == (5000, 5000, 19)
    assert kept["auroc"]["value"] == result.auroc.value
    assert len(kept["roc"]) <= 200
    assert kept["roc"][0] == [0, 0]
    assert kept["roc"][-1] == [1, 1]
    area = np.trapezoid([y for _, y in kept["roc"]], [x for x, _ in kept["roc"]])
    assert area == pytest.approx(result.auroc.value, abs=2e-3)  # thinning costs little
    assert sum(kept["histogram"]["inliers"]) == sum(kept["histogram"]["outliers"]) == 5000


def test_without_a_threshold_there_is_no_confusion() -> None:
    result = evaluate(MaxLogit().fit(scoring(0.0)), scoring(1, 2), scoring(3))
    assert result.confusion is None
    assert result.to_dict()["confusion"] is None


def test_it_shows_itself(result: DetectionResult) -> None:
    shown = result._repr_html_()
    assert "<svg" in shown
    assert "max-logit" in shown
    assert len(result.plot("roc").axes[0].lines) == 2  # the curve and the line of guessing


# -- doubts ----------------------------------------------------------------------------------------


def test_aupr_by_hand(result: DetectionResult) -> None:
    # Outliers 18, 30, 40, 50, 60 among inliers 1, 5, 19, 20: precision 1 four times, then 5 / 7.
    assert result.aupr_out.value == pytest.approx((4 + 5 / 7) / 5)
    # Inliers, from the lowest: 1, 5, then 18 is passed: 3 / 4, 4 / 5.
    assert result.aupr_in.value == pytest.approx((2 + 3 / 4 + 4 / 5) / 4)
    assert result.aupr_in.low < result.aupr_in.value < result.aupr_in.high


def test_what_little_data_can_say_is_said() -> None:
    enough = [float(k) for k in range(40)]
    quiet = evaluate(FITTED, scoring(*enough), scoring(*(k + 0.5 for k in enough)))
    assert quiet.notes == ()
    few = evaluate(FITTED, scoring(*enough), scoring(50, 60, 70, 80))
    assert few.notes == ("only 4 outliers: FPR95 moves in steps of 25 points",)
    fewer = evaluate(FITTED, scoring(1, 2, 3), scoring(*(k + 0.5 for k in enough)))
    assert fewer.notes[0].startswith("only 3 inliers: the threshold that keeps 95 %")


def test_constant_scores_are_guessing_and_said() -> None:
    flat = evaluate(FITTED, scoring(*[1.0] * 30), scoring(*[1.0] * 30))
    assert (flat.auroc.value, flat.fpr95.value) == (0.5, 1.0)
    assert flat.notes[0].startswith("all inliers and outliers have the same score")
    calibrated = MaxLogit().fit(scoring(0.0), calibrate=scoring(*[1.0] * 30))
    assert calibrated.notes == ("all 30 rows it was calibrated on have the same score",)


def test_rows_that_are_in_both_sets_are_named() -> None:
    inside = [float(k) for k in range(30)]
    found = evaluate(FITTED, scoring(*inside), scoring(*map(float, range(40, 70)), 7.0, 3.0))
    assert found.notes == (
        "2 of 32 outliers give the model's very answer to an inlier, and may be the same inputs: "
        "outlier 30 is inlier 7, outlier 31 is inlier 3",
    )


def test_equal_images_are_found_whatever_the_model_says() -> None:
    draw = torch.Generator().manual_seed(0)
    x = (torch.rand(20, 1, 4, 4, generator=draw) * 255).round() / 255
    clf = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), batch_size=7)
    others = torch.cat([1 - x[:9], x[[4, 4, 11]] + 0.001])
    pairs = overlap(clf.embed(x), clf.embed(others.clamp(0, 1)))
    assert pairs == [(4, 9), (4, 10), (11, 11)]
    assert overlap(clf.embed(x), clf.embed(1 - x)) == []


# -- risk and coverage -----------------------------------------------------------------------------


def test_risk_by_hand() -> None:
    curve = risk_coverage([3, 1, 2, 4], [True, False, True, False])  # kept in order: n, y, y, n
    assert curve.risk.tolist() == pytest.approx([0, 1 / 2, 2 / 3, 2 / 4])
    assert curve.coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert curve.aurc == pytest.approx((0 + 1 / 2 + 2 / 3 + 1 / 2) / 4)
    assert curve.least == pytest.approx((0 + 0 + 1 / 3 + 2 / 4) / 4)
    assert (curve.at(0.5), curve.at(0.3), curve.at(1)) == pytest.approx((0.5, 0.5, 0.5))


def test_ties_are_broken_evenly() -> None:
    # of the three that tie one is wrong: after 1, 2, 3 of them 1/3, 2/3, 1 errors are kept
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]):
        scores, wrong = np.array([5, 5, 5, 9])[order], np.array([True, False, False, True])[order]
        curve = risk_coverage(scores, wrong)
        assert curve.risk.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 2 / 4])


def test_what_has_no_curve() -> None:
    with pytest.raises(AssayError, match="1 of 2 scores are NaN"):
        risk_coverage([1, np.nan], [True, False])
    with pytest.raises(AssayError, match="2 scores, 3 errors"):
        risk_coverage([1, 2], [True, False, True])
    with pytest.raises(AssayError, match="0 scores"):
        risk_coverage([], [])
