"""AUROC and the curve against scikit-learn's, softmax scores against torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score, roc_curve

from assay.core.embedding import Embedding
from assay.ood import MaxLogit, MaxSoftmax, evaluate


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("shift", [-1.0, 0.0, 2.0])
def test_detection_is_scored_as_scikit_learn_does(shift: float, ties: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    inside = torch.randn(300, 4, generator=draw)
    outside = torch.randn(200, 4, generator=draw) - shift
    if ties:
        inside, outside = inside.round(), outside.round()
    result = evaluate(
        MaxLogit().fit(Embedding(inside, None)), Embedding(inside, None), Embedding(outside, None)
    )
    truth = np.repeat([0, 1], [300, 200])
    scores = -torch.cat([inside, outside]).double().amax(1).numpy()
    assert result.auroc.value == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    inliers, outliers, _ = roc_curve(truth, scores)
    ours = np.interp(inliers, *result.roc)
    vertical = np.diff(inliers, prepend=-1, append=2)
    lone = (vertical[:-1] > 0) & (vertical[1:] > 0)  # where the curve has one height only
    np.testing.assert_allclose(ours[lone], outliers[lone], atol=1e-12)
    # FPR95: of the thresholds that keep 95 % of the inliers, the lowest
    kept = np.quantile(scores[:300], 0.95, method="inverted_cdf")
    assert result.fpr95.value == pytest.approx((scores[300:] <= kept).mean())


def test_max_softmax_is_one_minus_torchs() -> None:
    logits = torch.randn(200, 10, generator=torch.Generator().manual_seed(0)) * 4
    e = Embedding(logits, None)
    expected = 1 - logits.double().softmax(1).amax(1)
    torch.testing.assert_close(MaxSoftmax().fit(e).score(e), expected, rtol=1e-9, atol=1e-12)
