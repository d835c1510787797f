"""What a detector is worth: counts by hand, curves, and what a record keeps."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from assay.core.embedding import Embedding
from assay.ood import DetectionResult, MaxLogit, evaluate


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
